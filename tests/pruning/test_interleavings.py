"""Promises of a prune beside steps that store the same content, at every interleaving of their operations."""

import itertools
import json
import os
import time
from pathlib import Path

import pytest

from airflow_zen.artifacts.folder import ArtifactFolder
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.errors import PruneBusy
from airflow_zen.materializers.registry import default_registry
from airflow_zen.pruning.collect import prune_stack
from airflow_zen.pruning.retention import DAY, Retention
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.stack import Stack
from airflow_zen.transports import open_transport
from airflow_zen.transports.base import ObjectInfo
from airflow_zen.transports.fsspec import FsspecTransport
from airflow_zen.transports.local import LocalTransport
from tests.interleaving import Killed, Scheduler, search_all

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FILES = {"value.bin": b"content"}
DESCRIBED = {"encoding": "test@1", "type_name": "t", "libraries": {}, "summary": {}}
SHARED = ("artifacts/", "prune/turn", "prune/notices")


class PruneBesideWriters:
    """One prune that is about to delete an artifact, and steps that store its content again.

    left: which of the artifact's objects were there before; the rest was deleted by a prune that was killed.
    """

    def __init__(self, root, transport, writers, *, mortal=(), inline=False, left=("value.bin", "manifest.json")):
        self.scheduler = Scheduler(mortal, ("list artifacts/", "scandir artifacts/", "_first_key prune/"))
        self.begun = time.time()
        self.store = ArtifactStore(root, transport, None, self.clock, self.scheduler.elapse)
        self.inline = inline
        self.ref = self.put(self.store)
        self._let_age(left)
        self.bodies = {"prune": self.prune} | {f"writer {number}": self.write for number in range(writers)}
        _schedule(transport, self.scheduler, self._modified_before)

    def clock(self):
        return self.begun + self.scheduler.waited

    def put(self, store):
        with store.upload_directory() as directory:
            for name, content in FILES.items():
                (directory / name).write_bytes(content)
            return store.put(directory, inline=self.inline, **DESCRIBED)

    def write(self):
        return self.put(ArtifactStore(self.store.root, self.store.transport, None, self.clock, self.scheduler.sleep))

    def prune(self):
        transport = self.store.transport
        stack = Stack(self.store, default_registry(), StepCache(transport), StepRunRecords(transport), clock=self.clock)
        return prune_stack(stack, Retention(grace=DAY / 24))

    def content(self):
        folder = ArtifactFolder.read(self.store.transport, self.ref.digest)
        whole = folder.manifest is not None and (self.inline or folder.has_files([("value.bin", 7)]))
        returned = [each for each in self.scheduler.processes.values() if each.finished and each.name != "prune"]
        assert whole or not returned, "content is gone after its writer has returned"
        objects = [(each.key, each.size, _is_new(each)) for each in folder.objects]
        return tuple(objects), folder.is_damaged, len(folder.prunes)

    def check(self, path):
        for each in self.scheduler.processes.values():
            expected = (Killed, PruneBusy) if each.name == "prune" else ()
            assert each.error is None or isinstance(each.error, expected), (path, each.error)
        assert not self.store.missing([self.ref]), path
        directory = self.store.get(self.ref, self.store.temporary_directory())
        assert (directory / "value.bin").read_bytes() == b"content"
        if not self.scheduler.processes["prune"].killed:
            assert not ArtifactFolder.read(self.store.transport, self.ref.digest).prunes

    def _let_age(self, left):
        """Make the artifact one that was found unreferenced long ago."""
        transport, prefix = self.store.transport, f"artifacts/{self.ref.digest[:2]}/{self.ref.digest}"
        transport.delete(key for key in transport.list(prefix) if key.rpartition("/")[2] not in left)
        unreferenced = {self.ref.digest: time.time() - 2 * DAY}
        transport.write("prune/unreferenced.json", json.dumps(unreferenced).encode())
        self._before = {each.key: each.modified for each in transport.list_objects(prefix)}

    def _modified_before(self, each):
        """Return an object as listed, written ten days earlier where it has not been written since the beginning."""
        is_old = self._before.get(each.key) == each.modified
        return ObjectInfo(each.key, each.size, each.modified - 10 * DAY) if is_old else each


