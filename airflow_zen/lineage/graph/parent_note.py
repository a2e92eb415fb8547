"""What people read on the page of a DAG run: the graph, and a table of its steps with links."""

from __future__ import annotations

from airflow_zen.lineage.graph.markdown import steps_table
from airflow_zen.lineage.graph.model import Graph
from airflow_zen.lineage.limits import TAG_VALUE

FOLDER = "lineage"


def parent_note(graph: Graph, run_id: str, airflow_url: str, pictured: bool) -> str:
    """Write the description of a parent run within MLflow's limit.

    The picture comes first, for MLflow folds a long description; `pictured` tells whether MLflow has it.
    """
    parts = [f"![Lineage](get-artifact?path={FOLDER}/lineage.svg&run_uuid={run_id})"] if pictured else []
    if airflow_url:
        parts.append(f"[DAG run in Airflow]({airflow_url})")
    if pictured:
        parts.append(f"Under *Artifacts*, `{FOLDER}/lineage.html` is this graph to pan, zoom and follow.")
    text = "\n\n".join(parts)
    return f"{text}\n\n{steps_table(graph, TAG_VALUE - len(text) - 2)}".strip()
