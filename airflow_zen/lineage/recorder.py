"""What a lineage recorder is, and the one that records nowhere but in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from airflow_zen.lineage.step_run import StepRun


@dataclass(frozen=True)
class Opened:
    """What `start` hands back: the run's page, and the environment the user's function needs to log into it.

    `environment` holds the server's credentials, and is therefore left out of the repr. `files` is the address
    of the run's files.
    """

    run_id: str = ""
    url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: str = ""


class LineageRecorder(Protocol):
    """Write step runs into a lineage server. No method raises for a server that is away or refuses."""

    def start(self, run: StepRun) -> Opened:
        """Open the run before user code is called."""
        ...

    def finish(self, run: StepRun, opened: Opened) -> bool:
        """Send everything else and close the run; tell whether all of it was delivered."""
        ...

    def stored(self, run: StepRun) -> None:
        """Be told that the run's record is in the store, so that nothing needs to be held for it any more."""
        ...

    def attach(self, run: StepRun, opened: Opened, files: Mapping[str, bytes]) -> bool:
        """Put small files among those of the run, closed or not; tell whether they were delivered."""
        ...


class NullRecorder:
    """Record nothing: no lineage server is configured."""

    def start(self, run: StepRun) -> Opened:
        """Open nothing."""
        return Opened()

    def finish(self, run: StepRun, opened: Opened) -> bool:
        """Deliver nothing; the step run record in the store is the lineage, so nothing is owed."""
        return True

    def stored(self, run: StepRun) -> None:
        """Hold nothing."""

    def attach(self, run: StepRun, opened: Opened, files: Mapping[str, bytes]) -> bool:
        """Deliver nothing: the files lie in the store."""
        return True
