"""Show the lineage graph of a DAG run on its parent run in MLflow."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from airflow_zen.artifacts.transport import Transport
from airflow_zen.errors import SettingsError
from airflow_zen.lineage.datasets import datasets
from airflow_zen.lineage.evaluation import link_metrics
from airflow_zen.lineage.graph.build import graph_of
from airflow_zen.lineage.graph.document import document
from airflow_zen.lineage.graph.html import html
from airflow_zen.lineage.graph.markdown import markdown
from airflow_zen.lineage.graph.parent_note import FOLDER, parent_note
from airflow_zen.lineage.graph.svg import svg
from airflow_zen.lineage.graph.trace import trace
from airflow_zen.lineage.known import KnownRun, known_run
from airflow_zen.lineage.metrics import metric, milliseconds
from airflow_zen.lineage.models import Models
from airflow_zen.lineage.parameters import entries
from airflow_zen.lineage.records import StepRunRecords
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.lineage.run_files import put_files
from airflow_zen.lineage.step_run import StepRun
from airflow_zen.lineage.totals import totals_of

log = logging.getLogger("airflow_zen.lineage")

# How many of a kind stand side by side before they are shown as one: in a picture, on a page, in a document.
_IN_PICTURE, _ON_PAGE, _IN_DOCUMENT = 3, 50, 1_000_000

_MOST_INPUTS = 50


@dataclass(frozen=True)
class Publisher:
    """Draw DAG runs; `traced` asks for the lineage trace, which MLflow draws itself."""

    rest: MlflowRest
    records: StepRunRecords
    transport: Transport
    root: str
    traced: bool = True

    def publish(self, dag_id: str, run_id: str) -> bool:
        """Draw one DAG run as its records tell it; False where MLflow or the store knows nothing of it.

        Doing it again replaces what was drawn before. Raises `LineageError` when MLflow is away or refuses.
        """
        known = known_run(dag_id, run_id, self.rest)
        if known is None:
            return False
        runs = [*self.records.of(dag_id, run_id)]
        runs += known.unrecorded({run.id for run in runs})
        if not runs:
            return False
        pictured = self._put_files(known, runs)
        self._describe(known, runs, pictured)
        self._attach(known, runs)
        link_metrics(known, runs, Models(self.rest, self.transport, self.root))
        if self.traced:
            self._trace(known, runs)
        return True

    def _put_files(self, known: KnownRun, runs: Sequence[StepRun]) -> bool:
        """Store all renderings; False where the experiment's files lie out of reach."""
        dag, near, far = (known.dag_id, known.run_id), known.pages(), known.pages(self.rest.server.ui)
        contents = {
            "lineage.svg": svg(graph_of(*dag, runs, near, _IN_PICTURE)),
            "lineage.html": html(graph_of(*dag, runs, far, _ON_PAGE)),
            "lineage.md": markdown(graph_of(*dag, runs, near, _ON_PAGE)),
            "lineage.json": document(graph_of(*dag, runs, far, _IN_DOCUMENT)),
        }
        files = {f"{FOLDER}/{name}": text.encode(errors="replace") for name, text in contents.items()}
        try:
            put_files(known.artifact_uri, files, self.transport, self.root, self.rest)
        except SettingsError as error:
            log.warning("MLflow cannot show the graph of %s/%s: %s", known.dag_id, known.run_id, error)
            return False
        return True

    def _describe(self, known: KnownRun, runs: Sequence[StepRun], pictured: bool) -> None:
        graph = graph_of(known.dag_id, known.run_id, runs, known.pages(), _IN_PICTURE)
        note = parent_note(graph, known.parent, _airflow_url(runs), pictured)
        tags = {"mlflow.note.content": note, "zen.airflow_url": _airflow_url(runs)}
        at = milliseconds(_span(runs)[1])
        metrics = [metric(name, value, at) for name, value in _numbers(known, runs).items()]
        written = entries({key: value for key, value in tags.items() if value})
        self.rest.post("runs/log-batch", {"run_id": known.parent, "tags": written, "metrics": metrics})

    def _attach(self, known: KnownRun, runs: Sequence[StepRun]) -> None:
        """Show on the line of the DAG run what came in from elsewhere, and the models that were made."""
        made = {ref.digest for run in runs for ref in run.outputs.values()}
        inputs = {ref.digest: ref for run in runs for ref in run.inputs.values() if ref.digest not in made and ref.name}
        listed = datasets(islice(inputs.values(), _MOST_INPUTS), (), {})
        if listed:
            self.rest.post("runs/log-inputs", {"run_id": known.parent, "datasets": listed})
        for model_id in islice(chain.from_iterable(known.models.values()), _MOST_INPUTS):
            Models(self.rest, self.transport, self.root).attach(known.parent, [model_id])

    def _trace(self, known: KnownRun, runs: Sequence[StepRun]) -> None:
        graph = graph_of(known.dag_id, known.run_id, runs, known.pages(self.rest.server.ui), _IN_PICTURE)
        spans = trace(graph, known.experiment_id, known.parent, *_span(runs))
        if spans is not None:
            self.rest.send_trace(spans, known.experiment_id, known.parent)


def _span(runs: Sequence[StepRun]) -> tuple[float, float]:
    started = min(run.started for run in runs)
    return started, max(run.started if run.ended is None else run.ended for run in runs)


def _numbers(known: KnownRun, runs: Sequence[StepRun]) -> Mapping[str, float]:
    """Count what one line of MLflow's table should tell about a DAG run; of a task's tries the last counts."""
    started, ended = _span(runs)
    totals = totals_of(known.dag_id, known.run_id, runs)
    return {
        "zen.seconds": round(ended - started, 3),
        "zen.seconds_saved": round(totals.seconds_saved, 3),
        "zen.steps": float(totals.steps),
        "zen.steps_cached": float(totals.reused),
        "zen.steps_failed": float(totals.failed),
    }


def _airflow_url(runs: Sequence[StepRun]) -> str:
    """Give the DAG run's page, which the address of every task's log begins with."""
    urls = (run.log_url.partition("/tasks/") for run in runs)
    return next((page.replace(")", "%29").replace(" ", "%20") for page, tasks, _ in urls if tasks), "")
