"""Promises of `airflow_zen.transports.scratch`."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from airflow_zen.pruning.collect import prune_stack
from airflow_zen.pruning.retention import Retention
from airflow_zen.transports import open_transport
from airflow_zen.transports.scratch import ScratchFolder
from tests.pruning.conftest import stack_at

# A step that is killed while it writes an output, and has loaded an input.
_KILLED = """
import os, signal, sys
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.transports import open_transport

store = ArtifactStore(sys.argv[1], open_transport(sys.argv[1], {}))
(store.temporary_directory() / "loaded.bin").write_bytes(b"x" * 1000)
with store.upload_directory() as directory:
    (directory / "half.bin").write_bytes(b"x" * 1000)
    print("ready", flush=True)
    sys.stdin.read() if sys.argv[2] == "waits" else os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a process with a root; its temporary files are in the test's own directory."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}

    def begin(how):
        command = [sys.executable, "-c", _KILLED, str(tmp_path / "root"), how]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        return process

    return begin


def left(tmp_path):
    return sorted(path.name for path in (*tmp_path.rglob("half.bin"), *tmp_path.rglob("loaded.bin")))


@pytest.mark.parametrize("by", ["step", "prune"])
def test_removed_after_a_kill(start, tmp_path, by):
    """What a killed step left is removed by the next step on the host, and by a prune."""
    killed = start("is killed")
    assert killed.wait() == -signal.SIGKILL
    assert left(tmp_path) == ["half.bin", "loaded.bin"]
    stack = stack_at(str(tmp_path / "root"))
    if by == "step":
        stack.save(1)
        stack.store.temporary_directory()
    else:
        prune_stack(stack, Retention())
    assert left(tmp_path) == []


def test_a_running_process_keeps_its_files(start, tmp_path):
    """The files of a process that lives stay, however long it writes nothing."""
    running = start("waits")
    stack = stack_at(str(tmp_path / "root"))
    stack.save(1)
    prune_stack(stack, Retention())
    assert left(tmp_path) == ["half.bin", "loaded.bin"]
    running.communicate(b"")
    assert running.returncode == 0
    assert not [*(tmp_path / "root" / ".staging").iterdir()] or left(tmp_path) == ["loaded.bin"]


def test_nothing_is_left_at_the_end(tmp_path):
    """A process that ends leaves no empty folder."""
    code = "import sys; from airflow_zen.transports import open_transport as o; o(sys.argv[1], {}).write('a', b'1')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "root")], check=True)
    assert [*(tmp_path / "root" / ".staging").iterdir()] == []


def test_other_hosts(tmp_path):
    """Folders of other hosts are removed a week after they were last used; anything else stays."""
    for name in ("zen-process-elsewhere~a", "zen-process-elsewhere~b", "zen-step-c", "mine"):
        (tmp_path / name).mkdir()
    for name in ("zen-process-elsewhere~a", "zen-step-c", "mine"):
        os.utime(tmp_path / name, (time.time() - 8 * 86_400,) * 2)
    ScratchFolder(tmp_path).remove_abandoned()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "zen-process-elsewhere~b", "zen-step-c"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_user(tmp_path):
    """Folders of another user are not touched."""
    other = tmp_path / f"zen-process-{socket.gethostname()}~x"
    other.mkdir()
    os.chown(other, 12_345, 12_345)
    ScratchFolder(tmp_path).remove_abandoned()
    assert other.exists()


def test_a_folder_that_was_cleaned_away(tmp_path):
    """A folder that something else deleted is made again."""
    transport = open_transport(str(tmp_path / "root"), {})
    transport.scratch.path.rmdir()
    transport.write("a", b"1")
    assert transport.read("a") == b"1"


def test_many_roots(tmp_path):
    """A process that opens many roots, one after the other, holds no file of those that it no longer uses."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        open_transport(str(tmp_path / str(number)), {}).write("a", b"1")
    assert len(os.listdir("/proc/self/fd")) < before + 10
    assert not [*tmp_path.glob("*/.staging/*")]
