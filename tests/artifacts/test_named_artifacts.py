"""Promises of `airflow_zen.artifacts.named_artifacts`."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from airflow_zen.artifacts.named_artifacts import VersionIndex
from airflow_zen.artifacts.ref import ArtifactRef, version_path
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.errors import ArtifactNameError, ArtifactNotFound
from airflow_zen.transports import open_transport
from airflow_zen.transports.fsspec import FsspecTransport
from tests.servers.flaky import flaky

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()


@pytest.fixture(params=["local", "obstore", "fsspec"])
def names(request, tmp_path):
    """Names on a local root, and on Ceph through each transport."""
    if request.param == "local":
        root, options = str(tmp_path / "root"), {}
    else:
        server = request.getfixturevalue("ceph")
        root = f"s3://{server.bucket}/names-{os.getpid()}-{request.node.name.replace('[', '-').rstrip(']')}"
        options = server.storage_options()
    transport = FsspecTransport(root, options) if request.param == "fsspec" else open_transport(root, options)
    return VersionIndex(ArtifactStore(root, transport))


def ref(content, names):
    digest = f"{content:02x}" * 32
    uri = f"{names._store.root}/artifacts/{digest[:2]}/{digest}"
    return ArtifactRef(digest, uri, "python.json@1", "builtins.int", 1, cached=True, origin="d/r0/t/-1/1")


def add(names, content, created, name="features", **more):
    return names.add(name, ref(content, names), created, **more)


def contents(versions):
    return [version.ref.digest[:2] for version in versions]


def test_the_newest_content_is_the_newest_version(names):
    """New content becomes the newest version; content that is the newest already makes none."""
    first = add(names, 1, NOON, origin="d/r1/t/-1/1", dag_run="d/r1")
    again = add(names, 1, NOON + 60, origin="d/r2/t/-1/1")
    second = add(names, 2, NOON + 120)
    assert (first.changed, again.changed, second.changed) == (True, False, True)
    assert first.version == again.version == "2026-11-24T12:00:00.000Z"
    newest = names.get("features")
    assert (newest.version, newest.ref.digest, newest.ref.name) == (second.version, "02" * 32, "features")
    assert contents(names.versions("features")) == ["02", "01"]
    oldest = names.versions("features")[-1]
    assert (oldest.origin, oldest.dag_run, oldest.ref.cached, oldest.ref.origin) == ("d/r1/t/-1/1", "d/r1", False, "")


def test_content_that_returns_is_a_version(names):
    """Content that returns after other content makes a new version."""
    made = [add(names, content, NOON + at) for at, content in enumerate([1, 2, 1])]
    assert all(version.changed for version in made)
    assert contents(names.versions("features")) == ["01", "02", "01"]


def test_versions_are_selected(names):
    """'latest', a label, the start of a digest, a tag, and a date or time select a version."""
    labels = [add(names, content, NOON + 3600 * content).version for content in (1, 2, 3)]
    names.tag("features", "020202", "golden")

    def found(version):
        return names.get("features", version).ref.digest[:2]

    assert found("latest") == found(labels[2]) == found("2026-11-24") == found("2026-12-01") == "03"
    assert found(labels[1]) == found("02" * 3) == found("02" * 32) == found("golden") == "02"
    assert found("2026-11-24T14:59:59Z") == found("2026-11-24T15:30+01:00") == "02"
    assert found(datetime(2026, 11, 24, 13, 0)) == found(datetime.fromtimestamp(NOON + 3600, UTC)) == "01"


@pytest.mark.parametrize(
    "version", ["040404", "02" * 31 + "00", "silver", "2026-11-24T12:59", "2026-11-23", "2026-11-24T14:30:00.000Z"]
)
def test_a_missing_version_is_an_error(names, version):
    """A version that does not exist is an error that names the newest one."""
    add(names, 2, NOON + 3600)
    with pytest.raises(ArtifactNotFound, match=r"has no version .*newest is '2026-11-24T13:00:00.000Z'"):
        names.get("features", version)


def test_an_unknown_name_is_an_error(names):
    """An unknown name is an error; for a mapped step it names an instance."""
    with pytest.raises(ArtifactNotFound, match="No artifact is named 'd/t' here. See"):
        names.get("d/t")
    add(names, 1, NOON, "d/t[3]")
    with pytest.raises(ArtifactNotFound, match=r"Its step is mapped: use 'd/t\[0\]'"):
        names.get("d/t")


def test_a_clock_that_is_behind(names):
    """A worker whose clock is behind still makes the newest version."""
    add(names, 1, NOON)
    made = add(names, 2, NOON - 300)
    assert made.version == "2026-11-24T12:00:00.001Z"
    assert names.get("features").ref.digest[:2] == "02"


def test_tags_are_listed_and_removed(names):
    """A tag may mark versions of several names, is listed, and can be removed."""
    add(names, 1, NOON, tags=["golden"])
    add(names, 2, NOON + 1)
    add(names, 3, NOON, "flights/model", tags=["golden", "eu"])
    golden = names.list_tags("golden")
    assert {(mark.tag, mark.version) for mark in golden} == {("golden", "2026-11-24T12:00:00.000Z")}
    assert [names.read(mark.key).name for mark in golden] == ["features", "flights/model"]
    assert sorted(mark.tag for mark in names.list_tags(name="flights/model")) == ["eu", "golden"]
    assert names.read(names.list_tags("golden")[0].key).tags == ("golden",)
    names.untag("features", "golden", "golden")
    assert [names.read(mark.key).name for mark in names.list_tags("golden")] == ["flights/model"]
    assert names.get("features", "2026-11-24T12:00:00.000Z").ref.digest[:2] == "01"
    with pytest.raises(ArtifactNameError):
        names.tag("features", "latest", "abcdef")


def test_saving_again_adds_tags(names):
    """Saving content that is the newest already adds its tags."""
    add(names, 1, NOON)
    assert not add(names, 1, NOON + 1, tags=["golden"]).changed
    assert names.get("features", "golden").ref.digest[:2] == "01"


def test_names_are_listed_with_their_newest(names):
    """All names, or those with a prefix, are listed in order with the newest version of each."""
    for at, name in enumerate(["flights/b", "flights/a", "weather", "flights.x"]):
        add(names, at, NOON, name)
        add(names, at + 100, NOON + 1, name)
    found = names.newest_versions()
    assert [version.name for version in found] == ["flights.x", "flights/a", "flights/b", "weather"]
    assert all(int(version.ref.digest[:2], 16) >= 100 for version in found)
    assert [version.name for version in names.newest_versions("flights/")] == ["flights/a", "flights/b"]


def test_long_names_come_back(names):
    """A name too long for a folder is listed in full."""
    name = "d" * 200 + "/" + "t" * 200
    add(names, 1, NOON, name)
    assert [version.name for version in names.newest_versions()] == [name]
    assert names.get(name).ref.digest[:2] == "01"


def test_nothing_is_lost_when_many_write_at_once(names):
    """Of 16 concurrent versions of one name none is lost."""
    start = threading.Barrier(16)

    def write(content):
        start.wait()
        return add(names, content, NOON)

    with ThreadPoolExecutor(16) as pool:
        assert all(made.changed for made in pool.map(write, range(16)))
    assert sorted(contents(names.versions("features"))) == [f"{content:02x}" for content in range(16)]


def key_of(countdown, number):
    return f"names/features/versions/{version_path(f'{countdown}-{number:016x}.json')}"


@pytest.mark.parametrize("kind", ["obstore", "fsspec"])
def test_one_request_however_many_versions(ceph, kind):
    """Among 3000 versions the newest, one before a time, and one tagged are each found with one request."""
    root = f"s3://{ceph.bucket}/many-{kind}-{os.getpid()}"
    with flaky(urlsplit(ceph.endpoint).port) as proxy:
        options = ceph.storage_options()
        options["client_kwargs"]["endpoint_url"] = proxy.uri
        transport = FsspecTransport(root, options) if kind == "fsspec" else open_transport(root, options)
        names = VersionIndex(ArtifactStore(root, transport))
        direct = open_transport(root, ceph.storage_options())
        with ThreadPoolExecutor(16) as pool:
            keys = [key_of(8_204_478_000_000 + n, n) for n in range(3000)]
            list(pool.map(lambda key: direct.write(key, b"{}"), keys))
        names.find_key("features")
        names.tag("features", "000000000000000", "golden")
        for version, number in [("latest", 0), ("2026-11-24T12:06:39Z", 999), ("golden", 0)]:
            proxy.requests = 0
            assert names.find_key("features", version) == keys[number]
            assert proxy.requests == 1
        proxy.requests = 0
        assert add(names, 1, NOON + 3600).changed
        assert proxy.requests == 2
        assert not add(names, 1, NOON + 7200).changed
        assert proxy.requests == 3


def test_one_request_for_the_newest_on_azure(azure):
    """On Azure the newest and a tagged version are found with one request each, whose response has one key."""
    root = f"{azure.root}/many-{os.getpid()}"
    with flaky(urlsplit(azure.endpoint).port) as proxy:
        held = azure.connection_string.replace(azure.endpoint, f"{proxy.uri}/{azure.account}")
        names = VersionIndex(ArtifactStore(root, FsspecTransport(root, {"connection_string": held})))
        direct = open_transport(root, azure.storage_options())
        keys = [key_of(8_204_478_000_000 + n * 1000, n) for n in range(60)]
        for key in keys:
            direct.write(key, b"{}")
        names.tag("features", "000000000000000", "golden")
        for version in ("latest", "golden"):
            proxy.requests = proxy.answered = 0
            assert names.find_key("features", version) == keys[0]
            assert proxy.requests == 1
            assert proxy.answered < 2500
        proxy.requests = 0
        assert names.find_key("features", "2026-11-24T12:06:10Z") == keys[30]
        assert proxy.requests == 1
        with pytest.raises(ArtifactNotFound):
            names.find_key("nobody")


def test_few_entries_are_looked_at_on_a_filesystem(tmp_path, monkeypatch):
    """Among 3000 versions of a local root the newest, and one before a time, are found in folders of few entries."""
    root = str(tmp_path / "root")
    names = VersionIndex(ArtifactStore(root, open_transport(root, {})))
    keys = [key_of(8_204_478_000_000 + n * 60_000, n) for n in range(3000)]
    for key in keys:
        path = tmp_path / "root" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    seen, scandir = [], os.scandir

    @contextmanager
    def counting(folder):
        with scandir(folder) as found:
            yield (seen.append(entry) or entry for entry in found)

    monkeypatch.setattr(os, "scandir", counting)
    for version, number in [("latest", 0), ("2026-11-23T12:06:39Z", 1441)]:
        seen.clear()
        assert names.find_key("features", version) == keys[number]
        assert len(seen) < 250, len(seen)
