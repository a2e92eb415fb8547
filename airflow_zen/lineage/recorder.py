"""The interface of lineage recorders, and the recorder that records nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from airflow_zen.runs.step_run import StepRun


@dataclass(frozen=True)
class OpenedRun:
    """A run that was opened in the lineage server; empty where none was.

    url: its page. environment: the variables with which user code logs into it; they contain credentials, and are
    therefore left out of the repr. artifact_uri: the address of its files.
    """

    run_id: str = ""
    url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    artifact_uri: str = ""


class LineageRecorder(Protocol):
    """Record step runs in a lineage server. No method raises when the server is unavailable or refuses a request.

    The methods here record nothing, and report that nothing is undelivered.
    """

    def start(self, run: StepRun) -> OpenedRun:
        """Open the run before user code is called."""
        return OpenedRun()

    def finish(self, run: StepRun, opened: OpenedRun) -> bool:
        """Send everything else and close the run; return whether all of it was delivered."""
        return True

    def on_record_stored(self, run: StepRun) -> None:
        """Release what is held for the run: its record is in the store now."""
        return

    def attach_files(self, run: StepRun, opened: OpenedRun, files: Mapping[str, bytes]) -> bool:
        """Add small files to the run, open or closed; return whether they were delivered."""
        return True


class NullRecorder(LineageRecorder):
    """Record nothing: no lineage server is configured, and the step run records in the store are the lineage."""


@contextmanager
def temporary_environment(additions: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the block, and restore them after it."""
    before = {name: os.environ.get(name) for name in additions}
    os.environ.update(additions)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
