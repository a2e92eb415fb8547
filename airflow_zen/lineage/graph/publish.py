"""Publish the lineage graph of a DAG run on its parent run in MLflow: page, JSON, Markdown, picture and trace."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict

from airflow_zen.errors import SettingsError
from airflow_zen.lineage.graph.model import Graph, Node, NodeKind, build_graph
from airflow_zen.lineage.graph.svg import STYLE, Drawing, lay_out_boxes, render_shapes, render_svg
from airflow_zen.lineage.mlflow.dag_runs import MlflowDagRun, find_dag_run, log_reused_metrics
from airflow_zen.lineage.mlflow.datasets import dataset_inputs
from airflow_zen.lineage.mlflow.description import PageUrls, padded_row
from airflow_zen.lineage.mlflow.encoding import ELLIPSIS, MAX_TAG_VALUE, key_values, metric_entries
from airflow_zen.lineage.mlflow.log_step import link_model_metrics, parameter_requests, send
from airflow_zen.lineage.mlflow.models import LoggedModels
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.run_files import put_run_files
from airflow_zen.lineage.savings import totals_of_dag_run
from airflow_zen.markup import escape_html, sanitize_text
from airflow_zen.runs.step_run import StepState

if TYPE_CHECKING:
    from airflow_zen.runs.records import StepRunRecords
    from airflow_zen.runs.step_run import StepRun
    from airflow_zen.transports.base import Transport

log = logging.getLogger("airflow_zen.lineage")

# How many of a kind are shown side by side before they are shown as one.
_COLLAPSE_IN_SVG, _COLLAPSE_ON_PAGE, _COLLAPSE_IN_JSON = 3, 50, 1_000_000

_MAX_INPUTS = 50

JSON_FORMAT_VERSION = 1
_PLACEHOLDER = re.compile("@([A-Z_]+)@")
GRAPH_FOLDER = "lineage"
# Common viewers do not draw a diagram of more nodes.
_MAX_DIAGRAM_NODES = 250
_MAX_LABELS = 4
_INVALID_DIAGRAM_CHARACTERS = re.compile(r"[^\w.\-/ \[\]×=,:·]")

# Span types of MLflow, which select the icon.
_SPAN_TYPES = {NodeKind.STEP: "TASK", NodeKind.ARTIFACT: "RETRIEVER", NodeKind.MODEL: "CHAT_MODEL"}
_MAX_SPANS = 2000
_FAILED = frozenset({StepState.FAILED, StepState.KILLED})


class GraphPublisher(msgspec.Struct, frozen=True):
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
        span = min(run.started for run in runs), max(run.end_time for run in runs)
        self._log_description(dag_run, runs, span, has_graph=self._put_files(dag_run, runs))
        self._log_inputs_and_models(dag_run, runs)
        self._log_parameters(dag_run, runs)
        link_model_metrics(dag_run, runs, LoggedModels(self.rest, self.transport, self.root))
        log_reused_metrics(dag_run, runs, self.rest)
        if self.log_traces:
            self._send_trace(dag_run, self._graph(dag_run, runs, _COLLAPSE_IN_SVG, absolute=True), span)
        return True

    def _log_parameters(self, dag_run: MlflowDagRun, runs: Sequence[StepRun]) -> None:
        """Log the DAG run's parameters where MLflow was away when its parent run was created."""
        parameters = next(filter(None, (run.dag_run_parameters for run in runs)), {})
        send([] if dag_run.has_parameters else parameter_requests(parameters, dag_run.parent), self.rest)

    def _send_trace(self, dag_run: MlflowDagRun, graph: Graph, span: tuple[float, float]) -> None:
        """Delete the trace and send it again: MLflow would keep the old state, and spans that are no longer sent."""
        trace_id = _trace_id(dag_run.experiment_id, dag_run.parent)
        if spans := render_otlp(graph, trace_id, *span, failed=dag_run.state in _FAILED):
            old = {"experiment_id": dag_run.experiment_id, "request_ids": [f"tr-{trace_id}"]}
            self.rest.post("traces/delete-traces", old)
            self.rest.send_trace(spans, dag_run.experiment_id, dag_run.parent)

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

    def _log_description(
        self, dag_run: MlflowDagRun, runs: Sequence[StepRun], span: tuple[float, float], *, has_graph: bool
    ) -> None:
        """Log the description and totals for MLflow's table; of the tries of a task the last one counts."""
        graph, url = self._graph(dag_run, runs, _COLLAPSE_IN_SVG), _airflow_url(runs)
        tags = {
            "mlflow.note.content": dag_run_description(graph, dag_run.page_urls(), dag_run.parent, url, has_graph),
            "zen.airflow_url": url,
        }
        totals = totals_of_dag_run(dag_run.dag_id, dag_run.run_id, runs)
        metrics = {
            "zen.seconds": round(span[1] - span[0], 3),
            "zen.seconds_saved": round(totals.seconds_saved, 3),
            "zen.steps": float(totals.steps),
            "zen.steps_cached": float(totals.reused),
            "zen.steps_failed": float(totals.failed),
        }
        written = key_values({key: value for key, value in tags.items() if value})
        logged = {"tags": written, "metrics": metric_entries(metrics, span[1])}
        self.rest.post("runs/log-batch", {"run_id": dag_run.parent, **logged})

    def _log_inputs_and_models(self, dag_run: MlflowDagRun, runs: Sequence[StepRun]) -> None:
        """Log on the parent run the inputs that no step of the DAG run made, and the models that steps made."""
        made = {ref.digest for run in runs for ref in run.outputs.values()}
        inputs = {ref.digest: ref for run in runs for ref in run.inputs.values() if ref.digest not in made and ref.name}
        listed = dataset_inputs(islice(inputs.values(), _MAX_INPUTS), (), {})
        if listed:
            self.rest.post("runs/log-inputs", {"run_id": dag_run.parent, "datasets": listed})
        for model_id in islice(chain.from_iterable(dag_run.models.values()), _MAX_INPUTS):
            LoggedModels(self.rest, self.transport, self.root).log_outputs(dag_run.parent, [model_id])


