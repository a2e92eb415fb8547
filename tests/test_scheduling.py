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


def test_a_crash_of_a_worker_is_one_failure_and_ends_nothing(tmp_path):
    """Where a worker crashes after many files, all other tests are run, and the run ends."""
    for number in range(16):
        (tmp_path / f"test_{number:02}.py").write_text(_CRASHES_ONCE if number == 12 else _PASSES)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "xdist.plugin", "-p", "tests.scheduling"]
    done = subprocess.run(
        [*command, "-n", "2", "--dist", "loadfile", "--rootdir", tmp_path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "1 failed, 16 passed" in done.stdout.splitlines()[-1], done.stdout + done.stderr
