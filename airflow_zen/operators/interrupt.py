"""Let SIGTERM reach the user's code, which Airflow 3.3 by itself does not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from airflow_zen.errors import StepInterrupted


@contextmanager
def raise_on_sigterm(on_kill: Callable[[], None]) -> Iterator[None]:
    """Raise `StepInterrupted` inside the block when the task is told to stop, after `on_kill`.

    Airflow follows SIGTERM with SIGKILL after 5 seconds; until then `finally` blocks run, and the
    step run is closed as killed. A second SIGTERM is ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        on_kill()
        raise StepInterrupted("SIGTERM")

    previous_handler = signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