def _airflow_url(runs: Sequence[StepRun]) -> str:
    """Return the address of the DAG run's page in Airflow, which is the prefix of each task's log URL."""
    urls = (run.log_url.partition("/tasks/") for run in runs)
    return next((page.replace(")", "%29").replace(" ", "%20") for page, tasks, _ in urls if tasks), "")


def render_html(graph: Graph) -> str:
    """Return the page; its content security policy allows only the script whose hash it names, and no request."""
    drawing = lay_out_boxes(graph, horizontal=True)
    script = _read_resource("viewer.js")
    parts = {
        "TITLE": escape_html(f"{graph.dag_id} · {graph.run_id}"),
        "SHAPES_STYLE": STYLE,
        "SHAPES": render_shapes(drawing),
        "GRAPH": _viewer_json(drawing),
        "SCRIPT": script,
        "SCRIPT_HASH": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    # One pass, so that a placeholder in a user's text is not replaced.
    return _PLACEHOLDER.sub(lambda mark: parts[mark[1]], _read_resource("viewer.html"))


def render_json(graph: Graph) -> str:
    """Return nodes and edges as JSON."""
    return json.dumps({"airflow_zen": JSON_FORMAT_VERSION, **msgspec.to_builtins(graph)}, indent=1, ensure_ascii=False)


def _viewer_json(drawing: Drawing) -> str:
    """Return the graph for the script, as ASCII in which no text can end the element around it."""
    number = {placed.node.id: number for number, placed in enumerate(drawing.nodes)}
    document = {
        "nodes": [
            {**msgspec.to_builtins(placed.node), "box": {"x": placed.x, "y": placed.y, **asdict(placed.size)}}
            for placed in drawing.nodes
        ],
        "edges": [[number[route.edge.source], number[route.edge.target], route.edge.label] for route in drawing.routes],
        "size": asdict(drawing.size),
    }
    return json.dumps(document).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read_resource(name: str) -> str:
    return (files("airflow_zen.lineage.graph") / name).read_text("utf-8")


def render_markdown(graph: Graph) -> str:
    """Return the whole graph as one document."""
    title = f"# Lineage of {_cell(graph.dag_id)}\n\nDAG run {_cell(graph.run_id)}"
    head = ["| artifact | from | type | shape | digest |", "|---|---|---|---|---|"]
    listed = "\n".join([*head, *map(_artifact_row, graph.artifacts)])
    return f"{title}\n\n{steps_table(graph)}\n\n## Artifacts\n\n{listed}\n\n{_diagram(graph)}\n"


def steps_table(graph: Graph, max_length: int | None = None) -> str:
    """Return a table of the steps, each linked to its run.

    max_length: the maximum number of characters in a description. The rows of such a table are padded, and its last row
    counts the omitted steps.
    """
    row = padded_row if max_length else _row
    label = {node.id: node.label for node in graph.nodes}
    reads, makes = graph.edges_by("target"), graph.edges_by("source")
    rows = []
    for node in graph.steps:
        read = [label[edge.source] for edge in reads[node.id]]
        made = [label[edge.target] for edge in makes[node.id]]
        rows.append(row([_link(node), _cell(node.detail), _label_list(read), _label_list(made)]))
    head = [row(["step", "state", "reads", "makes"]), "|---|---|---|---|"]
    if max_length is not None:
        left = max_length - sum(map(len, head)) - 80
        shown = sum(end <= left for end in accumulate(len(row) + 1 for row in rows))
        if shown < len(rows):
            rows[shown:] = [f"| {ELLIPSIS} {len(rows) - shown} more, in `lineage/lineage.md` | | | |"]
    return "\n".join([*head, *rows])


def dag_run_description(graph: Graph, pages: PageUrls, run_id: str, airflow_url: str, has_graph: bool) -> str:
    """Return the description of a parent run, within MLflow's limit.

    The links and the table come first, because MLflow folds a long description. has_graph: whether MLflow has the
    graph's files.
    """
    links = {
        "Lineage graph": pages.run_url(f"{run_id}/artifacts/{GRAPH_FOLDER}/lineage.html") if has_graph else "",
        "DAG run in Airflow": airflow_url,
    }
    picture = f"![Lineage](get-artifact?path={GRAPH_FOLDER}/lineage.svg&run_uuid={run_id})" if has_graph else ""
    linked = " · ".join(f"[{text}]({url})" for text, url in links.items() if url)
    table = steps_table(graph, MAX_TAG_VALUE - len(linked) - len(picture) - 4)
    return "\n\n".join(filter(None, (linked, table, picture)))


def _link(node: Node) -> str:
    name = f"{_cell(node.label)}{' (model)' if node.kind is NodeKind.MODEL else ''}"
    return f"[{name}]({node.url})" if node.url else name


def _label_list(labels: Sequence[str]) -> str:
    shown, hidden = ", ".join(map(_cell, labels[:_MAX_LABELS])), len(labels) - _MAX_LABELS
    return f"{shown} {ELLIPSIS} {hidden} more" if hidden > 0 else shown


def _artifact_row(node: Node) -> str:
    facts = node.facts
    digest = f"`{facts['digest']}`" if "digest" in facts else _cell(facts.get("digests", ""))
    return _row([_link(node), *(_cell(facts.get(fact, "")) for fact in ("from", "type", "shape")), digest])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _diagram(graph: Graph) -> str:
    if len(graph.nodes) > _MAX_DIAGRAM_NODES:
        return f"{ELLIPSIS} The diagram of {len(graph.nodes)} nodes is in `lineage/lineage.html`."
    names, boxes = {node.id: f"n{number}" for number, node in enumerate(graph.nodes)}, []
    for node in graph.nodes:
        left, right = {NodeKind.STEP: ("[", "]"), NodeKind.MODEL: ("{{", "}}")}.get(node.kind, ("([", "])"))
        boxes.append(f'  {names[node.id]}{left}"{_INVALID_DIAGRAM_CHARACTERS.sub("_", node.label)}"{right}')
    arrows = [f"  {names[edge.source]} --> {names[edge.target]}" for edge in graph.edges]
    return "\n".join(["```mermaid", "flowchart TD", *boxes, *arrows, "```"])


def _cell(text: str) -> str:
    """Return a text for a cell of a table, without markup, links and line breaks."""
    line = " ".join(sanitize_text(text).split())
    return re.sub(r"([\\`*_{}\[\]<>()#!|~$])", r"\\\1", line).replace("&", "&amp;")


def _trace_id(experiment_id: str, parent_run_id: str) -> str:
    return hashlib.sha256(f"{experiment_id}/{parent_run_id}".encode()).hexdigest()[:32]


def render_otlp(graph: Graph, trace_id: str, started: float, ended: float, *, failed: bool) -> dict[str, Any] | None:
    """Return one trace as OTLP JSON for MLflow's own graph view, which merges spans by type and name.

    None where there is nothing to show, or more than MLflow's view can draw. Times are seconds since the epoch;
    artifacts, which have none, take those of the step before them. failed: whether the DAG run failed.
    """
    if not graph.nodes or len(graph.edges) + len(graph.nodes) > _MAX_SPANS:
        return None
    spans = [*_SpanBuilder(graph, trace_id, started, ended).build(_status(failed))]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "airflow"}}]}
    scope_spans = [{"scope": {"name": "airflow_zen"}, "spans": spans}]
    return {"resourceSpans": [{"resource": resource, "scopeSpans": scope_spans}]}


