"""Promises of `airflow_zen.lineage.graph.svg`: a picture that scales, and that no name can break."""

import xml.etree.ElementTree as ET

from airflow_zen.lineage.graph.svg import render_svg
from tests.lineage.graph.hostile import HOSTILE

NS = "{http://www.w3.org/2000/svg}"


def words(picture):
    return [element.text for element in ET.fromstring(picture).iter(f"{NS}text")]


def test_it_scales_with_the_page(make_graph, pipeline):
    """The root has no fixed width, only the proportions of the drawing."""
    root = ET.fromstring(render_svg(make_graph(pipeline)))
    assert root.get("width") == "100%"
    assert root.get("height") is None
    assert len(root.get("viewBox").split()) == 4


def test_every_step_and_artifact_is_named(make_graph, pipeline):
    """Steps and artifacts are drawn with name, state and size."""
    shown = words(render_svg(make_graph(pipeline)))
    assert {"load", "train", "score", "archive/clean", "cached · 3 s"} <= set(shown)
    assert "finished · 6 s" in shown


def test_names_cannot_break_it(make_graph, make_run, table):
    """Names with markup, control characters and lone surrogates stay text in a well-formed picture."""
    runs = [make_run(name, {name: table(name)}, {name: table(name, "2")}, error=name) for name in HOSTILE]
    root = ET.fromstring(render_svg(make_graph(runs, collapse_above=50)).encode())
    assert {element.tag.removeprefix(NS) for element in root.iter()} <= {
        *("svg", "title", "style", "rect", "g", "defs", "marker", "path", "text")
    }
    assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)


def test_long_names_are_cut_visibly(make_graph, make_run):
    """A name too long for its box ends in `…`, also in wide scripts, and the tooltip has all of it."""
    picture = render_svg(make_graph([make_run("日" * 40), make_run("a" * 200)]))
    assert all(word.endswith("…") for word in words(picture) if word[0] in "日a")
    assert "a" * 200 in picture


def test_a_deep_graph_is_drawn_downwards(make_graph, make_run, table):
    """A long pipeline keeps its width, so that its text stays legible in a narrow column."""
    runs = [make_run(f"t{n}", {"x": table(f"d/{n}")}, {"output": table(f"d/{n + 1}")}) for n in range(30)]
    _, _, width, height = map(float, ET.fromstring(render_svg(make_graph(runs))).get("viewBox").split())
    assert width < 1000 < height