def _is_own_lock(scheduler, name, key):
    """Whether it is the prune that looks at its own lock, which nobody else changes: only its release is seen."""
    by_prune = scheduler.current is not None and scheduler.current.name == "prune"
    return by_prune and name not in ("_write", "rename") and key.startswith(SHARED[1])


def _is_new(each):
    return each.modified > time.time() - DAY


def _schedule(transport, scheduler, aged):
    """Let the scheduler decide about each operation on shared objects; on a local root only about what is read."""
    is_local = isinstance(transport, LocalTransport)

    def scheduled(name, do, describe=repr):
        def operation(*args):
            key = next(arg for arg in args if isinstance(arg, str))
            if not f"{key}/".startswith(SHARED) or _is_own_lock(scheduler, name, key):
                return do(*args)
            return scheduler.operate(f"{name} {key}", lambda: do(*args), describe)

        return operation

    for name in ("_read",) if is_local else ("_read", "_write", "_create", "_size", "_upload"):
        setattr(transport, name, scheduled(name, getattr(transport, name)))
    # A look counts from its time.
    transport._first_key = scheduled("_first_key", transport._first_key, lambda found: (found, scheduler.waited))
    list_objects, delete = transport._list_objects, transport.delete

    def listing(prefix):
        return list(map(aged, list_objects(prefix)))

    transport._list_objects = listing if is_local else scheduled("list", listing, _describe_listing)
    delete_one = delete if is_local else scheduled("delete", lambda key: delete([key]))
    transport.delete = delete if is_local else lambda keys: [delete_one(key) for key in keys]


def _describe_listing(found):
    return [(each.key, each.size, _is_new(each)) for each in found]


