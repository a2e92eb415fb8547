"""Send what a step run is made of besides artifacts: parameters, metrics, tags, and its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.lineage.limits import split_batches
from airflow_zen.lineage.masking import mask_secrets
from airflow_zen.lineage.metrics import metric_entry, to_milliseconds
from airflow_zen.lineage.names import run_name
from airflow_zen.lineage.parameters import flatten_parameters, key_value_entries
from airflow_zen.lineage.refusals import MlflowRejected
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.lineage.step_metadata import metadata_metrics
from airflow_zen.lineage.step_run import StepRun
from airflow_zen.lineage.totals import seconds_saved

# A request may hold 1000 metrics, parameters and tags together.
_METRICS_PER_REQUEST = 700


def log_step_values(run: StepRun, run_id: str, tags: Mapping[str, str], rest: MlflowRest) -> None:
    """Send parameters, metrics and tags: one request, and another for every further 100 of a kind.

    MLflow never changes a parameter. Where user code or autologging wrote another value under the same
    name, theirs stays, and ours becomes `step.<name>`.
    """
    parameters = flatten_parameters(mask_secrets(run.parameters))
    try:
        _log_batches(parameters, run, run_id, tags, rest)
    except MlflowRejected as error:
        if "already logged" not in str(error):
            raise
        _log_batches(_rename_conflicting(parameters, run_id, rest), run, run_id, tags, rest)


def log_end_state(run: StepRun, run_id: str, rest: MlflowRest) -> None:
    """Give a run its end state and time, and its name anew where a label came late."""
    end: dict[str, Any] = {"run_id": run_id, "status": str(run.state)}
    if run.ended is not None:
        end["end_time"] = to_milliseconds(run.ended)
    if run.label:
        end["run_name"] = run_name(run)
    rest.post("runs/update", end)


def _log_batches(
    parameters: Mapping[str, str], run: StepRun, run_id: str, tags: Mapping[str, str], rest: MlflowRest
) -> None:
    metrics = _step_metrics(run)
    parts = {
        "params": list(split_batches(key_value_entries(parameters))),
        "tags": list(split_batches(key_value_entries(tags))),
        "metrics": [
            metrics[first : first + _METRICS_PER_REQUEST] for first in range(0, len(metrics), _METRICS_PER_REQUEST)
        ],
    }
    for number in range(max(map(len, parts.values()))):
        body = {kind: part[number] for kind, part in parts.items() if number < len(part)}
        rest.post("runs/log-batch", {"run_id": run_id, **body})


def _step_metrics(run: StepRun) -> list[dict[str, Any]]:
    ended = run.started if run.ended is None else run.ended
    values = {"zen.seconds": round(ended - run.started, 3)}
    if run.cache != "hit" and run.outputs:
        values["zen.output_bytes"] = float(sum(ref.size for ref in run.outputs.values()))
    if run.cache == "hit":
        values["zen.seconds_saved"] = round(seconds_saved(run), 3)
    values |= metadata_metrics(run)
    return [metric_entry(key, value, to_milliseconds(ended)) for key, value in values.items()]


def _rename_conflicting(parameters: Mapping[str, str], run_id: str, rest: MlflowRest) -> dict[str, str]:
    data = rest.get("runs/get", {"run_id": run_id})["run"]["data"]
    taken = {entry["key"]: entry.get("value", "") for entry in data.get("params", [])}
    return {name if taken.get(name, value) == value else f"step.{name}": value for name, value in parameters.items()}
