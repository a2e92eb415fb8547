"""What MLflow adds to step runs: their metrics and the addresses of their pages; a page waits for it a few seconds only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.errors import ZenError

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.runs.step_run import StepRun, StepRunId
    from airflow_zen.ui.stacks import OpenedStack

_HIDDEN_METRICS = ("zen.",)
_LATEST_FIRST = "attributes.start_time DESC"
_MAX_TASKS, _MAX_RUNS = 20, 300


class StepMetrics(msgspec.Struct, frozen=True):
    """The metrics of a step run, and its page in MLflow; empty where MLflow does not have it, or does not answer."""

    values: Mapping[str, float] = {}
    url: str = ""


def read_step_metrics(opened: OpenedStack, run: StepRun) -> StepMetrics:
    """Read the metrics of one step run."""
    from airflow_zen.lineage.mlflow.tags import quote_filter_value

    found = _search(opened, run.id.dag_id, f"tags.`zen.key` = {quote_filter_value(str(run.id))}")
    return found.get(run.id, StepMetrics())


def read_task_metrics(opened: OpenedStack, dag_id: str, run_id: str, task_id: str) -> dict[int, StepMetrics]:
    """Read the metrics of the latest tries of a task's instances in a DAG run, by map index."""
    from airflow_zen.lineage.mlflow.tags import quote_filter_value

    run, task = quote_filter_value(run_id), quote_filter_value(task_id)
    found = _search(opened, dag_id, f"tags.`zen.run_id` = {run} AND tags.`zen.task_id` = {task}")
    in_order = sorted(found, key=lambda id_: (id_.map_index, id_.try_number))
    return {id_.map_index: found[id_] for id_ in in_order if (id_.run_id, id_.task_id) == (run_id, task_id)}


def read_version_metrics(opened: OpenedStack, dag_id: str, origins: Iterable[str]) -> dict[str, StepMetrics]:
    """Read the metrics of the step runs that made versions, `origins`, by those; of each task the latest runs."""
    from airflow_zen.lineage.mlflow.tags import quote_filter_value

    wanted = {id_.task_id for origin in origins if (id_ := _parse(origin)) and id_.dag_id == dag_id}
    found: dict[str, StepMetrics] = {}
    for task_id in sorted(wanted)[:_MAX_TASKS]:
        runs = _search(opened, dag_id, f"tags.`zen.task_id` = {quote_filter_value(task_id)}", _MAX_RUNS)
        found |= {str(id_): metrics for id_, metrics in runs.items()}
    return found


def _parse(origin: str) -> StepRunId | None:
    from airflow_zen.runs.step_run import StepRunId

    try:
        return StepRunId.parse(origin)
    except ValueError:
        return None


def _search(opened: OpenedStack, dag_id: str, condition: str, limit: int | None = None) -> dict[StepRunId, StepMetrics]:
    """Search the runs of a DAG's experiment, the latest first; return what they have by step run."""
    from airflow_zen.lineage.mlflow.dag_runs import tags_to_dict
    from airflow_zen.lineage.mlflow.parent_runs import find_experiment

    rest = opened.mlflow
    if rest is None:
        return {}
    found: dict[StepRunId, StepMetrics] = {}
    try:
        experiment = find_experiment(dag_id, rest)
        if experiment is None or experiment.deleted:
            return found
        for run in islice(rest.search_runs(experiment.id, condition, _LATEST_FIRST), limit):
            if id_ := _parse(tags_to_dict(run["data"]).get("zen.key", "")):
                found[id_] = _metrics_of(run, rest)
    except ZenError:
        return found
    return found


def _metrics_of(run: Mapping[str, Any], rest: MlflowRest) -> StepMetrics:
    info = run["info"]
    values = {
        metric["key"]: float(metric["value"])
        for metric in run["data"].get("metrics", [])
        if not metric["key"].startswith(_HIDDEN_METRICS) and math.isfinite(float(metric["value"]))
    }
    return StepMetrics(values, rest.server.run_url(str(info["experiment_id"]), info["run_id"]))
