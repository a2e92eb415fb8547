"""The interface of lineage recorders, the metadata that user code logs, and the paths of previews."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.errors import MetadataError, log_errors
from airflow_zen.runs.redaction import DEFAULT_REDACTOR

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_zen.runs.journal import RunJournals
    from airflow_zen.runs.redaction import Redactor
    from airflow_zen.runs.step_run import StepRun

log = logging.getLogger("airflow_zen.lineage")

MAX_PREVIEWED_OUTPUTS = 20
"""The number of outputs of a step that get previews."""

_UNSAFE_FOLDER_CHARACTERS = r"[^A-Za-z0-9_.-]+"
_RESERVED = ("zen.", "mlflow.")


class OpenedRun(msgspec.Struct, frozen=True):
    """A run that was opened in the lineage server; empty where none was.

    url: its page. versions_url: the runs or model versions that the same task made. environment: the variables with
    which user code logs into it; they contain credentials, and are therefore left out of the repr. artifact_uri: the
    address of its files.
    """

    run_id: str = ""
    url: str = ""
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    artifact_uri: str = ""
    versions_url: str = ""

    def __repr__(self) -> str:
        return f"OpenedRun({self.run_id!r}, {self.url!r})"


class LineageRecorder:
    """Record step runs in a lineage server. No method raises when the server is unavailable or refuses a request.

    The methods here record nothing, and report that nothing is undelivered.
    """

    def start(self, run: StepRun, suspended: Mapping[str, str] | None = None, *, is_planned: bool = True) -> OpenedRun:
        """Open the run before user code is called, or the run that another process has suspended.

        is_planned: whether it is known how the run uses the cache; if not, `prepare` follows.
        """
        return OpenedRun()

    def prepare(self, run: StepRun) -> None:
        """Update an open run when its use of the cache is known."""
        return

    def suspend(self, run: StepRun, opened: OpenedRun) -> Mapping[str, str]:
        """Leave the run open for another process; return what `start` needs there."""
        return {}

    def finish(self, run: StepRun, opened: OpenedRun) -> bool:
        """Send everything else and close the run; return whether all of it was delivered."""
        return True

    def on_record_stored(self, run: StepRun) -> None:
        """Release the resources of a run whose record is in the store now."""
        return

    def logged_metrics(self, opened: OpenedRun) -> Mapping[str, float]:
        """Return the last values of the metrics that an open run has in the lineage server."""
        return {}

    def attach_files(self, run: StepRun, opened: OpenedRun, files: Mapping[str, bytes]) -> bool:
        """Add small files to the run, open or closed; return whether they were delivered."""
        return True


class NullRecorder(LineageRecorder):
    """Record nothing: no lineage server is configured, and the step run records in the store are the lineage.

    `journals` keep the record of a run until it is in the store; without them the record of a killed process is lost.
    `redactor` removes secrets from it.
    """

    def __init__(self, journals: RunJournals | None = None, redactor: Redactor = DEFAULT_REDACTOR) -> None:
        self._journals = journals
        self._redactor = redactor

    def start(self, run: StepRun, suspended: Mapping[str, str] | None = None, *, is_planned: bool = True) -> OpenedRun:
        """Create the run's journal."""
        if self._journals:
            try:
                self._journals.open(self._redactor.step_run(run))
            except OSError as error:
                log.warning("If the process of %s is killed, its record is lost: %s", run.id, error)
        return OpenedRun()

    def prepare(self, run: StepRun) -> None:
        """Write the plan into the journal."""
        if self._journals and not run.is_hit:
            with log_errors(f"The journal of {run.id} does not have its plan"):
                self._journals.write(self._redactor.step_run(run))

    def suspend(self, run: StepRun, opened: OpenedRun) -> Mapping[str, str]:
        """Delete the run's journal: another process continues the run."""
        if self._journals:
            self._journals.delete(run)
        return {}

    def finish(self, run: StepRun, opened: OpenedRun) -> bool:
        """Write the finished record into the journal."""
        if self._journals:
            self._journals.write(self._redactor.step_run(run))
        return True

    def on_record_stored(self, run: StepRun) -> None:
        """Delete the run's journal, and store the records that killed processes left on this host."""
        if self._journals:
            self._journals.delete(run)
            self._journals.recover_orphans()


