"""Promises of `airflow_zen.lineage.graph.model`."""

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


def test_nothing_to_draw(make_graph):
    """A DAG run without steps is an empty graph."""
    assert make_graph([]).nodes == ()
