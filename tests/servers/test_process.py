"""Promises about what tests leave behind."""

import subprocess
import sys
from pathlib import Path

_OWNER = """
from tests.servers.process import memory_directory
print(memory_directory("files-"), flush=True)
input()
"""


def start_owner():
    """Start a process that has a directory until it reads a line; return the process and the directory."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", _OWNER], text=True, **pipes)
    return process, Path(process.stdout.readline().strip())


def test_directories_of_killed_processes_are_deleted():
    """The next process that needs a directory deletes those of killed processes, and those of no other."""
    (killed, abandoned), (living, used) = start_owner(), start_owner()
    killed.kill()
    killed.communicate()
    assert abandoned.is_dir()
    last, own = start_owner()
    last.communicate("\n")
    assert not abandoned.parent.exists()
    assert used.is_dir()
    living.communicate("\n")
    assert not used.parent.exists() and not own.parent.exists()
