"""Write step runs into MLflow: one experiment per DAG, one run per DAG run, a nested run per try of a task."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from airflow_zen.artifacts.parallel import in_parallel
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.transport import Transport, normalise_root
from airflow_zen.errors import ZenError
from airflow_zen.lineage.datasets import datasets
from airflow_zen.lineage.limits import batches
from airflow_zen.lineage.models import Models, is_model
from airflow_zen.lineage.names import end_tags, quoted, run_name, step_tags
from airflow_zen.lineage.note import note
from airflow_zen.lineage.parameters import entries, flat
from airflow_zen.lineage.parents import Parent, Parents
from airflow_zen.lineage.preparation import Preparation, summary_of, undescribed
from airflow_zen.lineage.recorder import Opened
from airflow_zen.lineage.records import record_key
from airflow_zen.lineage.refusals import MlflowRefused
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.lineage.step_run import StepRun, StepRunId
from airflow_zen.lineage.user_client import end_user_run

log = logging.getLogger("airflow_zen.lineage")


class MlflowRecorder:
    """Record step runs in MLflow, opened before and closed after the user's function.

    `transport` and `artifact_root` are those of the artifact store. Nothing is raised into the step:
    a server that is away or refuses costs one bounded wait and one warning per process, and `finish`
    returns False, so that the step run record is kept as undelivered.
    """

    def __init__(self, rest: MlflowRest, transport: Transport, artifact_root: str) -> None:
        self.rest = rest
        self._transport = transport
        self._root = normalise_root(artifact_root)
        self._parents = Parents(rest, transport, self._root)
        self._models = Models(rest, transport, self._root)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="airflow-zen-lineage")
        self._preparing: dict[StepRunId, Future[Preparation]] = {}
        self._warned: set[str] = set()

    def start(self, run: StepRun) -> Opened:
        """Open the nested run: one request, after those that the first task of a DAG run needs.

        What else must be looked up is looked up while the user's function runs.
        """
        try:
            parent, run_id = self._open(run, self._parents.of(run))
        except Exception as error:  # noqa: BLE001 - lineage never fails a step
            self._warn(run, error)
            return Opened(environment=self.rest.server.patience())
        self._preparing[run.id] = self._pool.submit(self._prepare, run, parent, run_id)
        return self._opened(parent.experiment_id, run_id)

    def finish(self, run: StepRun, opened: Opened) -> bool:
        """Send parameters, artifacts, models and the end state; False when any of it may be missing."""
        preparing = self._preparing.pop(run.id, None)
        if not opened.run_id:
            return False
        try:
            end_user_run(opened.run_id, run.state, opened.environment)
        except Exception as error:  # noqa: BLE001 - whatever MLflow's client raises, our own end state follows
            log.debug("MLflow's client could not end run %s: %s", opened.run_id, error)
        try:
            experiment_id = opened.environment["MLFLOW_EXPERIMENT_ID"]
            prepared = preparing.result() if preparing else self._look_up(_named(run), experiment_id)
            self._send(_named(run), experiment_id, opened.run_id, prepared)
        except Exception as error:  # noqa: BLE001 - lineage never fails a step
            self._warn(run, error)
            return False
        return True

    def replay(self, run: StepRun) -> None:
        """Bring MLflow to what a finished record says, whatever part of it MLflow has.

        Raises `LineageError` when the server is away or refuses.
        """
        parent = self._parents.confirm(run, self._parents.of(run), reopen=False)
        run_id = self._find(run, parent)
        if run_id is None:
            parent, run_id = self._open(run, parent)
        run = _named(run)
        self._send(run, parent.experiment_id, run_id, self._look_up(run, parent.experiment_id), again=True)

    def _opened(self, experiment_id: str, run_id: str) -> Opened:
        server = self.rest.server
        ids = {"MLFLOW_RUN_ID": run_id, "MLFLOW_EXPERIMENT_ID": experiment_id}
        return Opened(run_id, server.run_url(experiment_id, run_id), {**server.environment(), **ids})

    def _open(self, run: StepRun, parent: Parent) -> tuple[Parent, str]:
        """Make the nested run; when its experiment turns out to be gone, or another's, heal and try once more."""
        try:
            info = self._create(run, parent)
        except MlflowRefused as error:
            if error.status not in {400, 404}:
                raise
        else:
            if parent.holds(info["artifact_uri"]):
                return parent, str(info["run_id"])
            self.rest.post("runs/delete", {"run_id": info["run_id"]})
        parent = self._parents.heal(run, parent)
        return parent, str(self._create(run, parent)["run_id"])

    def _create(self, run: StepRun, parent: Parent) -> dict[str, Any]:
        tags = step_tags(_named(run), parent.run_id)
        tags["zen.record"] = f"{self._root}/{record_key(run.id)}"
        tags["mlflow.note.content"] = note(_named(run), parent.experiment_id)
        request = {
            "experiment_id": parent.experiment_id,
            "run_name": run_name(run),
            "start_time": _milliseconds(run.started),
            "tags": [tag for tag in entries(tags) if tag["value"]],
        }
        return dict(self.rest.post("runs/create", request)["run"]["info"])

    def _find(self, run: StepRun, parent: Parent) -> str | None:
        request = {
            "experiment_ids": [parent.experiment_id],
            "filter": f"tags.`zen.key` = {quoted(str(run.id))}",
            "max_results": 1,
        }
        runs = self.rest.post("runs/search", request).get("runs", [])
        return str(runs[0]["info"]["run_id"]) if runs else None

    def _prepare(self, run: StepRun, parent: Parent, run_id: str) -> Preparation:
        living = self._parents.confirm(run, parent)
        if living != parent:
            tag = {"run_id": run_id, "key": "mlflow.parentRunId", "value": living.run_id}
            self.rest.post("runs/set-tag", tag)
        return self._look_up(_named(run), living.experiment_id)

    def _look_up(self, run: StepRun, experiment_id: str) -> Preparation:
        refs = [*run.inputs.values(), *(run.outputs.values() if run.cache == "hit" else ())]
        found = {ref.digest: self._models.find(ref, run, experiment_id) for ref in refs if is_model(ref)}
        return Preparation(
            summaries={ref.digest: summary_of(ref, self._transport, self._root) for ref in undescribed(run)},
            model_ids={digest: model_id for digest, model_id in found.items() if model_id},
        )

    def _send(self, run: StepRun, experiment_id: str, run_id: str, prepared: Preparation, again: bool = False) -> None:
        """Send everything that is independent at once, and the end state after it."""
        tags = {**end_tags(run), "mlflow.note.content": note(run, experiment_id)}
        work = [
            lambda: self._log_batches(run, run_id, tags),
            lambda: self._log_inputs(run, run_id, prepared),
            *self._model_work(run, experiment_id, run_id, prepared, again),
        ]
        try:
            in_parallel(lambda send: send(), work)
        finally:
            if not self.rest.away:
                self.rest.post("runs/update", _end(run, run_id))

    def _log_batches(self, run: StepRun, run_id: str, tags: Mapping[str, str]) -> None:
        parameters = flat(run.parameters)
        first, *rest = [*batches(entries(parameters))] or [[]]
        try:
            self._log_batch(run_id, params=first, metrics=_metrics(run), tags=entries(tags))
            for batch in rest:
                self._log_batch(run_id, params=batch)
        except MlflowRefused as error:
            if "already logged" not in str(error):
                raise
            self._log_batch(run_id, metrics=_metrics(run), tags=entries(tags))
            for batch in batches(entries(self._apart_from_users(parameters, run_id))):
                self._log_batch(run_id, params=batch)

    def _log_batch(self, run_id: str, **parts: list[dict[str, Any]]) -> None:
        self.rest.post("runs/log-batch", {"run_id": run_id, **{name: part for name, part in parts.items() if part}})

    def _apart_from_users(self, parameters: Mapping[str, str], run_id: str) -> dict[str, str]:
        """Rename the parameters that user code logged with other values: `depth` becomes `step.depth`."""
        data = self.rest.get("runs/get", {"run_id": run_id})["run"]["data"]
        taken = {entry["key"]: entry.get("value", "") for entry in data.get("params", [])}
        return {
            name if taken.get(name, value) == value else f"step.{name}": value for name, value in parameters.items()
        }

    def _log_inputs(self, run: StepRun, run_id: str, prepared: Preparation) -> None:
        """Attach all artifacts: models known to MLflow as models, everything else as datasets."""
        models = {prepared.model_ids[ref.digest]: None for ref in run.inputs.values() if _known(ref, prepared)}
        inputs = [ref for ref in run.inputs.values() if not _known(ref, prepared)]
        outputs = [ref for ref in run.outputs.values() if not is_model(ref) or _lost(ref, run, prepared)]
        body: dict[str, Any] = {
            "datasets": datasets(inputs, outputs, {**prepared.summaries, **run.summaries}),
            "models": [{"model_id": model_id} for model_id in models],
        }
        if any(body.values()):
            self.rest.post("runs/log-inputs", {"run_id": run_id, **body})

    def _model_work(
        self, run: StepRun, experiment_id: str, run_id: str, prepared: Preparation, again: bool
    ) -> Iterator[Callable[[], object]]:
        """Give what is to be done for model outputs: attach those that a hit reused, enter new ones."""
        outputs = [name for name, ref in run.outputs.items() if is_model(ref)]
        if run.cache == "hit":
            known = [prepared.model_ids[run.outputs[o].digest] for o in outputs if _known(run.outputs[o], prepared)]
            if known:
                yield lambda: self._models.attach(run_id, known)
        elif outputs:
            # One after the other: two versions of one registered model are numbered in this order.
            yield lambda: [self._models.record(run, output, experiment_id, run_id, again) for output in outputs]

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