class _Entries(list):
    """A finished `os.scandir`."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.fixture
def filesystem(monkeypatch):
    """Let the scheduler of `filesystem["system"]` decide about each system call on shared files."""
    at = {"system": None}

    def describe(result):
        return [(entry.name, entry.is_dir()) for entry in result] if isinstance(result, _Entries) else repr(result)

    def scheduled(name):
        do = getattr(os, name)

        def call(*args, **options):
            system = at["system"]
            paths = [os.fspath(arg) for arg in args if isinstance(arg, str | Path)]
            keys = [path.removeprefix(f"{system.store.root}/") for path in paths] if system else []
            shared = [key for key in keys if key.startswith(SHARED) and not _is_own_lock(system.scheduler, name, key)]
            if not shared:
                return do(*args, **options)

            def operation():
                result = do(*args, **options)
                return _Entries(sorted(result, key=lambda entry: entry.name)) if name == "scandir" else result

            return system.scheduler.operate(f"{name} {shared[-1]}", operation, describe)

        monkeypatch.setattr(os, name, call)

    for name in ("rename", "replace", "link", "unlink", "mkdir", "rmdir", "scandir"):
        scheduled(name)
    return at


@pytest.fixture
def new_root(request, tmp_path):
    """Return a function that makes a new root, and its transport, of the kind that a test asks for."""
    numbers = itertools.count()

    def make(kind):
        name, number = f"interleavings-{os.urandom(4).hex()}", next(numbers)
        if kind == "local":
            root = str(tmp_path / str(number))
            return root, open_transport(root, {})
        if kind == "memory":
            return f"memory://{name}", FsspecTransport(f"memory://{name}", {})
        client, server = kind.split("-")
        server = request.getfixturevalue(server)
        root, options = f"{server.root}/{name}", server.storage_options()
        return root, FsspecTransport(root, options) if client == "fsspec" else open_transport(root, options)

    return make


def _delete_all(transport):
    if transport.root.startswith("memory:"):
        # It never forgets a folder, and looks through all of them.
        transport.fs.rm(transport.base, recursive=True)
    else:
        transport.delete([*transport.list("")])


@pytest.fixture
def search(new_root, filesystem):
    """Search all interleavings of a prune and some writers on a kind of root."""

    def search_system(kind, writers, preemptions=None, **options):
        ready = []

        def new_system():
            if filesystem["system"]:
                filesystem["system"], ended = None, filesystem["system"].store.transport
                _delete_all(ended)
            if not ready:
                is_remote = "-" in kind
                ready.extend(
                    PruneBesideWriters(*new_root(kind), writers, **options) for _ in range(50 if is_remote else 1)
                )
                if is_remote:
                    # S3 lists times in seconds: what is written now must not look like what was there before.
                    time.sleep(1.1)
            filesystem["system"] = system = ready.pop()
            return system

        found = search_all(new_system, preemptions)
        bound = "" if preemptions is None else f", {preemptions} preemptions"
        ends = f"{found.checked} ends, {found.joined} joined, {len(found.states)} states"
        print(f"{kind} {writers} {options}{bound}: {ends}")
        return found

    return search_system


# The others take minutes each: `ZEN_ALL_INTERLEAVINGS=1 pytest -s …`, for the table in docs/reliability.md.
# fake-gcs-server and Azurite.
_CLOUDS = ["fsspec-google", "obstore-azure", "fsspec-azure"]
_OTHERS = (
    ["obstore-moto", "fsspec-moto", "obstore-ceph", "fsspec-ceph", "fsspec-rclone", *_CLOUDS]
    if os.environ.get("ZEN_ALL_INTERLEAVINGS")
    else []
)


@pytest.fixture
def without_notices(monkeypatch):
    """Return a function after which each writer looks for marks, and none for notices: those are ten times the states."""

    def forget_notices():
        monkeypatch.setattr("airflow_zen.artifacts.folder._LOOK_SECONDS", 0.0)
        monkeypatch.setattr("airflow_zen.artifacts.folder._DELETION_DELAY", 0.0)
        monkeypatch.setitem(globals(), "SHARED", SHARED[:2])

    return forget_notices


@pytest.mark.parametrize("kind", ["local", "memory", *_OTHERS])
def test_one_writer(search, kind):
    """Content that a step stores while a prune deletes it is there when the step has stored it, and stays."""
    assert search(kind, 1).checked


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_prune_is_killed(search, kind):
    """A prune that is killed at any operation keeps no step from storing the same content."""
    assert search(kind, 1, mortal=["prune"]).checked


@pytest.mark.parametrize("left", [["value.bin"], ["manifest.json"]], ids=["no manifest", "no file"])
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_after_a_killed_prune(search, kind, left):
    """Content of which an earlier prune deleted a part is stored again, beside the prune that deletes the rest."""
    assert search(kind, 1, left=left).checked


@pytest.mark.parametrize("inline", [True, *([False] if _OTHERS else [])])
@pytest.mark.parametrize("kind", ["memory", *(["local", "obstore-moto"] if _OTHERS else [])])
def test_two_writers(search, without_notices, kind, inline):
    """Of two steps that store the same content beside a prune, neither loses it."""
    if not _OTHERS:
        without_notices()
    assert search(kind, 2, inline=inline).checked


# Kind, writers, whether the artifact is one object, and preemptions.
_BOUNDED = [("local", 2, True, 2), ("memory", 2, True, 2), ("obstore-moto", 1, False, 1)]
_LONGER = [
    ("obstore-moto", 2, True, 1),
    ("local", 2, False, 3),
    ("memory", 2, False, 4),
    ("obstore-moto", 2, True, 2),
    ("fsspec-moto", 1, False, 2),
    ("fsspec-moto", 2, True, 1),
    ("fsspec-rclone", 1, False, 1),
    ("fsspec-rclone", 2, True, 1),
    *((kind, *bounds) for kind in _CLOUDS for bounds in ((1, False, 1), (2, True, 1))),
]


@pytest.mark.parametrize(("kind", "writers", "inline", "preemptions"), [*_BOUNDED, *(_LONGER if _OTHERS else [])])
def test_few_preemptions(search, kind, writers, inline, preemptions):
    """No step loses content where only a few operations of another process come between two of its own."""
    assert search(kind, writers, preemptions, inline=inline).checked
