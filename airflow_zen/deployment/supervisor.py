"""Run a command until it ends, or until the process that holds the other end of standard input is gone.

`python -I -S supervisor.py COMMAND…` needs Python's own library only, and runs the command in a session of its own. SIGTERM,
and the end of standard input, end everything in it: SIGTERM first, SIGKILL after 5 seconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

_SECONDS_TO_STOP = 5.0


def main(command: list[str]) -> int:
    """Run the command; return its exit code."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent)  # noqa: PLW1509 - this process has one thread yet
    signal.signal(signal.SIGTERM, lambda *_: _stop(child))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(child,), daemon=True).start()
    while (code := child.poll()) is None:
        time.sleep(0.1)
    _signal(child, signal.SIGKILL)
    return code


def _watch(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1024):
        pass
    _stop(child)


def _stop(child: subprocess.Popen[bytes]) -> None:
    _signal(child, signal.SIGTERM)
    threading.Timer(_SECONDS_TO_STOP, _signal, (child, signal.SIGKILL)).start()


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _die_with_parent() -> None:
    """Let the kernel end the command if this process is killed, where it can."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
