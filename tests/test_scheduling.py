"""Promises of a test run in several workers."""

import os
import subprocess
import sys

_PASSES = "def test_passes():\n    pass\n"
_CRASHES_ONCE = """
import os
from pathlib import Path


def test_crashes_once():
    try:
        Path("crashed").touch(exist_ok=False)
    except FileExistsError:
        return
    os._exit(1)
"""
_TELLS_ITS_WORKER = """
import os
from pathlib import Path

import pytest


@pytest.mark.parametrize("store", ["local", "ceph"])
def test_store(store):
    Path(f"{store} {os.environ['PYTEST_XDIST_WORKER']}").touch()
"""


def run_in_two_workers(folder, files):
    """Write these test files, and run them as `make test` does; return what pytest prints."""
    for number, text in enumerate(files):
        (folder / f"test_{number:02}.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "xdist.plugin", "-p", "tests.scheduling"]
    done = subprocess.run(
        [*command, "-n", "2", "--dist", "loadfile", "--rootdir", folder],
        cwd=folder,
        env=environment | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.stdout + done.stderr


def test_a_crash_of_a_worker_is_one_failure_and_ends_nothing(tmp_path):
    """Where a worker crashes after many files, all other tests are run, and the run ends."""
    told = run_in_two_workers(tmp_path, [*[_PASSES] * 12, _CRASHES_ONCE, *[_PASSES] * 3])
    assert "1 failed, 16 passed" in told, told


def test_one_worker_runs_the_tests_with_ceph(tmp_path):
    """The tests of a file that use Ceph are assigned to the worker of all that do; its others to any."""
    told = run_in_two_workers(tmp_path, [_TELLS_ITS_WORKER] * 8)
    assert "16 passed" in told, told
    assert len([*tmp_path.glob("ceph gw*")]) == 1
