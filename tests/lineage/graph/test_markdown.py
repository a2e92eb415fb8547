"""Promises of `airflow_zen.lineage.graph.markdown`: linked tables that no name can break."""

import re

from airflow_zen.lineage.graph.markdown import markdown, steps_table
from airflow_zen.lineage.pages import Pages
from airflow_zen.lineage.step_run import StepRunId
from tests.lineage.graph.hostile import HOSTILE


def test_steps_are_linked(drawn, pipeline):
    """Each step leads to its run, with what it reads and makes."""
    pages = Pages("7", runs={StepRunId("d", "r", "train"): "abc"})
    table = steps_table(drawn(pipeline, pages=pages))
    assert (
        "| [train](#/experiments/7/runs/abc?workflowType=machine_learning) | finished · 6 s | load | train |" in table
    )


def test_artifacts_are_listed_whole(drawn, pipeline):
    """Every artifact stands in the document with its whole digest and where it comes from."""
    text = markdown(drawn(pipeline))
    assert all(node.facts["digest"] in text for node in drawn(pipeline).artifacts)
    assert "DAG archive" in text


def test_the_table_fits_and_says_what_is_missing(drawn, ran):
    """A table for a small place is cut at a row, and counts what it leaves out."""
    table = steps_table(drawn([ran(f"task_{n}") for n in range(500)]), room=2000)
    assert len(table) <= 2000
    kept = table.count("finished")
    assert f"… {500 - kept} more" in table


def test_names_cannot_break_a_row(drawn, ran, table):
    """Hostile names make no row, link, code or HTML of their own."""
    runs = [ran(name, {name: table(name)}, {name: table(name, "2")}) for name in HOSTILE]
    rows = steps_table(drawn(runs, together=50)).splitlines()
    assert len(rows) == 2 + len(HOSTILE)
    for row in rows[2:]:
        assert len(re.findall(r"(?<!\\)\|", row)) == 5
        assert not re.search(r"(?<!\\)[<`\[]", row)


def test_the_diagram_is_safe_and_bounded(drawn, ran):
    """The Mermaid diagram holds no quote or bracket of a name, and is left out where it would not be drawn."""
    text = markdown(drawn([ran('x"] --> y[("z")')]))
    (box,) = [line for line in text.splitlines() if line.startswith("  n0")]
    assert (box.count('"'), ">" in box, "(" in box) == (2, False, False)
    assert "flowchart" not in markdown(drawn([ran(f"t{n}") for n in range(300)]))
