"""Promises of `airflow_zen.lineage.graph.model`."""

import pytest

from airflow_zen.lineage.graph.model import NodeKind
from airflow_zen.runs.step_run import StepState


def edges(graph):
    label = {node.id: node.label for node in graph.nodes}
    kind = {node.id: node.kind for node in graph.nodes}
    return {
        (f"{kind[e.source]} {label[e.source]}", e.label, f"{kind[e.target]} {label[e.target]}") for e in graph.edges
    }


def test_every_flow_is_an_edge(make_graph, pipeline):
    """Each artifact leads from the step that made it to every step that read it, under the names they use."""
    assert edges(make_graph(pipeline)) == {
        ("artifact archive/clean", "raw", "step load"),
        ("step load", "output", "artifact load"),
        ("artifact load", "table", "step train"),
        ("artifact load", "table", "step score"),
        ("step train", "output", "model train"),
        ("model train", "model", "step score"),
        ("step score", "output", "artifact score"),
    }


def test_inputs_of_other_dags_name_their_dag(make_graph, pipeline):
    """An artifact that no step of the DAG run made names the DAG that did."""
    graph = make_graph(pipeline)
    (clean,) = [node for node in graph.artifacts if node.label == "archive/clean"]
    assert clean.facts["from"] == "DAG archive"
    assert [node.label for node in graph.artifacts if "from" not in node.facts] == ["load", "train", "score"]


def test_a_hit_is_shown_as_cached(make_graph, pipeline):
    """A reused result has a state of its own."""
    assert [(node.label, node.state) for node in make_graph(pipeline).steps] == [
        ("load", "FINISHED"),
        ("train", "FINISHED"),
        ("score", "CACHED"),
    ]


def test_the_last_try_counts(make_graph, make_run, table):
    """A task that failed and was tried again is one step, as its last try ended."""
    failed = make_run("load", state=StepState.FAILED, error="E: x")
    (step,) = make_graph([make_run("load", outputs={"output": table("d/load")}, try_number=2), failed]).steps
    assert (step.label, step.state) == ("load try 2", "FINISHED")


def test_many_mapped_runs_are_one_node(make_graph, make_run, table):
    """A thousand mapped runs and their artifacts are one node each, whose state is the worst of them."""
    parts = [table("d/part", str(n)) for n in range(1000)]
    states = [StepState.FAILED if n == 7 else StepState.FINISHED for n in range(1000)]
    runs = [make_run("part", outputs={"output": parts[n]}, map_index=n, state=states[n]) for n in range(1000)]
    graph = make_graph([*runs, make_run("join", {f"parts[{n}]": part for n, part in enumerate(parts)}, started=11.0)])
    assert [(node.label, node.count, node.state) for node in graph.nodes] == [
        ("part × 1000", 1000, "FAILED"),
        ("join", 1, "FINISHED"),
        ("part × 1000", 1000, ""),
    ]
    assert len(graph.edges) == 2


def test_few_mapped_runs_are_nodes_of_their_own(make_graph, make_run, table):
    """Mapped runs within the limit are nodes of their own, each with its own artifact."""
    runs = [make_run("part", outputs={"output": table("d/part", str(n))}, map_index=n) for n in range(3)]
    graph = make_graph(runs)
    assert [node.label for node in graph.steps] == ["part [0]", "part [1]", "part [2]"]
    assert len(graph.artifacts) == 3


def test_equal_content_of_one_name_is_one_artifact(make_graph, make_run, table):
    """Mapped runs that made the same bytes point to the same artifact."""
    graph = make_graph([make_run("part", outputs={"output": table("d/part")}, map_index=n) for n in range(2)])
    assert len(graph.artifacts) == 1
    assert len(graph.edges) == 2


def test_kinds(make_graph, pipeline):
    """A model has a kind of its own."""
    assert [node.label for node in make_graph(pipeline).nodes if node.kind is NodeKind.MODEL] == ["train"]


def test_a_step_that_returns_its_input(make_graph, make_run, table):
    """What a step read is another artifact than what it made of the same name and content; readers have the new one."""
    same = table("d/keep")
    steps = [make_run("keep", {"x": same}, {"o": same}), make_run("use", {"x": same}, started=13.0)]
    graph = make_graph(steps)
    assert edges(graph) == {
        ("artifact keep", "x", "step keep"),
        ("step keep", "o", "artifact keep"),
        ("artifact keep", "x", "step use"),
    }
    assert [node.facts.get("from") for node in graph.artifacts] == [None, "an earlier run of this DAG"]
    assert len({node.id for node in graph.nodes}) == 4


def test_steps_that_read_what_the_other_made_before(make_graph, make_run, table):
    """Of steps in a circle the one that started first read what the DAG run before made."""
    names = "abc"
    made = {name: table(f"d/{name}") for name in names}
    runs = [
        make_run(name, {"x": made[before]}, {"o": made[name]}, started=20.0 - number, ended=21.0 - number)
        for number, (name, before) in enumerate(zip(names, "bca", strict=True))
    ]
    graph = make_graph(runs)
    read = {edge.target: edge.source for edge in graph.edges if edge.label == "x"}
    facts = {node.id: node.facts for node in graph.artifacts}
    assert [facts[read[f"step:{name}:-1"]].get("from") for name in names] == [None, None, "an earlier run of this DAG"]


@pytest.mark.timeout(20)
def test_mapped_steps_that_return_their_inputs(make_graph, make_run, table):
    """A thousand mapped runs that read and made the same contents are no circle, shown as one node or each alone."""
    parts = [table("d/part", str(n)) for n in range(1000)]
    runs = [make_run("part", {"x": parts[n]}, {"o": parts[n]}, map_index=n) for n in range(1000)]
    for collapse_above, count in ((3, 3), (5000, 3000)):
        graph = make_graph(runs, collapse_above)
        assert len({node.id for node in graph.nodes}) == len(graph.nodes) == count
        assert {(edge.target, edge.source) for edge in graph.edges}.isdisjoint(
            (edge.source, edge.target) for edge in graph.edges
        )


def test_nothing_to_draw(make_graph):
    """A DAG run without steps is an empty graph."""
    assert make_graph([]).nodes == ()