def _known(ref: ArtifactRef, prepared: Preparation) -> bool:
    return ref.digest in prepared.model_ids


def _lost(ref: ArtifactRef, run: StepRun, prepared: Preparation) -> bool:
    """Tell whether a reused model was never entered into this MLflow, and is thus shown as a dataset."""
    return run.cache == "hit" and not _known(ref, prepared)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _metrics(run: StepRun) -> list[dict[str, Any]]:
    ended = run.started if run.ended is None else run.ended
    values = {"zen.seconds": round(ended - run.started, 3)}
    if run.cache != "hit" and run.outputs:
        values["zen.output_bytes"] = float(sum(ref.size for ref in run.outputs.values()))
    return [metric(key, value, _milliseconds(ended)) for key, value in values.items()]


def metric(key: str, value: float, timestamp: int) -> dict[str, Any]:
    """Write one metric; JSON has no number for NaN and the infinities, so they travel as text."""
    written: float | str = value
    if not math.isfinite(value):
        written = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return {"key": key, "value": written, "timestamp": timestamp, "step": 0}


def _end(run: StepRun, run_id: str) -> dict[str, Any]:
    end: dict[str, Any] = {"run_id": run_id, "status": str(run.state)}
    if run.ended is not None:
        end["end_time"] = _milliseconds(run.ended)
    if run.label:
        end["run_name"] = run_name(run)
    return end
