"""Promises of `airflow_zen.lineage.graph.publish`: linked tables that no name can break."""

import re

from airflow_zen.lineage.graph.publish import render_markdown, steps_table
from airflow_zen.lineage.mlflow.description import PageUrls
from airflow_zen.runs.step_run import StepRunId
from tests.lineage.graph.hostile import HOSTILE


def test_steps_are_linked(make_graph, pipeline):
    """Each step is linked to its run, with its inputs and outputs."""
    pages = PageUrls("7", runs={StepRunId("d", "r", "train"): "abc"})
    table = steps_table(make_graph(pipeline, pages=pages))
    assert (
        "| [train](#/experiments/7/runs/abc?workflowType=machine_learning) | finished · 6 s | load | train |" in table
    )


def test_artifacts_are_listed_whole(make_graph, pipeline):
    """Every artifact is listed with its whole digest and its origin."""
    text = render_markdown(make_graph(pipeline))
    assert all(node.facts["digest"] in text for node in make_graph(pipeline).artifacts)
    assert "DAG archive" in text


def test_the_table_fits_and_counts_omitted_rows(make_graph, make_run):
    """A table with a maximum length is cut after a row, and counts the rows it omits."""
    table = steps_table(make_graph([make_run(f"task_{n}") for n in range(500)]), max_length=2000)
    assert len(table) <= 2000
    kept = table.count("finished")
    assert f"… {500 - kept} more" in table


def test_names_cannot_break_a_row(make_graph, make_run, table):
    """Hostile names make no row, link, code or HTML of their own."""
    runs = [make_run(name, {name: table(name)}, {name: table(name, "2")}) for name in HOSTILE]
    rows = steps_table(make_graph(runs, collapse_above=50)).splitlines()
    assert len(rows) == 2 + len(HOSTILE)
    for row in rows[2:]:
        assert len(re.findall(r"(?<!\\)\|", row)) == 5
        assert not re.search(r"(?<!\\)[<`\[]", row)


def test_the_diagram_is_safe_and_bounded(make_graph, make_run):
    """The Mermaid diagram has no quote or bracket of a name, and is omitted where viewers would not draw it."""
    text = render_markdown(make_graph([make_run('x"] --> y[("z")')]))
    (box,) = [line for line in text.splitlines() if line.startswith("  n0")]
    assert (box.count('"'), ">" in box, "(" in box) == (2, False, False)
    assert "flowchart" not in render_markdown(make_graph([make_run(f"t{n}") for n in range(300)]))
