"""Promises of `airflow_zen.transports.read_cache`."""

import multiprocessing
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from blake3 import blake3

from airflow_zen.artifacts.hashing import hash_hex
from airflow_zen.artifacts.ref import ArtifactFile
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import ArtifactCorrupt, ArtifactRefused, SettingsError
from airflow_zen.transports import open_transport
from airflow_zen.transports.read_cache import ReadCache
from tests.advice import advice_of
from tests.servers.moto import moto

START = multiprocessing.get_context("spawn")


def described(content: bytes) -> ArtifactFile:
    return ArtifactFile("a", len(content), f"blake3:{blake3(content).hexdigest()}")


def fetch(cache, content, target, log, *, private=False):
    def download(path):
        log.append(path)
        path.write_bytes(content)

    cache.fetch(described(content), target, download, private=private)
    assert target.read_bytes() == content


def test_second_reader_downloads_nothing(tmp_path):
    """A file is downloaded once, and all readers share it, read-only."""
    cache, log = ReadCache(tmp_path / "cache", 1000), []
    fetch(cache, b"x" * 10, tmp_path / "one", log)
    fetch(ReadCache(tmp_path / "cache", 1000), b"x" * 10, tmp_path / "two", log)
    assert len(log) == 1
    assert (tmp_path / "one").samefile(tmp_path / "two")
    assert (tmp_path / "one").stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_directory_that_others_may_write_is_refused(tmp_path, mode):
    """What lies in a directory that other users may write is not read as verified; after the advice it is used."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    with pytest.raises(SettingsError, match="can be written by other users") as refused:
        ReadCache(tmp_path / "cache", 1000)
    subprocess.run(str(refused.value).partition("Run: ")[2].rstrip(".").split(), check=True)
    fetch(ReadCache(tmp_path / "cache", 1000), b"x" * 10, tmp_path / "one", [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory to another user")
def test_a_directory_of_another_user_is_refused(tmp_path):
    """A directory of another user is refused, with both user ids."""
    (tmp_path / "cache").mkdir(mode=0o700)
    os.chown(tmp_path / "cache", 65534, -1)
    with pytest.raises(SettingsError, match="belongs to the user id 65534, and this process is 0"):
        ReadCache(tmp_path / "cache", 1000)


def test_a_new_directory_is_the_owners_only(tmp_path):
    """A directory that the cache creates is closed to others, whatever the umask."""
    before = os.umask(0)
    try:
        ReadCache(tmp_path / "cache", 1000)
    finally:
        os.umask(before)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_own_copy_may_be_written(tmp_path):
    """User code gets copies of files, so that its writes do not reach the cache."""
    cache, log = ReadCache(tmp_path / "cache", 1000), []
    fetch(cache, b"x" * 10, tmp_path / "one", log, private=True)
    (tmp_path / "one").write_bytes(b"mine")
    fetch(cache, b"x" * 10, tmp_path / "two", log, private=True)
    assert len(log) == 1


def test_least_recently_used_is_evicted_first(tmp_path):
    """The cache stays within its size: the least recently used files are evicted, and readers keep theirs."""
    cache, log = ReadCache(tmp_path / "cache", 25), []
    contents = [bytes([n]) * 10 for n in range(3)]
    for age, content in enumerate(contents[:2]):
        fetch(cache, content, tmp_path / f"f{age}", log)
        path = tmp_path / "cache" / hash_hex(described(content).hash)[:2] / hash_hex(described(content).hash)
        os.utime(path, (age, age))
    fetch(cache, contents[0], tmp_path / "again", log)
    fetch(cache, contents[2], tmp_path / "f2", log)
    kept = [path.name for path in (tmp_path / "cache").glob("??/*")]
    assert sorted(kept) == sorted(hash_hex(described(content).hash) for content in (contents[0], contents[2]))
    assert (tmp_path / "f1").read_bytes() == contents[1]
    assert len(log) == 3


def test_small_files_do_not_each_cause_an_eviction(tmp_path, monkeypatch):
    """The cache is listed once for each hundredth of its size that processes add, and stays within its size."""
    looks, keep = [], ReadCache.evict
    monkeypatch.setattr(ReadCache, "evict", lambda cache: (looks.append(1), keep(cache)))
    for number in range(300):
        fetch(ReadCache(tmp_path / "cache", 2000), number.to_bytes(10, "big"), tmp_path / f"f{number}", [])
        (tmp_path / f"f{number}").unlink()
        assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("??/*")) <= 2000
    assert len(looks) == 150


def test_file_larger_than_the_cache_is_not_kept(tmp_path):
    """A file larger than the cache is downloaded directly to its reader."""
    cache, log = ReadCache(tmp_path / "cache", 5), []
    fetch(cache, b"x" * 10, tmp_path / "one", log)
    assert log == [tmp_path / "one"]
    assert not list((tmp_path / "cache").glob("??/*"))


def test_no_path_outside_the_cache_is_read_or_removed(tmp_path):
    """A hash that is a path reaches no file outside the cache, even if the ref accepted it."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    forged = described(b"x")
    object.__setattr__(forged, "hash", str(victim))
    cache = ReadCache(tmp_path / "cache", 1000)
    with pytest.raises(ArtifactRefused, match=r"has no hash, .*Run its step again\."):
        cache.fetch(forged, tmp_path / "target", lambda path: path.write_text("x"))
    assert victim.read_text() == "precious"
    assert not (tmp_path / "target").exists()
    # What a step that ran again returns.
    fetch(cache, b"x", tmp_path / "target", [])