def _status(failed: bool, message: str = "") -> dict[str, Any]:
    """Return the status of a span, in OTLP's numbers."""
    return {"code": 2, "message": message} if failed else {"code": 1}


class _SpanBuilder:
    """Make a span for each node below its first source, with all that follows from it, and a bare one below every other."""

    def __init__(self, graph: Graph, trace_id: str, started: float, ended: float) -> None:
        self._graph = graph
        self._trace_id = trace_id
        self._interval = (started, max(ended, started))
        self._nodes = {node.id: node for node in graph.nodes}
        self._unique_names = _unique_names(graph)
        self._before = graph.edges_by("target")

    def build(self, status: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the span of the DAG run, which has this status, and those below it."""
        graph, root, after = self._graph, self._id("root", ""), self._graph.edges_by("source")
        attributes = {"mlflow.spanType": "WORKFLOW", "mlflow.spanInputs": {"DAG run": graph.run_id}}
        yield self._span(root, "", f"{graph.dag_id} {graph.run_id}", self._interval, status, attributes)
        first_spans = {"": root}
        todo = [("", node) for node in graph.nodes if not self._before[node.id]]
        # A cycle that no node outside it leads to begins at its first node.
        while todo or (todo := [("", node) for node in graph.nodes if node.id not in first_spans][:1]):
            source, node = todo.pop()
            span_id = self._id(source, node.id)
            yield self._node_span(span_id, first_spans[source], node)
            if node.id not in first_spans:
                first_spans[node.id] = span_id
                targets = dict.fromkeys(edge.target for edge in after[node.id])
                todo += [(node.id, self._nodes[target]) for target in reversed(targets)]

    def _id(self, source: str, target: str) -> str:
        return hashlib.sha256(f"{self._trace_id}\0{source}\0{target}".encode()).hexdigest()[:16]

    def _node_span(self, span_id: str, parent: str, node: Node) -> dict[str, Any]:
        attributes = {
            "mlflow.spanType": _SPAN_TYPES[node.kind],
            "mlflow.spanInputs": {edge.label: self._nodes[edge.source].label for edge in self._before[node.id]},
            "mlflow.spanOutputs": {**node.facts, **({"MLflow": node.url} if node.url else {})},
        }
        status = _status(node.state in _FAILED, node.facts.get("error", ""))
        return self._span(span_id, parent, self._unique_names[node.id], self._times(node), status, attributes)

    def _times(self, node: Node) -> tuple[float, float]:
        if node.started is None:
            ends = [self._nodes[edge.source].ended for edge in self._before[node.id]]
            end = max((end for end in ends if end is not None), default=self._interval[0])
            return end, end
        return node.started, self._interval[1] if node.ended is None else node.ended

    def _span(
        self,
        span_id: str,
        parent: str,
        name: str,
        times: tuple[float, float],
        status: Mapping[str, Any],
        facts: Mapping[str, object],
    ) -> dict[str, Any]:
        attributes = [
            {"key": key, "value": {"stringValue": json.dumps(value)}} for key, value in facts.items() if value
        ]
        return {
            "traceId": self._trace_id,
            "spanId": span_id,
            "parentSpanId": parent,
            "name": name,
            "startTimeUnixNano": str(round(times[0] * 1e9)),
            "endTimeUnixNano": str(round(times[1] * 1e9)),
            "status": status,
            "attributes": attributes,
        }


def _unique_names(graph: Graph) -> dict[str, str]:
    """Return a name for each node that is unique among those of its kind, because MLflow's view merges equal ones."""
    counts: Counter[tuple[NodeKind, str]] = Counter()
    names: dict[str, str] = {}
    for node in graph.nodes:
        counts[node.kind, node.label] += 1
        number = counts[node.kind, node.label]
        names[node.id] = node.label if number == 1 else f"{node.label} ({number})"
    return names
