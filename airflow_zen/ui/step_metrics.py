"""What MLflow adds to step runs: their metrics and the addresses of their pages; a page waits for it a few seconds only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.errors import ZenError

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.runs.step_run import StepRun
    from airflow_zen.ui.stacks import OpenedStack

_HIDDEN_METRICS = ("zen.",)


class StepMetrics(msgspec.Struct, frozen=True):
    """The metrics of a step run, and its page in MLflow; empty where MLflow does not have it, or does not answer."""

    values: Mapping[str, float] = {}
    url: str = ""


def read_step_metrics(opened: OpenedStack, run: StepRun) -> StepMetrics:
    """Read the metrics of one step run."""
    from airflow_zen.lineage.mlflow.tags import quote_filter_value

    found = _search(opened, run.id.dag_id, f"tags.`zen.key` = {quote_filter_value(str(run.id))}")
    return found.get((run.id.map_index, run.id.try_number), StepMetrics())


def read_task_metrics(opened: OpenedStack, dag_id: str, run_id: str, task_id: str) -> dict[int, StepMetrics]:
    """Read the metrics of the latest tries of a task's instances in a DAG run, by map index."""
    from airflow_zen.lineage.mlflow.tags import quote_filter_value

    run, task = quote_filter_value(run_id), quote_filter_value(task_id)
    found = _search(opened, dag_id, f"tags.`zen.run_id` = {run} AND tags.`zen.task_id` = {task}")
    return {map_index: found[map_index, number] for map_index, number in sorted(found)}


def _search(opened: OpenedStack, dag_id: str, condition: str) -> dict[tuple[int, int], StepMetrics]:
    """Search the runs of a DAG's experiment; return what they have by map index and try number."""
    from airflow_zen.lineage.mlflow.dag_runs import tags_to_dict
    from airflow_zen.lineage.mlflow.parent_runs import find_experiment
    from airflow_zen.runs.step_run import StepRunId

    rest = opened.mlflow
    if rest is None:
        return {}
    found: dict[tuple[int, int], StepMetrics] = {}
    try:
        experiment = find_experiment(dag_id, rest)
        for run in rest.search_runs(experiment.id, condition) if experiment and not experiment.deleted else ():
            if key := tags_to_dict(run["data"]).get("zen.key"):
                id_ = StepRunId.parse(key)
                found[id_.map_index, id_.try_number] = _metrics_of(run, rest)
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
