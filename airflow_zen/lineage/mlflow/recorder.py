"""Record step runs in MLflow: one experiment per DAG, one run per DAG run, a nested run per try of a task."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from airflow_zen.artifacts.folder import PreviewStore
from airflow_zen.errors import SettingsError, ZenError, log_errors
from airflow_zen.lineage.mlflow.dag_runs import read_metrics
from airflow_zen.lineage.mlflow.description import PageUrls, run_description
from airflow_zen.lineage.mlflow.encoding import key_values, to_milliseconds
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.log_step import (
    PrefetchResult,
    dataset_requests,
    end_request,
    metadata_tags,
    parameter_requests,
    send,
    value_requests,
)
from airflow_zen.lineage.mlflow.models import LoggedModels
from airflow_zen.lineage.mlflow.offline.outbox import Outbox, Replay
from airflow_zen.lineage.mlflow.offline.relay import Relay
from airflow_zen.lineage.mlflow.parent_runs import ParentRun, ParentRuns
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.run_files import put_run_files
from airflow_zen.lineage.mlflow.tags import end_tags, quote_filter_value, run_name, step_tags, with_artifact_names
from airflow_zen.lineage.recorder import (
    MAX_PREVIEWED_OUTPUTS,
    LineageRecorder,
    OpenedRun,
    preview_files,
    temporary_environment,
)
from airflow_zen.runs.journal import RunJournals
from airflow_zen.runs.records import StepRunRecords, record_key
from airflow_zen.runs.redaction import DEFAULT_REDACTOR
from airflow_zen.runs.step_run import StepRun, StepState
from airflow_zen.transports.base import Transport, normalize_root

if TYPE_CHECKING:
    from airflow_zen.runs.redaction import Redactor
    from airflow_zen.runs.step_run import StepRunId

log = logging.getLogger("airflow_zen.lineage")

# Seconds that a step which has ended waits for MLflow to receive what its own code logged.
_FINISH_TIMEOUT = 10.0

# What user code logged, in the directory of the run's journal.
_OUTBOX = "outbox"

# Seconds that a step waits for slow answers in total; the rest is sent later.
_SLOW_RESPONSE_BUDGET = 10.0


class MlflowRecorder(LineageRecorder):
    """Record step runs in MLflow, opened before and closed after the user's function.

    transport, artifact_root: those of the artifact store. log_traces: whether each DAG run gets a lineage trace.
    respect_set_experiment: whether runs that a step's code starts go to the experiment that it asks for, and not to that
    of the DAG. redactor: removes secrets from what is sent.

    No error is raised into the step. A server that is unavailable or refuses costs one bounded wait and one warning per
    process, and `finish` returns False, so that the step run record is kept as undelivered.
    """

    def __init__(
        self,
        rest: MlflowRest,
        transport: Transport,
        artifact_root: str,
        log_traces: bool = True,
        respect_set_experiment: bool = False,
        redactor: Redactor = DEFAULT_REDACTOR,
    ) -> None:
        self.rest = rest
        self._redactor = redactor
        self._log_traces = log_traces
        self._respect_set_experiment = respect_set_experiment
        self._transport = transport
        self._root = normalize_root(artifact_root)
        self._parents = ParentRuns(rest, transport, self._root)
        self._models = LoggedModels(rest, transport, self._root)
        self._replay = Replay(rest, transport, self._root)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="airflow-zen-lineage")
        self._prefetches: dict[StepRunId, Future[PrefetchResult]] = {}
        self._unplanned: dict[StepRunId, tuple[ParentRun, str, Mapping[str, str], Future[ParentRun]]] = {}
        self._journals = RunJournals(transport, partial(_keep_outbox, self._replay), delivered=False)
        self._relays: dict[StepRunId, tuple[Relay, Any]] = {}
        self._recovery: Future[tuple[StepRunId, ...]] | None = None
        self._warned: set[str] = set()

    def start(self, run: StepRun, suspended: Mapping[str, str] | None = None, *, is_planned: bool = True) -> OpenedRun:
        """Open the nested run with one request, besides those that the first task of a DAG run needs.

        A suspended run is open already. If the run is planned, parameters are sent and entities looked up in the
        background while the user's function runs. Records that killed processes left on this host are stored then, too.
        """
        run = self._redactor.step_run(run)
        self.rest.limit_slow_responses(_SLOW_RESPONSE_BUDGET)
        outbox = Outbox(self._journals.open(run).directory / _OUTBOX)
        outbox.directory.mkdir()
        info, urls = dict[str, Any](), dict[str, str]()
        try:
            parent, info = self._parents.get_or_create(run), dict(suspended or {})
            if not info:
                parent, info = self._open_run(run, parent)
        except Exception as error:  # noqa: BLE001 - lineage never fails a step
            self._warn(run, error)
        else:
            urls = self._page_urls(run, parent.experiment_id, info["run_id"])
            active = self._pool.submit(self._parents.ensure_active, run, parent)
            sent = self._start_tags(with_artifact_names(run), parent)
            self._unplanned[run.id] = parent, info["run_id"], sent, active
        self._recovery = self._pool.submit(self.recover_orphans)
        respect = self._respect_set_experiment
        relay = Relay(self.rest.server, outbox, run, info or None, respect_set_experiment=respect)
        if is_planned:
            self.prepare(run)
        client = _mlflow_client()
        self._relays[run.id] = relay, client.client_state() if client else (None, None)
        if not info:
            return OpenedRun(environment=relay.environment())
        return OpenedRun(info["run_id"], environment=relay.environment(), artifact_uri=info["artifact_uri"], **urls)

    def prepare(self, run: StepRun) -> None:
        """Send parameters and the cache state in the background, except for a hit; prefetch what `finish` needs."""
        run = self._redactor.step_run(run)
        if not run.is_hit:
            with log_errors(f"The journal of {run.id} does not have its plan"):
                self._journals.write(run)
        if opened := self._unplanned.pop(run.id, None):
            self._prefetches[run.id] = self._pool.submit(self._prefetch, run, *opened)

    def suspend(self, run: StepRun, opened: OpenedRun) -> Mapping[str, str]:
        """Release a run whose code runs in another process; it stays open in MLflow."""
        if prefetching := self._prefetches.pop(run.id, None):
            wait([prefetching], _FINISH_TIMEOUT)
        if run.id in self._relays:
            self._relays.pop(run.id)[0].close()
        self._journals.delete(run)
        if not opened.run_id:
            return {}
        experiment_id = opened.environment["MLFLOW_EXPERIMENT_ID"]
        return {"run_id": opened.run_id, "experiment_id": experiment_id, "artifact_uri": opened.artifact_uri}

    def finish(self, run: StepRun, opened: OpenedRun) -> bool:
        """Send artifacts, models and the end state; return whether all was delivered."""
        run, prefetching = self._redactor.step_run(run), self._prefetches.pop(run.id, None)
        has_outbox = self._store_outbox(run, opened)
        if not opened.run_id:
            return False
        named, experiment_id = with_artifact_names(run), opened.environment["MLFLOW_EXPERIMENT_ID"]
        look_up = prefetching.result if prefetching else partial(self._models.prefetch, named, experiment_id)
        replay_timeout = _FINISH_TIMEOUT if has_outbox else 0.0
        return self._deliver(run, lambda: self._send_all(named, experiment_id, opened.run_id, look_up, replay_timeout))

    def on_record_stored(self, run: StepRun) -> None:
        """Delete the run's journal, and wait for the recovery of others, at most 10 seconds."""
        self._journals.delete(run)
        if self._recovery:
            wait([self._recovery], _FINISH_TIMEOUT)

    def recover_orphans(self) -> tuple[StepRunId, ...]:
        """Store the records that killed processes left on this host as undelivered; return the runs."""
        return self._journals.recover_orphans()

    def logged_metrics(self, opened: OpenedRun) -> Mapping[str, float]:
        """Return the last values of the metrics that user code logged; none while MLflow is unavailable."""
        with log_errors("The metrics that the step logged are not known"):
            return read_metrics(self.rest, opened.run_id)
        return {}

    def attach_files(self, run: StepRun, opened: OpenedRun, files: Mapping[str, bytes]) -> bool:
        """Add small files to the run; return whether all were delivered."""
        if not files or not opened.run_id:
            return not files
        return self._deliver(run, lambda: self._put_files(run, opened.artifact_uri, files))

    def replay(self, run: StepRun) -> None:
        """Send a finished record to MLflow, however much of it MLflow has.

        Raises `LineageError` when the server is unavailable or refuses.
        """
        run = self._redactor.step_run(run)
        parent = self._parents.ensure_active(run, self._parents.get_or_create(run), reopen=False)
        condition = f"tags.`zen.key` = {quote_filter_value(str(run.id))}"
        found = next(self.rest.search_runs(parent.experiment_id, condition), None)
        parent, info = (parent, found["info"]) if found else self._open_run(run, parent)
        named = with_artifact_names(run)
        look_up = partial(self._models.prefetch, named, parent.experiment_id)
        self._send_all(named, parent.experiment_id, info["run_id"], look_up, replay_timeout=float("inf"), resume=True)
        self._put_files(run, info["artifact_uri"], read_previews(run, PreviewStore(self._transport)))

    def publish_graph(self, dag_id: str, run_id: str, records: StepRunRecords) -> bool:
        """Draw a DAG run on its parent run; see `GraphPublisher.publish`."""
        # No task draws, so no task imports it.
        from airflow_zen.lineage.graph.publish import GraphPublisher

        return GraphPublisher(self.rest, records, self._transport, self._root, self._log_traces).publish(dag_id, run_id)

    def _page_urls(self, run: StepRun, experiment_id: str, run_id: str) -> dict[str, str]:
        """Return the addresses in an `OpenedRun`."""
        server = self.rest.server
        return {
            "url": server.run_url(experiment_id, run_id),
            "versions_url": PageUrls(experiment_id, server.ui).versions_url(run),
        }

    def _deliver(self, run: StepRun, work: Callable[[], None]) -> bool:
        """Do work whose errors must not fail the step; return whether it succeeded."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - lineage never fails a step
            self._warn(run, error)
            return False
        return True

    def _store_outbox(self, run: StepRun, opened: OpenedRun) -> bool:
        """End the runs that user code left open, and store the outbox; return whether it has content."""
        if run.id in self._relays:
            _end_user_runs(*self._relays.pop(run.id), run.state, opened.environment)
        journal = self._journals.get(run)
        if journal is None:
            return False
        try:
            self._journals.write(run)
            return self._replay.keep(run.id, Outbox(journal.directory / _OUTBOX))
        except Exception as error:  # noqa: BLE001 - lineage never fails a step
            directory = journal.directory
            log.warning("What the code of %s logged stays in %s until it can be stored: %s", run.id, directory, error)
            self._journals.abandon(run)
            return False

    def _put_files(self, run: StepRun, artifact_uri: str, files: Mapping[str, bytes]) -> None:
        """Store files of a run; log a warning for an address that cannot be written, because a retry would not help."""
        try:
            put_run_files(artifact_uri, files, self._transport, self._root, self.rest)
        except SettingsError as error:
            self._warn(run, error)

    def _open_run(self, run: StepRun, parent: ParentRun) -> tuple[ParentRun, dict[str, Any]]:
        """Create the nested run; repair the parent once where its experiment is missing, or another's."""
        try:
            info = self._create_run(run, parent)
        except MlflowRejected as error:
            if error.status not in {400, 404}:
                raise
        else:
            # A new run's files are elsewhere after a server was replaced.
            if info["artifact_uri"].startswith(f"{parent.location}/"):
                return parent, info
            self.rest.post("runs/delete", {"run_id": info["run_id"]})
        parent = self._parents.repair(run, parent)
        return parent, self._create_run(run, parent)

    def _create_run(self, run: StepRun, parent: ParentRun) -> dict[str, Any]:
        request = {
            "experiment_id": parent.experiment_id,
            "run_name": run_name(run),
            "start_time": to_milliseconds(run.started),
            "tags": key_values(self._start_tags(with_artifact_names(run), parent)),
        }
        return dict(self.rest.post("runs/create", request)["run"]["info"])

    def _start_tags(self, run: StepRun, parent: ParentRun) -> dict[str, str]:
        tags = {
            **step_tags(run, self._parents.nesting_run(run, parent)),
            "zen.record": f"{self._root}/{record_key(run.id)}",
            "mlflow.note.content": run_description(run, parent.experiment_id, parent.run_id),
        }
        return {key: value for key, value in tags.items() if value}

    def _prefetch(
        self, run: StepRun, parent: ParentRun, run_id: str, sent: Mapping[str, str], checked: Future[ParentRun]
    ) -> PrefetchResult:
        named = with_artifact_names(run)
        tags = self._start_tags(named, parent)
        new = {key: value for key, value in tags.items() if sent.get(key) != value}
        is_sent = not run.is_hit and self._send_parameters(run.parameters, run_id, new)
        active = checked.result()
        if active != parent:
            self.rest.post(
                "runs/set-tag",
                {"run_id": run_id, "key": "mlflow.parentRunId", "value": self._parents.nesting_run(run, active)},
            )
        if self._parents.take_created(active):
            self._send_parameters(run.dag_run_parameters, active.run_id, {})
        found = self._models.prefetch(named, active.experiment_id)
        return replace(found, tags=tags if is_sent else sent, has_parameters=is_sent)

    def _send_parameters(self, parameters: Mapping[str, Any], run_id: str, tags: Mapping[str, str]) -> bool:
        """Send parameters and tags at the start of a run; return False where they must be sent at its end."""
        try:
            send(parameter_requests(parameters, run_id, tags), self.rest)
        except MlflowRejected as error:
            log.debug("The parameters of %s are sent later: %s", run_id, error)
            return False
        return True

    def _send_all(
        self,
        run: StepRun,
        experiment_id: str,
        run_id: str,
        look_up: Callable[[], PrefetchResult],
        replay_timeout: float,
        resume: bool = False,
    ) -> None:
        """Send everything, the end state last; a part that is refused does not stop the others.

        What user code logged is sent first, within `replay_timeout` seconds, so that its parameters keep their names.
        All requests use one connection: a second one was measured to gain nothing.
        """
        errors: list[Exception] = []

        def attempt(part: Callable[[], Any]) -> Any:
            try:
                return part()
            except Exception as error:  # noqa: BLE001 - raised after the other parts
                return errors.append(error)

        if replay_timeout:
            attempt(partial(self._replay.send, run.id, run_id, experiment_id, replay_timeout))
        prefetched = attempt(look_up) or PrefetchResult()
        note = run_description(run, experiment_id, self._parents.get_or_create(run).run_id)
        described = {**metadata_tags(run), **end_tags(run), "mlflow.note.content": note}
        tags = {key: value for key, value in described.items() if value and prefetched.tags.get(key) != value}
        attempt(partial(send, value_requests(run, run_id, tags, prefetched.has_parameters), self.rest))
        attempt(partial(send, dataset_requests(run, run_id, prefetched), self.rest))
        attempt(partial(self._models.log_step_models, run, experiment_id, run_id, prefetched, resume))
        attempt(partial(send, [end_request(run, run_id)], self.rest))
        if errors:
            raise errors[0]

    def _warn(self, run: StepRun, error: Exception) -> None:
        """Log, once per process and cause, that a part of a run is missing in MLflow."""
        if str(error) in self._warned:
            return
        self._warned.add(str(error))
        log.warning(
            "MLflow does not have all of %s; its record is kept, and `airflow zen lineage sync` sends it. %s",
            run.id,
            error,
            exc_info=None if isinstance(error, ZenError) else error,
        )


