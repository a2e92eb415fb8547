"""Promises of timeouts: a store that is stuck or full ends a step, a slow one does not."""

from http import HTTPStatus

import pytest
from blake3 import blake3

from airflow_zen.errors import StoreUnavailable
from airflow_zen.transports.fsspec import FsspecTransport
from airflow_zen.transports.obstore import ObstoreTransport, to_obstore_settings
from airflow_zen.transports.timeouts import Timeouts
from tests.servers.stuck_store import answering, resetting, silent, slow

# What would hang would do so for ever.
pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = "s3://bucket/root"
SIZE = 15 * 1024 * 1024
# What is asked answers for certain, or for certain does not: a busy machine is not taken for either.
SILENT = Timeouts(connect=10, read=0.1, write=1, retry=1)
REFUSING = Timeouts(connect=30, read=30, write=30, retry=1)
# Bodies take half as long again as an answer may, and move every few milliseconds.
SLOW = Timeouts(connect=30, read=2.5, write=60, retry=60)


@pytest.fixture(params=["obstore", "s3fs"])
def opened(request):
    """Return a transport to a server, with its own timeouts."""

    def open_at(url, timeouts):
        options = {"key": "a", "secret": "b", "client_kwargs": {"endpoint_url": url, "region_name": "us-east-1"}}
        if request.param == "s3fs":
            return FsspecTransport(ROOT, options, timeouts=timeouts)
        return ObstoreTransport(ROOT, to_obstore_settings("s3", ROOT, options, {}), timeouts=timeouts)

    return open_at


@pytest.fixture
def directory(tmp_path):
    """Files of an artifact, one of them large, and more of them than there are threads."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "large").write_bytes(b"x" * SIZE)
    for number in range(30):
        (files / f"{number}").write_bytes(b"x")
    (files / "manifest.json").write_bytes(b"{}")
    return files


def test_a_store_that_never_answers(opened, directory):
    """Reading from, or writing to, a store that never answers ends with an error that says what to check."""
    with silent() as url:
        transport = opened(url, SILENT)
        with pytest.raises(StoreUnavailable, match=f"store of {ROOT} did not answer in time. Check whether it hangs"):
            transport.read("key")
        with pytest.raises(StoreUnavailable, match="did not answer in time"):
            transport.publish(directory, "artifact", "manifest.json")


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (HTTPStatus.INSUFFICIENT_STORAGE, "has no space left for s3://bucket/root .*artifacts prune"),
        (HTTPStatus.SERVICE_UNAVAILABLE, "answered every attempt with a server error .*overloaded, full or restarting"),
    ],
)
def test_a_full_or_unavailable_store(opened, directory, status, told):
    """A store that keeps answering that it is full or unavailable ends the step with that error."""
    with answering(status) as url, pytest.raises(StoreUnavailable, match=told):
        opened(url, REFUSING).publish(directory, "artifact", "manifest.json")


def test_a_store_that_drops_every_connection(opened, directory):
    """A store that resets every connection ends the step with one line, also in the traceback."""
    with resetting() as url:
        transport = opened(url, REFUSING)
        for request in (lambda: transport.read("key"), lambda: transport.publish(directory, "a", "manifest.json")):
            with pytest.raises(StoreUnavailable, match="cannot be reached, or drops every connection") as raised:
                request()
            assert len(str(raised.value).splitlines()) == 1
            assert len(str(raised.value.__cause__).splitlines()) == 1


def test_a_slow_store(opened, directory):
    """A file may take longer than the read timeout, in both directions, while bytes move."""
    (directory / "alone").mkdir()
    (directory / "large").rename(directory / "alone" / "large")
    (directory / "manifest.json").rename(directory / "alone" / "manifest.json")
    with slow(SIZE, 1.5 * SLOW.read) as url:
        transport = opened(url, SLOW)
        transport.publish(directory / "alone", "artifact", "manifest.json")
        arrived = transport.download("artifact/large", directory / "arrived")
    assert arrived == f"blake3:{blake3(b'x' * SIZE).hexdigest()}"
