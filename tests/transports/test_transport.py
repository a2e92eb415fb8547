"""Promises that every transport keeps, each on a real store."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from blake3 import blake3
from fsspec.registry import known_implementations

from airflow_zen.errors import AlreadyExists, ArtifactNotFound, SettingsError
from airflow_zen.transports import open_transport
from airflow_zen.transports.base import key_of_url, normalize_root
from airflow_zen.transports.fsspec import FsspecTransport
from airflow_zen.transports.local import LocalTransport
from airflow_zen.transports.obstore import ObstoreTransport, to_obstore_settings
from tests.advice import advice_of, libraries_of_extra


def _remote(server, kind, request):
    root = f"{server.root}/{request.node.name.replace('[', '-').rstrip(']')}-{os.getpid()}"
    if kind == "fsspec":
        return FsspecTransport(root, server.storage_options())
    transport = open_transport(root, server.storage_options())
    assert isinstance(transport, ObstoreTransport)
    return transport


STORES = [
    "fsspec-ceph",
    "obstore-ceph",
    "fsspec-moto",
    "obstore-moto",
    "fsspec-azure",
    "obstore-azure",
    "fsspec-google",
]


@pytest.fixture(params=["local", *STORES])
def transport(request, tmp_path):
    """Each transport on each store that honours conditional writes."""
    if request.param == "local":
        return open_transport(str(tmp_path / "root"), {})
    kind, server = request.param.split("-")
    return _remote(request.getfixturevalue(server), kind, request)


def test_reads_what_was_written(transport):
    """Bytes come back as they were, and a second write replaces them."""
    transport.write("a/b.bin", b"\x00one")
    transport.write("a/b.bin", b"two")
    assert transport.read("a/b.bin") == b"two"


def test_missing_key(transport, tmp_path):
    """A missing key does not exist, and reading it is `ArtifactNotFound`."""
    with pytest.raises(ArtifactNotFound):
        transport.read("no/such")
    with pytest.raises(ArtifactNotFound):
        transport.download("no/such", tmp_path / "file")
    assert not transport.exists("no/such")


def test_create_lets_one_of_many_win(transport):
    """Of 16 concurrent creations of a key exactly one succeeds, and its bytes stay."""
    start = threading.Barrier(16)

    def create(number):
        start.wait()
        try:
            transport.create("claims/one", str(number).encode())
        except AlreadyExists:
            return None
        return number

    with ThreadPoolExecutor(16) as pool:
        winners = [number for number in pool.map(create, range(16)) if number is not None]
    assert len(winners) == 1
    assert transport.read("claims/one") == str(winners[0]).encode()


def test_publishes_a_directory(transport, tmp_path):
    """A published directory is complete, with nested files."""
    staged = (transport.scratch_directory or tmp_path) / "staged"
    (staged / "deep").mkdir(parents=True)
    (staged / "deep" / "x.bin").write_bytes(b"x" * 100_000)
    (staged / "manifest.json").write_text("{}")
    transport.publish(staged, "artifacts/ab/abc", last="manifest.json")
    assert list(transport.list("artifacts")) == ["artifacts/ab/abc/deep/x.bin", "artifacts/ab/abc/manifest.json"]
    transport.download("artifacts/ab/abc/deep/x.bin", tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == b"x" * 100_000


def test_large_object(transport, tmp_path):
    """An object of several parts comes back as it was."""
    staged = (transport.scratch_directory or tmp_path) / "staged"
    staged.mkdir()
    content = os.urandom(20 * 1024 * 1024)
    (staged / "big.bin").write_bytes(content)
    (staged / "manifest.json").write_text("{}")
    transport.publish(staged, "artifacts/cd/cde", last="manifest.json")
    transport.download("artifacts/cd/cde/big.bin", tmp_path / "big.bin")
    assert (tmp_path / "big.bin").read_bytes() == content


# The peak is known for a process as a whole, so it does nothing else. (That of getrusage counts its parent's too.)
MOVE = """
import json, sys
from pathlib import Path
from airflow_zen.transports import open_transport
from airflow_zen.transports.fsspec import FsspecTransport

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