def read_previews(run: StepRun, previews: PreviewStore) -> dict[str, bytes]:
    """Read the stored previews of a run's outputs."""
    outputs = islice(run.outputs.items(), MAX_PREVIEWED_OUTPUTS)
    return preview_files({output: previews.get(ref.digest) for output, ref in outputs})


def _mlflow_client() -> Any:
    """Return the module `tracking_store` if MLflow's client has loaded it; otherwise None."""
    return sys.modules.get("airflow_zen.lineage.mlflow.offline.tracking_store")


def _end_user_runs(relay: Relay, client_state: Any, status: str, environment: Mapping[str, str]) -> None:
    """End the runs that user code left open, restore the state of MLflow's client, and stop the relay.

    environment: that of the user's function. client_state: the state of the client before it.
    """
    try:
        if client := _mlflow_client():
            with temporary_environment({**environment, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}):
                client.leave_step(client_state, relay.run_ids(), status)
        # joblib's workers outlive the step, and would log into it for the next step of this process. Its public function
        # starts two processes where there are none.
        loky = sys.modules.get("joblib.externals.loky.reusable_executor")
        if loky and loky._executor:  # noqa: SLF001
            loky._executor.shutdown(wait=False)  # noqa: SLF001
        relay.end_runs(status)
    except Exception as error:  # noqa: BLE001 - whatever MLflow's client raises, our own end state follows
        log.debug("MLflow's client could not end the runs of the step's code: %s", error)
    relay.close()


def _keep_outbox(replay: Replay, run: StepRun, directory: Path) -> None:
    """Store the outbox of a killed process, with the ends of the runs that its code had started."""
    outbox = Outbox(directory / _OUTBOX)
    if run.state is StepState.KILLED:
        outbox.end_runs(to_milliseconds(run.end_time))
    replay.keep(run.id, outbox)
