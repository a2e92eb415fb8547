"""Publish the lineage graph of a DAG run on its parent run in MLflow."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

from airflow_zen.errors import SettingsError
from airflow_zen.lineage.graph.html import render_html, render_json
from airflow_zen.lineage.graph.markdown import GRAPH_FOLDER, dag_run_description, render_markdown
from airflow_zen.lineage.graph.model import build_graph
from airflow_zen.lineage.graph.otlp import render_otlp
from airflow_zen.lineage.graph.svg import render_svg
from airflow_zen.lineage.mlflow.dag_runs import MlflowDagRun, find_dag_run
from airflow_zen.lineage.mlflow.datasets import dataset_inputs
from airflow_zen.lineage.mlflow.encoding import key_value_entries, metric_entry, to_milliseconds
from airflow_zen.lineage.mlflow.log_step import link_model_metrics
from airflow_zen.lineage.mlflow.models import LoggedModels
from airflow_zen.lineage.mlflow.run_files import put_run_files
from airflow_zen.lineage.savings import totals_of_dag_run

if TYPE_CHECKING:
    from airflow_zen.lineage.graph.model import Graph
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.runs.records import StepRunRecords
    from airflow_zen.runs.step_run import StepRun
    from airflow_zen.transports.base import Transport

log = logging.getLogger("airflow_zen.lineage")

# How many of a kind are shown side by side before they are shown as one.
_COLLAPSE_IN_SVG, _COLLAPSE_ON_PAGE, _COLLAPSE_IN_JSON = 3, 50, 1_000_000

_MAX_INPUTS = 50


@dataclass(frozen=True)
class GraphPublisher:
    """Publish the graphs of DAG runs; `log_traces` adds the lineage trace, which MLflow draws itself."""

    rest: MlflowRest
    records: StepRunRecords
    transport: Transport
    root: str
    log_traces: bool = True

    def publish(self, dag_id: str, run_id: str) -> bool:
        """Publish the graph of one DAG run from its records; return False where MLflow or the store has none.

        Publishing again replaces the graph. Raises `LineageError` when MLflow is unavailable or rejects a request.
        """
        dag_run = find_dag_run(dag_id, run_id, self.rest)
        if dag_run is None:
            return False
        runs = [*self.records.read_dag_run(dag_id, run_id)]
        runs += dag_run.unrecorded_steps({run.id for run in runs})
        if not runs:
            return False
        has_graph = self._put_files(dag_run, runs)
        self._log_description(dag_run, runs, has_graph)
        self._log_inputs_and_models(dag_run, runs)
        link_model_metrics(dag_run, runs, LoggedModels(self.rest, self.transport, self.root))
        if self.log_traces:
            self._send_trace(dag_run, runs)
        return True

    def _put_files(self, dag_run: MlflowDagRun, runs: Sequence[StepRun]) -> bool:
        """Store all renderings; return False where the experiment's files cannot be written."""
        contents = {
            "lineage.svg": render_svg(self._graph(dag_run, runs, _COLLAPSE_IN_SVG)),
            "lineage.html": render_html(self._graph(dag_run, runs, _COLLAPSE_ON_PAGE, absolute=True)),
            "lineage.md": render_markdown(self._graph(dag_run, runs, _COLLAPSE_ON_PAGE)),
            "lineage.json": render_json(self._graph(dag_run, runs, _COLLAPSE_IN_JSON, absolute=True)),
        }
        files = {f"{GRAPH_FOLDER}/{name}": text.encode(errors="replace") for name, text in contents.items()}
        try:
            put_run_files(dag_run.artifact_uri, files, self.transport, self.root, self.rest)
        except SettingsError as error:
            log.warning("MLflow cannot show the graph of %s/%s: %s", dag_run.dag_id, dag_run.run_id, error)
            return False
        return True

    def _graph(
        self, dag_run: MlflowDagRun, runs: Sequence[StepRun], collapse_above: int, *, absolute: bool = False
    ) -> Graph:
        pages = dag_run.page_urls(self.rest.server.ui) if absolute else dag_run.page_urls()
        return build_graph(dag_run.dag_id, dag_run.run_id, runs, pages, collapse_above)

    def _log_description(self, dag_run: MlflowDagRun, runs: Sequence[StepRun], has_graph: bool) -> None:
        graph = self._graph(dag_run, runs, _COLLAPSE_IN_SVG)
        note = dag_run_description(graph, dag_run.parent, _airflow_url(runs), has_graph)
        tags = {"mlflow.note.content": note, "zen.airflow_url": _airflow_url(runs)}
        at = to_milliseconds(_time_span(runs)[1])
        metrics = [metric_entry(name, value, at) for name, value in _dag_run_metrics(dag_run, runs).items()]
        written = key_value_entries({key: value for key, value in tags.items() if value})
        self.rest.post("runs/log-batch", {"run_id": dag_run.parent, "tags": written, "metrics": metrics})

    def _log_inputs_and_models(self, dag_run: MlflowDagRun, runs: Sequence[StepRun]) -> None:
        """Log on the parent run the inputs that no step of the DAG run made, and the models that steps made."""
        made = {ref.digest for run in runs for ref in run.outputs.values()}
        inputs = {ref.digest: ref for run in runs for ref in run.inputs.values() if ref.digest not in made and ref.name}
        listed = dataset_inputs(islice(inputs.values(), _MAX_INPUTS), (), {})
        if listed:
            self.rest.post("runs/log-inputs", {"run_id": dag_run.parent, "datasets": listed})
        for model_id in islice(chain.from_iterable(dag_run.models.values()), _MAX_INPUTS):
            LoggedModels(self.rest, self.transport, self.root).log_outputs(dag_run.parent, [model_id])

    def _send_trace(self, dag_run: MlflowDagRun, runs: Sequence[StepRun]) -> None:
        graph = self._graph(dag_run, runs, _COLLAPSE_IN_SVG, absolute=True)
        spans = render_otlp(graph, dag_run.experiment_id, dag_run.parent, *_time_span(runs))
        if spans is not None:
            self.rest.send_trace(spans, dag_run.experiment_id, dag_run.parent)


def _time_span(runs: Sequence[StepRun]) -> tuple[float, float]:
    started = min(run.started for run in runs)
    return started, max(run.end_time for run in runs)


def _dag_run_metrics(dag_run: MlflowDagRun, runs: Sequence[StepRun]) -> Mapping[str, float]:
    """Return the metrics of a DAG run for MLflow's table; of the tries of a task the last one counts."""
    started, ended = _time_span(runs)
    totals = totals_of_dag_run(dag_run.dag_id, dag_run.run_id, runs)
    return {
        "zen.seconds": round(ended - started, 3),
        "zen.seconds_saved": round(totals.seconds_saved, 3),
        "zen.steps": float(totals.steps),
        "zen.steps_cached": float(totals.reused),
        "zen.steps_failed": float(totals.failed),
    }


def _airflow_url(runs: Sequence[StepRun]) -> str:
    """Return the DAG run's page in Airflow, with which the URL of every task's log begins."""
    urls = (run.log_url.partition("/tasks/") for run in runs)
    return next((page.replace(")", "%29").replace(" ", "%20") for page, tasks, _ in urls if tasks), "")
