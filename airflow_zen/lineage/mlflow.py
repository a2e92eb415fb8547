"""Write step runs into MLflow: one experiment per DAG, one run per DAG run, a nested run per try of a task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from airflow_zen.artifacts.previews import PreviewStore
from airflow_zen.artifacts.root import normalise_root
from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import SettingsError, ZenError
from airflow_zen.lineage.left_behind import HeldRun
from airflow_zen.lineage.metrics import milliseconds
from airflow_zen.lineage.models import Models
from airflow_zen.lineage.names import end_tags, quoted, run_name, step_tags
from airflow_zen.lineage.note import note
from airflow_zen.lineage.parameters import entries
from airflow_zen.lineage.parents import Parent, Parents
from airflow_zen.lineage.preparation import Preparation, summary_of, undescribed, unlinked
from airflow_zen.lineage.previews import stored_previews
from airflow_zen.lineage.recorder import Opened
from airflow_zen.lineage.records import StepRunRecords, record_key
from airflow_zen.lineage.refusals import MlflowRefused
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.lineage.run_files import put_files
from airflow_zen.lineage.step_artifacts import send_datasets, send_models
from airflow_zen.lineage.step_facts import send_end, send_facts
from airflow_zen.lineage.step_metadata import noted_tags
from airflow_zen.lineage.step_run import StepRun, StepRunId
from airflow_zen.lineage.taking_over import take_over
from airflow_zen.lineage.user_client import end_user_run, user_environment
from airflow_zen.lineage.user_replay import UserReplay

T = TypeVar("T")

log = logging.getLogger("airflow_zen.lineage")

# Seconds that a step which has ended may wait for what its own code has logged.
_AT_THE_END = 10.0

# Seconds that a step waits for slow answers in all; after that the rest is sent later.
_FOR_SLOW_ANSWERS = 10.0


class MlflowRecorder:
    """Record step runs in MLflow, opened before and closed after the user's function.

    `transport` and `artifact_root` are those of the artifact store; `traced` asks for a lineage trace of
    each DAG run. Nothing is raised into the step:
    a server that is away or refuses costs one bounded wait and one warning per process, and `finish`
    returns False, so that the step run record is kept as undelivered.
    """

    def __init__(self, rest: MlflowRest, transport: Transport, artifact_root: str, traced: bool = True) -> None:
        self.rest = rest
        self._traced = traced
        self._transport = transport
        self._root = normalise_root(artifact_root)
        self._parents = Parents(rest, transport, self._root)
        self._models = Models(rest, transport, self._root)
        self._replay = UserReplay(rest, transport, self._root)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="airflow-zen-lineage")
        self._preparing: dict[StepRunId, Future[Preparation]] = {}
        self._held: dict[StepRunId, HeldRun] = {}
        self._taking_over: Future[tuple[StepRunId, ...]] | None = None
        self._warned: set[str] = set()

    def start(self, run: StepRun) -> Opened:
        """Open the nested run: one request, after those that the first task of a DAG run needs.

        What else must be looked up is looked up while the user's function runs; what killed processes left
        on this host is seen to then as well.
        """
        self.rest.hurry(_FOR_SLOW_ANSWERS)
        self._held[run.id] = held = HeldRun.begin(run, self._root, self._transport.scratch)
        try:
            parent, info = self._open(run, self._parents.of(run))
        except Exception as error:  # noqa: BLE001 - lineage never fails a step
            self._warn(run, error)
            self._taking_over = self._pool.submit(self.take_over)
            return Opened(environment=user_environment(run, self.rest.server, held.calls))
        run_id = str(info["run_id"])
        self._preparing[run.id] = self._pool.submit(self._prepare, run, parent, run_id)
        self._taking_over = self._pool.submit(self.take_over)
        environment = user_environment(run, self.rest.server, held.calls, parent, info)
        url = self.rest.server.run_url(parent.experiment_id, run_id)
        return Opened(run_id, url, environment, str(info["artifact_uri"]))

    def finish(self, run: StepRun, opened: Opened) -> bool:
        """Send parameters, artifacts, models and the end state; False when any of it may be missing."""
        preparing = self._preparing.pop(run.id, None)
        kept = self._keep(run, opened, self._held.get(run.id))
        if not opened.run_id:
            return False
        try:
            named, experiment_id = _named(run), opened.environment["MLFLOW_EXPERIMENT_ID"]
            prepare = preparing.result if preparing else partial(self._look_up, named, experiment_id)
            within = _AT_THE_END if kept else 0.0
            self._send(named, experiment_id, opened.run_id, prepare, within)
        except Exception as error:  # noqa: BLE001 - lineage never fails a step
            self._warn(run, error)
            return False
        return True

    def stored(self, run: StepRun) -> None:
        """Forget what this host holds of the run; wait a little for the taking over, if there is any."""
        held = self._held.pop(run.id, None)
        if held:
            held.forget()
        if self._taking_over:
            wait([self._taking_over], _AT_THE_END)

    def take_over(self) -> tuple[StepRunId, ...]:
        """Put into the store, as owed, what processes that are gone have left on this host; tell whose it was."""
        return take_over(self._root, self._transport.scratch, StepRunRecords(self._transport), self._replay)

    def attach(self, run: StepRun, opened: Opened, files: Mapping[str, bytes]) -> bool:
        """Put small files among those of the run; False when any may be missing."""
        if not files:
            return True
        if not opened.run_id:
            return False
        try:
            self._put_files(run, opened.files, files)
        except Exception as error:  # noqa: BLE001 - lineage never fails a step
            self._warn(run, error)
            return False
        return True

    def replay(self, run: StepRun) -> None:
        """Bring MLflow to what a finished record says, whatever part of it MLflow has.

        Raises `LineageError` when the server is away or refuses.
        """
        parent = self._parents.confirm(run, self._parents.of(run), reopen=False)
        info = self._find(run, parent)
        if info is None:
            parent, info = self._open(run, parent)
        named, run_id = _named(run), str(info["run_id"])
        prepare = partial(self._look_up, named, parent.experiment_id)
        self._send(named, parent.experiment_id, run_id, prepare, within=float("inf"), again=True)
        self._put_files(run, info["artifact_uri"], stored_previews(run, PreviewStore(self._transport)))

    def publish(self, dag_id: str, run_id: str, records: StepRunRecords) -> bool:
        """Draw a DAG run on its parent run, see `Publisher.publish`."""
        # Drawing is no task's business, so no task loads it.
        from airflow_zen.lineage.graph.publish import Publisher

        return Publisher(self.rest, records, self._transport, self._root, self._traced).publish(dag_id, run_id)

    def _keep(self, run: StepRun, opened: Opened, held: HeldRun | None) -> bool:
        """End what user code began in MLflow's client, and store what the server did not take of it."""
        try:
            end_user_run(opened.environment.get("MLFLOW_RUN_ID", ""), run.state, opened.environment)
        except Exception as error:  # noqa: BLE001 - whatever MLflow's client raises, our own end state follows
            log.debug("MLflow's client could not end run %s: %s", opened.run_id, error)
        if held is None:
            return False
        try:
            held.write_end(run, self._root)
            return self._replay.keep(run.id, held.calls)
        except Exception as error:  # noqa: BLE001 - lineage never fails a step
            place = held.folder
            log.warning("What the code of %s logged stays in %s until it can be stored: %s", run.id, place, error)
            self._held.pop(run.id).release()
            return False

    def _put_files(self, run: StepRun, artifact_uri: str, files: Mapping[str, bytes]) -> None:
        """Store files of a run; a place that can never be reached is said, and nothing is owed there."""
        try:
            put_files(artifact_uri, files, self._transport, self._root, self.rest)
        except SettingsError as error:
            self._warn(run, error)

    def _open(self, run: StepRun, parent: Parent) -> tuple[Parent, Mapping[str, Any]]:
        """Make the nested run; when its experiment turns out to be gone, or another's, heal and try once more."""
        try:
            info = self._create(run, parent)
        except MlflowRefused as error:
            if error.status not in {400, 404}:
                raise
        else:
            if parent.holds(info["artifact_uri"]):
                return parent, info
            self.rest.post("runs/delete", {"run_id": info["run_id"]})
        parent = self._parents.heal(run, parent)
        return parent, self._create(run, parent)

    def _create(self, run: StepRun, parent: Parent) -> dict[str, Any]:
        request = {
            "experiment_id": parent.experiment_id,
            "run_name": run_name(run),
            "start_time": milliseconds(run.started),
            "tags": entries(self._start_tags(_named(run), parent)),
        }
        return dict(self.rest.post("runs/create", request)["run"]["info"])

    def _start_tags(self, run: StepRun, parent: Parent) -> dict[str, str]:
        described = {
            **step_tags(run, parent.run_id),
            "zen.record": f"{self._root}/{record_key(run.id)}",
            "mlflow.note.content": note(run, parent.experiment_id),
        }
        return {key: value for key, value in described.items() if value}

    def _find(self, run: StepRun, parent: Parent) -> Mapping[str, Any] | None:
        request = {
            "experiment_ids": [parent.experiment_id],
            "filter": f"tags.`zen.key` = {quoted(str(run.id))}",
            "max_results": 1,
        }
        runs = self.rest.post("runs/search", request).get("runs", [])
        return dict(runs[0]["info"]) if runs else None

    def _prepare(self, run: StepRun, parent: Parent, run_id: str) -> Preparation:
        living = self._parents.confirm(run, parent)
        if living != parent:
            tag = {"run_id": run_id, "key": "mlflow.parentRunId", "value": living.run_id}
            self.rest.post("runs/set-tag", tag)
        prepared = self._look_up(_named(run), living.experiment_id)
        return replace(prepared, tags=self._start_tags(_named(run), parent))

    def _look_up(self, run: StepRun, experiment_id: str) -> Preparation:
        found = {ref.digest: self._models.find(ref, run, experiment_id) for ref in unlinked(run)}
        return Preparation(
            summaries={ref.digest: summary_of(ref, self._transport, self._root) for ref in undescribed(run)},
            model_ids={digest: model_id for digest, model_id in found.items() if model_id},
        )

    def _send(
        self,
        run: StepRun,
        experiment_id: str,
        run_id: str,
        prepare: Callable[[], Preparation],
        within: float,
        again: bool = False,
    ) -> None:
        """Send everything, the end state last; a part that is refused does not keep back the others.

        What user code has said comes first, so that its parameters keep their names; it may take `within` seconds.
        One after the other on one connection: a second connection was measured to gain nothing.
        """
        errors: list[Exception] = []
        if within:
            _attempt(lambda: self._replay.send(run.id, run_id, experiment_id, within), errors)
        prepared = _attempt(prepare, errors) or Preparation()
        described = {**noted_tags(run), **end_tags(run), "mlflow.note.content": note(run, experiment_id)}
        tags = {key: value for key, value in described.items() if value and prepared.tags.get(key) != value}
        _attempt(lambda: send_facts(run, run_id, tags, self.rest), errors)
        _attempt(lambda: send_datasets(run, run_id, prepared, self.rest), errors)
        _attempt(lambda: send_models(run, experiment_id, run_id, prepared, self._models, again), errors)
        _attempt(lambda: send_end(run, run_id, self.rest), errors)
        if errors:
            raise errors[0]

    def _warn(self, run: StepRun, error: Exception) -> None:
        """Say once per process and cause that something is missing in MLflow."""
        if str(error) in self._warned:
            return
        self._warned.add(str(error))
        unexpected = not isinstance(error, ZenError)
        log.warning(
            "MLflow does not have all of %s; its record is kept, and `airflow zen lineage sync` sends it. %s",
            run.id,
            error,
            exc_info=error if unexpected else None,
        )


def _named(run: StepRun) -> StepRun:
    """Give nameless artifacts the name of their argument or output."""
    task = f"{run.id.dag_id}/{run.id.task_id}"
    return replace(
        run,
        inputs={argument: ref if ref.name else ref.named(argument) for argument, ref in run.inputs.items()},
        outputs={name: ref if ref.name else ref.named(f"{task}.{name}") for name, ref in run.outputs.items()},
    )


def _attempt(work: Callable[[], T], errors: list[Exception]) -> T | None:
    """Do one part of the work; note its error, so that the other parts are done all the same."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - raised when the other parts were sent
        errors.append(error)
        return None
