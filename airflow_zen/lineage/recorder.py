"""What a lineage recorder is, and the one that records nowhere but in the store."""

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
    """What `start` hands back: the run's page, and the environment the user's function needs to log into it.

    `environment` holds the server's credentials, and is therefore left out of the repr. `artifact_uri` is the address
    of the run's files.
    """

    run_id: str = ""
    url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    artifact_uri: str = ""


class LineageRecorder(Protocol):
    """Write step runs into a lineage server. No method raises for a server that is away or refuses."""

    def start(self, run: StepRun) -> OpenedRun:
        """Open the run before user code is called."""
        ...

    def finish(self, run: StepRun, opened: OpenedRun) -> bool:
        """Send everything else and close the run; tell whether all of it was delivered."""
        ...

    def on_record_stored(self, run: StepRun) -> None:
        """Be told that the run's record is in the store, so that nothing needs to be held for it any more."""
        ...

    def attach_files(self, run: StepRun, opened: OpenedRun, files: Mapping[str, bytes]) -> bool:
        """Put small files among those of the run, closed or not; tell whether they were delivered."""
        ...


class NullRecorder:
    """Record nothing: no lineage server is configured."""

    def start(self, run: StepRun) -> OpenedRun:
        """Open nothing."""
        return OpenedRun()

    def finish(self, run: StepRun, opened: OpenedRun) -> bool:
        """Deliver nothing; the step run record in the store is the lineage, so nothing is owed."""
        return True

    def on_record_stored(self, run: StepRun) -> None:
        """Hold nothing."""

    def attach_files(self, run: StepRun, opened: OpenedRun, files: Mapping[str, bytes]) -> bool:
        """Deliver nothing: the files lie in the store."""
        return True


@contextmanager
def temporary_environment(additions: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the block, and leave no trace of them behind."""
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