def test_refused_bytes_are_not_kept(tmp_path):
    """A download that fails its verification is not kept."""
    cache = ReadCache(tmp_path / "cache", 1000)

    def download(path):
        path.write_bytes(b"bad")
        raise ArtifactCorrupt("bad")

    with pytest.raises(ArtifactCorrupt):
        cache.fetch(described(b"good"), tmp_path / "one", download)
    fetch(cache, b"good", tmp_path / "two", [])


def test_file_from_before_the_machine_started_is_verified_again(tmp_path, monkeypatch):
    """A file from before the last boot is verified again before it is used."""
    cache, log = ReadCache(tmp_path / "cache", 1000), []
    fetch(cache, b"x" * 10, tmp_path / "one", log)
    kept = next((tmp_path / "cache").glob("??/*"))
    kept.chmod(0o644)
    kept.write_bytes(b"\0" * 10)
    monkeypatch.setattr(time, "clock_gettime", lambda _: -60.0)
    fetch(cache, b"x" * 10, tmp_path / "two", log)
    assert len(log) == 2


def _slow(directory: str, target: str, started: str) -> None:
    def download(path: Path) -> None:
        path.write_bytes(b"x" * 5)
        Path(started).touch()
        time.sleep(60)

    ReadCache(Path(directory), 1000).fetch(described(b"x" * 10), Path(target), download)


def test_killed_process_leaves_no_lock(tmp_path):
    """A process that is killed during a download leaves no lock, and its files are removed later."""
    cache = ReadCache(tmp_path / "cache", 1000)
    process = START.Process(target=_slow, args=(str(cache.directory), str(tmp_path / "one"), str(tmp_path / "started")))
    process.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (left,) = (cache.directory / "lent").glob("*/*")
    fetch(cache, b"x" * 10, tmp_path / "two", [])
    assert not left.parent.exists()


def test_directory_that_cannot_be_written_names_the_option(tmp_path, monkeypatch):
    """A cache directory that cannot be made names its setting; another one is used, and none at all is no error."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", "s3://bucket/zen")

    def scratch_with(directory):
        monkeypatch.setenv("AIRFLOW__ZEN__LOCAL_CACHE_DIR", directory)
        return open_stack().store.temporary_directory()

    advice_of(
        lambda: scratch_with(f"{tmp_path}/file"),
        r"\[zen\] local_cache_dir .*file' cannot be written: .*\. Choose another, or leave it empty\.",
    )
    assert scratch_with(f"{tmp_path}/another").is_relative_to(tmp_path / "another")
    assert not scratch_with("").is_relative_to(tmp_path)


def _read(root, options, cache, wire, target) -> None:
    from airflow_zen.artifacts.ref import ArtifactRef

    store = ArtifactStore(root, open_transport(root, options), ReadCache(Path(cache), 1 << 30))
    directory = store.get(ArtifactRef.from_wire(wire), store.temporary_directory())
    Path(target).write_bytes((directory / "large.bin").read_bytes())


def test_tasks_that_need_the_same_artifact_download_it_once(tmp_path):
    """Four processes that read one artifact of an S3 root at the same time send one GET for its file."""
    content = os.urandom(5_000_000)
    with moto(tmp_path) as server:
        store = ArtifactStore(server.root, open_transport(server.root, server.storage_options()))
        with store.upload_directory() as directory:
            (directory / "large.bin").write_bytes(content)
            ref = store.put(directory, encoding="e@1", type_name="t", libraries={}, summary={})
        arguments = (server.root, server.storage_options(), str(tmp_path / "cache"), ref.to_wire())
        processes = [START.Process(target=_read, args=(*arguments, str(tmp_path / f"read{n}"))) for n in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        log = (tmp_path / "moto.out").read_text("utf-8", "replace")
    assert [(tmp_path / f"read{n}").read_bytes() == content for n in range(4)] == [True] * 4
    assert len(re.findall(r'"GET /\S*large.bin', log)) == 1


def test_local_root_needs_no_cache(tmp_path):
    """A local root does not use the cache."""
    root = str(tmp_path / "root")
    store = ArtifactStore(root, open_transport(root, {}), ReadCache(tmp_path / "cache", 1000))
    with store.upload_directory() as directory:
        (directory / "a").write_bytes(b"a")
        ref = store.put(directory, encoding="e@1", type_name="t", libraries={}, summary={})
    assert store.get(ref, store.temporary_directory()).is_relative_to(root)
    assert not list((tmp_path / "cache").glob("??/*"))