kind, root, options, folder = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), Path(sys.argv[4])
opened = FsspecTransport(root, options) if kind == "fsspec" else open_transport(root, options)
opened.write("warm", b"x")
Path("/proc/self/clear_refs").write_text("5")
before = peak()
opened.publish(folder / "staged", "artifacts/ef/efg", last="manifest.json")
opened.download("artifacts/ef/efg/big.bin", folder / "big.bin")
print(type(opened).__name__, peak() - before)
"""


@pytest.mark.parametrize("kind", ["fsspec", "obstore"])
def test_a_large_file_passes_through_little_memory(kind, ceph, tmp_path):
    """A file of 320 MB goes to S3 and comes back through less than half of that in memory."""
    size = 320 * 1024 * 1024
    (tmp_path / "staged").mkdir()
    with (tmp_path / "staged" / "big.bin").open("wb") as file:
        file.truncate(size)
    (tmp_path / "staged" / "manifest.json").write_text("{}")
    root, options = f"{ceph.root}/large-{kind}-{os.getpid()}", json.dumps(ceph.storage_options())
    command = [sys.executable, "-c", MOVE, kind, root, options, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    name, peak = done.stdout.split()
    assert name == {"fsspec": "FsspecTransport", "obstore": "ObstoreTransport"}[kind]
    assert (tmp_path / "big.bin").stat().st_size == size
    assert 0 < int(peak) < size / 2
    open_transport(root, ceph.storage_options()).delete(["artifacts/ef/efg/big.bin"])


def test_copies_within_the_root(transport):
    """Objects are copied to another address under the root without passing through this process."""
    transport.write("artifacts/ab/MLmodel", b"flavors")
    transport.copy("artifacts/ab", f"{transport.root}/mlflow/1/models/m-1/artifacts", ["MLmodel"])
    assert transport.read("mlflow/1/models/m-1/artifacts/MLmodel") == b"flavors"
    with pytest.raises(SettingsError, match="is not under"):
        transport.copy("artifacts/ab", "s3://elsewhere/x", ["MLmodel"])


def test_lists_in_order_and_deletes(transport):
    """Keys come in lexicographic order; deleting twice is no error."""
    for name in ("b", "a", "c/d"):
        transport.write(f"runs/{name}", b"1")
    assert list(transport.list("runs")) == ["runs/a", "runs/b", "runs/c/d"]
    transport.delete(["runs/a", "runs/c/d"])
    transport.delete(["runs/a", "runs/b"])
    transport.delete([])
    assert list(transport.list("runs")) == []
    assert list(transport.list("nothing")) == []
    transport.write("file", b"1")
    assert list(transport.list("file")) == list(transport.list_objects("file")) == []


def test_rclone_moves_bytes_but_overwrites(rclone, request, tmp_path):
    """A store that ignores conditional writes is still a store."""
    transport = _remote(rclone, "fsspec", request)
    transport.create("one", b"1")
    transport.create("one", b"2")
    assert transport.read("one") == b"2"


def test_local_publish_is_one_rename_and_read_only(tmp_path):
    """A published directory appears at once, read-only; a second one replaces its files, and keeps its own."""
    transport = LocalTransport(str(tmp_path / "root"))
    for content in ("first", "second"):
        staged = transport.scratch_directory / content
        staged.mkdir()
        (staged / "manifest.json").write_text(content)
        transport.publish(staged, "artifacts/ab/abc", last="manifest.json")
    published = tmp_path / "root" / "artifacts" / "ab" / "abc" / "manifest.json"
    assert published.read_text() == "second"
    assert (staged / "manifest.json").read_text() == "second"
    assert published.stat().st_mode & 0o222 == 0


def test_obstore_is_not_used_after_a_fork(ceph):
    """In a child forked after obstore was used, its transport is refused, and a new one works instead of hanging."""
    root = f"s3://{ceph.bucket}/fork-{os.getpid()}"
    opened = open_transport(root, ceph.storage_options())
    opened.write("x", b"parent")
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            advice_of(lambda: opened.read("x"), r"cannot be used after it; open a new (Stack)\.$")
            os._exit(_read_anew(root, ceph))
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _read_anew(root, ceph):
    transport = open_transport(root, ceph.storage_options())
    return int(not isinstance(transport, FsspecTransport) or transport.read("x") != b"parent")


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ({}, {}),
        ({}, {"AWS_PROFILE": "work", "AWS_ACCESS_KEY_ID": "x"}),
        ({"key": "a", "secret": "b", "requester_pays": True}, {}),
        ({"key": "a", "client_kwargs": {"use_ssl": False}}, {}),
        ({"key": "a", "config_kwargs": {"proxies": {}}}, {}),
        ({"key": "a", "s3_additional_kwargs": {"ACL": "private"}}, {}),
    ],
)
def test_unknown_options_are_left_to_s3fs(options, environment):
    """Options or credentials that obstore does not have are left to s3fs."""
    assert to_obstore_settings("s3", "s3://bucket", options, environment) is None


def test_secrets_are_not_shown(ceph):
    """No repr of the settings shows a secret."""
    settings = to_obstore_settings("s3", "s3://bucket", {"key": "id", "secret": "hush"}, {})
    assert settings is not None
    assert "hush" not in repr(settings)


@pytest.mark.parametrize("root", ["", "  "])
def test_empty_root_names_the_setting(root):
    """An empty root says which option to set."""
    with pytest.raises(SettingsError, match=r"\[zen\] artifact_root"):
        normalize_root(root)


def test_unknown_scheme_names_the_remedy():
    """A root whose filesystem is not installed is an error; each extra that it names has the filesystem of a scheme."""
    extras = advice_of(
        lambda: open_transport("nosuch://bucket/x", {}),
        r"Install the filesystem of its scheme, for example airflow-provider-zen\[(\w+)\], \[(\w+)\] or \[(\w+)\]\.",
    )
    for extra, scheme in zip(extras, ("s3", "gs", "az"), strict=True):
        module = known_implementations[scheme]["class"].partition(".")[0]
        assert module in libraries_of_extra(extra)


def test_roots_have_one_form(tmp_path):
    """Different spellings of a root are normalized to one."""
    assert normalize_root(f"file://{tmp_path}/") == normalize_root(str(tmp_path)) == str(tmp_path)
    assert normalize_root("s3://bucket/x/") == "s3://bucket/x"


@pytest.mark.parametrize("url", ["s3://b/other/x", "s3://b/root/../x", "s3://b/rootless/x"])
def test_relative_key_stays_inside(url):
    """An address outside the root, however it is spelled, is refused."""
    with pytest.raises(SettingsError):
        key_of_url("s3://b/root", url)


def test_lists_objects_with_sizes_and_times(transport):
    """`list_objects` yields the keys of `list`, in order, with sizes and times."""
    begun = time.time()
    for key in ("a/b.json", "a/b/c", "a/b-c", "d"):
        transport.write(f"top/{key}", key.encode())
    found = list(transport.list_objects("top"))
    assert [each.key for each in found] == list(transport.list("top")) == sorted(each.key for each in found)
    assert [each.size for each in found] == [len(each.key) - len("top/") for each in found]
    assert all(begun - 5 < each.modified < time.time() + 5 for each in found)
    assert not list(transport.list_objects("nowhere"))


def test_first_key(transport):
    """The first key of a folder, and the first after another, are found at any depth; else None."""
    for name in ("m", "b", "c/d", "c.e", "b-c"):
        transport.write(f"names/{name}", b"1")
    transport.write("namesake/a", b"1")
    assert transport.first_key("names") == "names/b"
    assert transport.first_key("names", after="names/b") == "names/b-c"
    assert transport.first_key("names", after="names/c") == "names/c.e"
    assert transport.first_key("names", after="names/c.e") == "names/c/d"
    assert transport.first_key("names", after="names/c/d") == "names/m"
    assert transport.first_key("names", after="names/m") is None
    assert transport.first_key("none") is None
    assert transport.first_key("names/c") == "names/c/d"


def test_list_prefixes(transport):
    """The folders in a folder are listed in order, and files are not."""
    for name in ("b/x/1", "a/2", "a/3", "c"):
        transport.write(f"names/{name}", b"1")
    assert list(transport.list_prefixes("names")) == ["a", "b"]
    assert list(transport.list_prefixes("nothing")) == []


def test_checksum(transport):
    """`checksum` returns size and hash of an object without a copy; a missing one is an error."""
    content = os.urandom(3_000_000)
    transport.write("raw/a.bin", content)
    assert transport.checksum("raw/a.bin") == (3_000_000, f"blake3:{blake3(content).hexdigest()}")
    with pytest.raises(ArtifactNotFound):
        transport.checksum("raw/none")
