"""Promises of `airflow_zen.transports.local` beyond those of every transport."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from airflow_zen.artifacts.hashing import file_hash
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.transports import local, open_transport
from airflow_zen.transports.local import own_copy
from tests.advice import advice_of

OTHER_USER, GROUP = 12_345, 23_456
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def put(store, content=b"content"):
    with store.upload_directory() as directory:
        (directory / "deep").mkdir()
        for name in ("deep/a.bin", "run.sh"):
            (directory / name).write_bytes(content)
        (directory / "run.sh").chmod(0o755)
        return store.put(directory, encoding="test@1", type_name="t", libraries={}, summary={})


def store_at(root, **options):
    return ArtifactStore(root, open_transport(root, {}, **options))


@pytest.fixture
def events(monkeypatch, tmp_path):
    """The files that are written to the disk, and the renames and folders below the root, in their order."""
    found, fsync, rename, mkdir = [], os.fsync, os.rename, os.mkdir
    root = str(tmp_path / "root")

    def recorded(kind, path):
        name = os.fspath(path).removeprefix(root)
        if os.fspath(path).startswith(root):
            found.append((kind, name.partition("/artifact-")[2].partition("/")[2] if "/artifact-" in name else name))

    monkeypatch.setattr(os, "fsync", lambda fd: (recorded("sync", os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])
    monkeypatch.setattr(os, "rename", lambda old, new: (rename(old, new), recorded("rename", new))[0])
    monkeypatch.setattr(os, "mkdir", lambda path, *mode: (mkdir(path, *mode), recorded("mkdir", path))[0])
    return found


def test_an_artifact_survives_a_power_loss(tmp_path, events):
    """Each file and folder is on the disk before the rename that publishes the artifact."""
    ref = put(store_at(str(tmp_path / "root"), sync_to_disk=True))
    prefix = f"/artifacts/{ref.digest[:2]}/{ref.digest}"
    published = events.index(("rename", prefix))
    before = {name for kind, name in events[:published] if kind == "sync"}
    assert before == {"deep/a.bin", "deep", "run.sh", "manifest.json", ""}


@pytest.mark.parametrize(
    ("key", "is_synced"),
    [("runs/d/r/steps/t/-1.1.json", True), ("names/n/versions/x.json", True), ("cache/ab/x.json", False)],
    ids=["record", "version", "cache entry"],
)
def test_a_record_survives_a_power_loss(tmp_path, events, key, is_synced):
    """Records and versions are on the disk before they have their name, and with a record's name all that was before.

    A lost cache entry only costs a computation.
    """
    open_transport(str(tmp_path / "root"), {}, sync_to_disk=True).write(key, b"x")
    renamed = events.index(("rename", f"/{key}"))
    before = [name for kind, name in events[:renamed] if kind == "sync" and "zen-process" in name]
    after = [name for kind, name in events[renamed:] if kind == "sync"]
    assert (bool(before), after) == (is_synced, ["/runs/d/r/steps/t"] if key.startswith("runs") else [])


@pytest.fixture
def large_file(tmp_path):
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(9 << 20))
    return path


def test_a_large_file_is_written_to_the_disk_while_it_is_hashed(tmp_path, large_file, monkeypatch):
    """The write begins before the hash has ended."""
    begun, fsync = Event(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (begun.set(), fsync(fd))[1])
    monkeypatch.setattr(local, "file_hash", lambda path: begun.wait(60) and file_hash(path))
    transport = open_transport(str(tmp_path / "root"), {}, sync_to_disk=True)
    assert transport.hash_new(large_file) == file_hash(large_file)


def test_a_disk_that_fails_is_told(tmp_path, large_file, monkeypatch):
    """An error of the disk that comes while a file is hashed is not lost: the kernel says it once."""

    def failing(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    transport = open_transport(str(tmp_path / "root"), {}, sync_to_disk=True)
    with pytest.raises(OSError, match="Input/output error"):
        transport.hash_new(large_file)


def test_without_sync(tmp_path, events):
    """A root for which the option is off waits for no disk."""
    put(store_at(str(tmp_path / "root")))
    assert not [name for kind, name in events if kind == "sync"]


def test_a_path_of_root_is_its_own(tmp_path):
    """What a step that runs as root writes to a path that it got does not reach the artifact."""
    (tmp_path / "stored").write_bytes(b"stored")
    (tmp_path / "stored").chmod(0o444)
    own_copy(tmp_path / "stored", tmp_path / "own")
    if os.geteuid() == 0:
        (tmp_path / "own").write_bytes(b"mine")
    else:
        assert (tmp_path / "own").samefile(tmp_path / "stored")
    assert (tmp_path / "stored").read_bytes() == b"stored"
    with pytest.raises(FileExistsError):
        own_copy(tmp_path / "stored", tmp_path / "own")


# Runs as another user of the group.
_AS_MEMBER = """
import json, os, sys, uuid
from pathlib import Path
from airflow_zen.transports.base import run_in_parallel
from airflow_zen.transports.local import LocalTransport, own_copy
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[3]))
os.umask(0o077)
exec(sys.argv[4])
"""


def as_member(root, code):
    command = [sys.executable, "-c", _AS_MEMBER, str(root), str(GROUP), str(OTHER_USER), code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@as_root
def test_root_without_permissions(tmp_path):
    """A root that the worker's user may not write is refused; with the permissions that the error asks for it is used."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("test_", "popen-", "pytest-")):
            folder.chmod(0o755)
    (tmp_path / "root").mkdir(0o755)
    code = f"LocalTransport({str(tmp_path / 'root')!r}).write('one', b'1')"
    told = as_member(tmp_path, code).stderr
    assert "Make it a folder that this user may write, or choose another." in told
    (tmp_path / "root").chmod(0o777)
    assert as_member(tmp_path, code).returncode == 0
    assert (tmp_path / "root" / "one").read_bytes() == b"1"


