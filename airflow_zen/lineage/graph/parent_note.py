"""What people read on the page of a DAG run: the graph, and a table of its steps with links."""

from __future__ import annotations

from airflow_zen.lineage.graph.markdown import steps_table
from airflow_zen.lineage.graph.model import Graph
from airflow_zen.lineage.limits import MAX_TAG_VALUE

GRAPH_FOLDER = "lineage"


def dag_run_description(graph: Graph, run_id: str, airflow_url: str, has_graph: bool) -> str:
    """Write the description of a parent run within MLflow's limit.

    The picture comes first, for MLflow folds a long description; `has_graph` tells whether MLflow has it.
    """
    parts = [f"![Lineage](get-artifact?path={GRAPH_FOLDER}/lineage.svg&run_uuid={run_id})"] if has_graph else []
    if airflow_url:
        parts.append(f"[DAG run in Airflow]({airflow_url})")
    if has_graph:
        parts.append(f"Under *Artifacts*, `{GRAPH_FOLDER}/lineage.html` is this graph to pan, zoom and follow.")
    text = "\n\n".join(parts)
    return f"{text}\n\n{steps_table(graph, MAX_TAG_VALUE - len(text) - 2)}".strip()
