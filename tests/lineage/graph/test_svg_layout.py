"""Promises of `airflow_zen.lineage.graph.svg`."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_zen.lineage.graph.model import Edge, Graph, Node, NodeKind
from airflow_zen.lineage.graph.svg import Size, lay_out

SIZE = Size(100, 40)


def graph_with(count, pairs):
    nodes = tuple(Node(str(n), NodeKind.STEP, str(n)) for n in range(count))
    return Graph("d", "r", nodes, tuple(Edge(str(a), str(b)) for a, b in dict.fromkeys(pairs)))


def lay_out_uniform(graph, horizontal=False):
    return lay_out(graph, {node.id: SIZE for node in graph.nodes}, horizontal)


def overlaps(one, other):
    return (
        one.x < other.x + other.size.width
        and other.x < one.x + one.size.width
        and one.y < other.y + other.size.height
        and other.y < one.y + one.size.height
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 24).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=50))
    ),
    st.booleans(),
)
def test_nodes_never_overlap(shape, horizontal):
    """In any graph, with cycles and loops, every node is inside the drawing and overlaps no other."""
    drawing = lay_out_uniform(graph_with(*shape), horizontal)
    for number, one in enumerate(drawing.nodes):
        assert -0.01 <= one.x <= drawing.size.width - one.size.width + 0.01
        assert -0.01 <= one.y <= drawing.size.height - one.size.height + 0.01
        assert not any(overlaps(one, other) for other in drawing.nodes[number + 1 :])


@pytest.mark.parametrize("horizontal", [False, True])
def test_flow_has_one_direction(horizontal):
    """Without cycles every edge leads onwards, and runs from border to border."""
    pairs = [(a, b) for a in range(12) for b in range(a + 1, 12) if (a * b) % 3 == 1]
    drawing = lay_out_uniform(graph_with(12, pairs), horizontal)
    for route in drawing.routes:
        (x, y), (to_x, to_y) = route.points[0], route.points[-1]
        assert (x < to_x) if horizontal else (y < to_y)


def test_a_chain_is_straight():
    """Consecutive steps are placed exactly under one another."""
    drawing = lay_out_uniform(graph_with(6, [(n, n + 1) for n in range(5)]))
    assert len({round(placed.x, 3) for placed in drawing.nodes}) == 1


def test_crossings_are_untangled():
    """Two chains given in crossed order are drawn without a crossing."""
    drawing = lay_out_uniform(graph_with(6, [(0, 3), (1, 2), (2, 5), (3, 4)]))
    x = [placed.x for placed in drawing.nodes]
    assert (x[0] < x[1]) == (x[3] < x[2]) == (x[4] < x[5])


def test_two_hundred_nodes_are_laid_out():
    """A large graph is laid out completely, each node once."""
    rng = random.Random(4)
    pairs = [(rng.randrange(max(0, n - 15), n), n) for n in range(1, 200) for _ in range(2)]
    drawing = lay_out_uniform(graph_with(200, pairs), horizontal=True)
    assert len(drawing.nodes) == 200
    assert not any(overlaps(a, b) for n, a in enumerate(drawing.nodes) for b in drawing.nodes[n + 1 :])