def test_file_instead_of_a_root(tmp_path):
    """A root that is a file is refused; a folder in its place, and another one, are used."""
    (root := tmp_path / "root").write_text("")
    advice_of(lambda: open_transport(str(root), {}), r"Make it a folder that this user may write, or choose another\.")
    open_transport(str(tmp_path / "another"), {}).write("one", b"1")
    root.unlink()
    root.mkdir()
    open_transport(str(root), {}).write("one", b"1")


@as_root
def test_other_users_share_blocks_read_only(tmp_path):
    """A user who is not root gets a hard link, and cannot write to it."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("test_", "popen-", "pytest-")):
            folder.chmod(0o755)
    (tmp_path / "own").mkdir()
    os.chown(tmp_path / "own", OTHER_USER, GROUP)
    code = f"""
stored = Path({str(tmp_path / "own")!r}, "stored")
stored.write_bytes(b"x")
stored.chmod(0o444)
own_copy(stored, stored.with_name("link"))
assert stored.with_name("link").samefile(stored)
stored.with_name("link").write_bytes(b"mine")
"""
    assert "PermissionError" in as_member(tmp_path, code).stderr


@as_root
def test_a_root_of_a_group(tmp_path):
    """In a root with the set-group-ID bit all belongs to its group, which may delete it, whatever the umask."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("test_", "popen-", "pytest-")):
            folder.chmod(0o755)
    root = tmp_path / "root"
    root.mkdir()
    os.chown(root, 0, GROUP)
    root.chmod(0o2775)
    umask = os.umask(0o077)
    try:
        store = store_at(str(root))
        put(store)
        store.transport.write("runs/d/r/steps/t/-1.1.json", b"x")
        store.transport.write("names/n/versions/x.json", b"x")
    finally:
        os.umask(umask)
    paths = [path for path in root.rglob("*") if ".staging" not in path.parts]
    assert {path.stat().st_gid for path in paths} == {GROUP}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert {modes.pop("a.bin"), modes.pop("manifest.json")} == {0o444}
    assert (modes.pop("run.sh"), modes.pop("-1.1.json"), modes.pop("x.json")) == (0o555, 0o660, 0o664)
    assert set(modes.values()) == {0o2775}
    done = as_member(root, "t = LocalTransport(sys.argv[1]); t.delete([*t.list('artifacts')]); t.write('runs/x', b'1')")
    assert done.returncode == 0, done.stderr
    assert not list(store.transport.list("artifacts"))
    assert stat.S_IMODE(Path(root, "runs/x").stat().st_mode) == 0o660


def test_a_private_root(tmp_path):
    """In a root that only its owner may read, so are all files; records are never readable by everybody."""
    for name, mode, expected in (("private", 0o700, 0o600), ("shared", 0o755, 0o640)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
        store = store_at(str(tmp_path / name))
        put(store)
        store.transport.write("runs/x", b"1")
        assert stat.S_IMODE((tmp_path / name / "runs/x").stat().st_mode) == expected
        found = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / name).rglob("a.bin")]
        assert found == [0o400 if mode == 0o700 else 0o444]