@contextmanager
def temporary_environment(additions: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the block, and restore them after it; an empty value removes one."""
    before = {name: os.environ.get(name, "") for name in additions}
    _set_environment(additions)
    try:
        yield
    finally:
        _set_environment(before)


@contextmanager
def log_into_folder(folder: Path) -> Iterator[None]:
    """Let MLflow write what the block logs into a folder, with no other run, experiment or tracking URI than its own.

    The client's own state is restored after the block, where it is loaded.
    """
    uri = (folder / "mlruns").as_uri()
    removed = dict.fromkeys(("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"), "")
    with temporary_environment({**removed, "MLFLOW_TRACKING_URI": uri, "MLFLOW_ALLOW_FILE_STORE": "true"}):
        if "mlflow" not in sys.modules:
            yield
            if mlflow := sys.modules.get("mlflow"):
                mlflow.end_run()
            return
        from airflow_zen.lineage.mlflow.offline.tracking_store import separate_client

        with separate_client(uri):
            yield


def _set_environment(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if value:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


class MetadataCollector:
    """Collect the metadata of one step run by its subject.

    A subject is `""`, `input:<argument>`, `output:<name>`, `trial:<name>` or `ranks:samples`.
    inputs, outputs: the names of the artifacts that may be a subject. trial: what makes the step a trial of a sweep.
    """

    def __init__(self, inputs: frozenset[str], outputs: frozenset[str], trial: object = None) -> None:
        self.trial = trial
        ours = {"trial": frozenset({"reports", "pruned"}), "ranks": frozenset({"samples"})}
        self._known = {"input": inputs, "output": outputs, **ours}
        self._facts: dict[str, dict[str, Any]] = {}
        self._lock = Lock()

    def add(self, facts: Mapping[str, Any], kind: str, name: str) -> None:
        """Add facts; a later value replaces an earlier one of the same name. Raises `MetadataError`."""
        if kind and name not in (known := self._known.get(kind, frozenset())):
            names = ", ".join(map(repr, sorted(known))) or "none"
            raise MetadataError(f"log_metadata() was given {kind}={name!r}, but the artifact {kind}s are: {names}.")
        for key in map(str, facts):
            if not key or key.startswith(_RESERVED):
                raise MetadataError(
                    f"log_metadata() takes names that are not empty and do not begin with 'zen.' or 'mlflow.', got {key!r}."
                )
        with self._lock:
            self._facts.setdefault(f"{kind}:{name}" if kind else "", {}).update(facts)

    def add_all(self, facts: Mapping[str, Mapping[str, Any]]) -> None:
        """Add facts by subject, of another process of the step; those of an unknown subject are left out."""
        for subject, found in facts.items():
            kind, _, name = subject.partition(":")
            with suppress(MetadataError):
                self.add(found, kind, name)

    @property
    def facts(self) -> Mapping[str, dict[str, Any]]:
        """The metadata collected so far."""
        with self._lock:
            return {about: dict(facts) for about, facts in self._facts.items()}


_current: ContextVar[MetadataCollector | None] = ContextVar("airflow_zen_metadata", default=None)
_active: list[MetadataCollector] = []


@contextmanager
def collect_metadata(collector: MetadataCollector) -> Iterator[None]:
    """Let `log_metadata` write into a collector during the block, from threads of the step too."""
    token = _current.set(collector)
    _active.append(collector)
    try:
        yield
    finally:
        _active.remove(collector)
        _current.reset(token)


def current_collector() -> MetadataCollector | None:
    """Return the collector of the running step; None outside one."""
    return _current.get() or (_active[0] if len(_active) == 1 else None)


def log_metadata(facts: Mapping[str, Any], *, input: str = "", output: str = "") -> None:  # noqa: A002 - the user's word
    """Attach facts to the running step, or to the artifact of one of its arguments or outputs.

    output: the name in `Output(...)`, or "output" where there is one. Facts are kept in the step run record and shown
    in MLflow: numbers as metrics, others as tags, and those about a model on the model's page. Raises `MetadataError`
    outside a step, and for a name that is not an artifact of it.
    """
    collector = current_collector()
    if collector is None:
        raise MetadataError("log_metadata() was called outside a step. Call it in a function decorated with @ml_step.")
    if input and output:
        raise MetadataError(f"log_metadata() takes input={input!r} or output={output!r}, not both.")
    collector.add(facts, "input" if input else "output" if output else "", input or output)


def preview_files(files: Mapping[str, Mapping[str, bytes]]) -> dict[str, bytes]:
    """Return the files of all outputs by path; each output has a folder `previews/<output>/`, equal ones are numbered."""
    found: dict[str, bytes] = {}
    folders: set[str] = set()
    for number, (output, contents) in enumerate(files.items()):
        folder = re.sub(_UNSAFE_FOLDER_CHARACTERS, "-", output).strip(".-") or "output"
        folder = f"{folder}~{number}" if folder in folders else folder
        folders.add(folder)
        found |= {f"previews/{folder}/{name}": content for name, content in contents.items()}
    return found
