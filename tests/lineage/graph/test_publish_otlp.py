"""Promises of `airflow_zen.lineage.graph.publish`: the spans that MLflow's graph view merges into our graph."""

import pytest

from airflow_zen.lineage.graph.publish import render_otlp
from airflow_zen.runs.step_run import StepState


def spans_of(graph, failed=False):
    return render_otlp(graph, "abc", 1.0, 20.0, failed=failed)["resourceSpans"][0]["scopeSpans"][0]["spans"]


def merged(spans):
    """Merge spans by type and name, and return the edges between them, as the view does."""
    node = {span["spanId"]: (span["attributes"][0]["value"]["stringValue"], span["name"]) for span in spans}
    return {(node[span["parentSpanId"]], node[span["spanId"]]) for span in spans if span["parentSpanId"]}


def test_the_merged_spans_are_the_graph(make_graph, pipeline):
    """One edge between merged spans for each edge of the graph, and one from the DAG run to each source."""
    graph = make_graph(pipeline)
    edges = merged(spans_of(graph))
    assert len(edges) == len(graph.edges) + 1
    assert (('"RETRIEVER"', "load"), ('"TASK"', "train")) in edges
    assert (('"TASK"', "train"), ('"CHAT_MODEL"', "train")) in edges


def test_sent_again_it_is_the_same(make_graph, pipeline):
    """Ids are derived from the DAG run, so that a second delivery makes no second trace."""
    assert spans_of(make_graph(pipeline)) == spans_of(make_graph(pipeline))
    assert len({span["spanId"] for span in spans_of(make_graph(pipeline))}) == len(spans_of(make_graph(pipeline)))


def test_nodes_of_one_name_stay_apart(make_graph, make_run, table):
    """Artifacts of one name and other content are not merged."""
    runs = [make_run("part", outputs={"output": table("d/part", str(n))}, map_index=n) for n in range(2)]
    assert {"part", "part (2)"} <= {span["name"] for span in spans_of(make_graph(runs))}


@pytest.mark.timeout(20)
def test_a_cycle_ends(make_graph, make_run, table):
    """A step that returns its own input is drawn."""
    same = table("d/a")
    graph = make_graph([make_run("a", {"x": same}, {"output": same})])
    assert len(spans_of(graph)) >= 3


def test_too_much_is_not_sent(make_graph, make_run):
    """An empty graph, or one larger than the view can draw, makes no trace."""
    assert render_otlp(make_graph([]), "abc", 1.0, 2.0, failed=False) is None
    assert render_otlp(make_graph([make_run(f"t{n}") for n in range(3000)]), "abc", 1.0, 2.0, failed=False) is None


def test_failures_are_errors(make_graph, make_run, table):
    """A failed or killed step is an error with its message; so is the DAG run if it failed, and only then."""
    runs = [
        make_run("load", outputs={"o": table("d/load")}),
        make_run("bad", state=StepState.FAILED, error="ValueError: no rows"),
        make_run("dead", state=StepState.KILLED),
    ]
    for failed in (True, False):
        status = {span["name"]: span["status"] for span in spans_of(make_graph(runs), failed)}
        assert status.pop("d r")["code"] == (2 if failed else 1)
        assert status["bad"] == {"code": 2, "message": "ValueError: no rows"}
        assert (status["dead"]["code"], status["load"]["code"]) == (2, 1)
