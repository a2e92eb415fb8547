"""Promises of `airflow_zen.lineage.graph.publish`: the graph for programs."""

import json

from airflow_zen.lineage.graph.publish import render_json


def test_it_holds_the_whole_graph(make_graph, pipeline):
    """Every node with all its facts and every edge by node id; the format has a version."""
    graph = make_graph(pipeline)
    written = json.loads(render_json(graph))
    assert (written["airflow_zen"], written["dag_id"], written["run_id"]) == (1, "d", "r")
    assert [node["id"] for node in written["nodes"]] == [node.id for node in graph.nodes]
    assert {edge["source"] for edge in written["edges"]} <= {node.id for node in graph.nodes}
    (train,) = [node for node in written["nodes"] if node["kind"] == "model"]
    assert len(train["facts"]["digest"]) == 64
