"""Promises of `airflow_zen.lineage.graph.publish`: one file, no network, no script but ours; it works in a browser."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from airflow_zen.lineage.graph.publish import render_html
from tests.lineage.graph.hostile import HOSTILE
from tests.servers.browser import browser_page


class Elements(HTMLParser):
    """Collect the elements that a browser would see."""

    def __init__(self, page):
        super().__init__()
        self.seen = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


@pytest.fixture
def hostile(make_graph, make_run, table):
    runs = [make_run(name, {name: table(name)}, {name: table(name, "2")}, error=name) for name in HOSTILE]
    return render_html(make_graph(runs, collapse_above=50))


def test_it_needs_no_network(make_graph, pipeline):
    """The page sends no request."""
    page = render_html(make_graph(pipeline))
    elements = Elements(page).seen
    assert not [attrs for _, attrs in elements if "src" in attrs or "href" in attrs]
    assert "default-src 'none'" in page
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest", page)


def test_only_our_script_may_run(hostile):
    """The policy names the hash of the one script of the page, whatever names the graph holds."""
    scripts = re.findall(r"<script>(.*?)</script>", hostile, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in hostile


def test_names_add_no_element(hostile, make_graph, make_run, table):
    """Hostile names make the same elements and attributes as plain ones."""
    names = [f"n{n}" for n in range(len(HOSTILE))]
    plain = render_html(
        make_graph([make_run(n, {n: table(n)}, {n: table(n, "2")}, error=n) for n in names], collapse_above=50)
    )
    outline = [[(tag, sorted(attrs)) for tag, attrs in Elements(page).seen] for page in (hostile, plain)]
    assert outline[0] == outline[1]


def test_the_facts_are_whole(hostile):
    """The page's data contains every name unchanged."""
    graph = json.loads(re.search(r'id="graph">(.*?)</script>', hostile, re.DOTALL)[1])
    assert {node["facts"].get("task") for node in graph["nodes"]} >= set(HOSTILE[:-1])


def test_two_hundred_nodes(make_graph, make_run, table, tmp_path):
    """A graph of 200 nodes opens, is found by name, and shows where an artifact comes from and goes to."""
    runs = [
        make_run(f"t{n}", {"x": table(f"d/t{n // 2}"), "y": table(f"d/t{n // 3}")}, {"output": table(f"d/t{n + 1}")})
        for n in range(100)
    ]
    path = tmp_path / "lineage.html"
    path.write_text(render_html(make_graph(runs, collapse_above=50)))
    with browser_page() as page:
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.as_uri())
        assert page.locator("[data-node]").count() == 201
        page.fill("#search", "t42")
        page.press("#search", "Enter")
        assert page.locator("aside h2").inner_text() == "t42"
        assert page.locator(".node.near").count() < 201
        page.locator("aside li button").first.click()
        assert "MADE BY" in page.locator("aside").inner_text().upper()
        before = page.locator("#view").get_attribute("transform")
        page.mouse.move(300, 300)
        page.mouse.wheel(0, -300)
        page.wait_for_function("t => document.getElementById('view').getAttribute('transform') !== t", arg=before)
        page.keyboard.press("Escape")
        assert page.locator(".following").count() == 0
        assert errors == []


def test_hostile_names_run_nothing(hostile, tmp_path):
    """In a browser hostile names are shown as text, open no dialog and raise no error."""
    path = tmp_path / "hostile.html"
    path.write_text(hostile)
    with browser_page() as page:
        events = []
        page.on("pageerror", lambda error: events.append(str(error)))
        page.on("dialog", lambda dialog: (events.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri())
        for number in range(page.locator("[data-node]").count()):
            page.locator(f'[data-node="{number}"]').dispatch_event("click")
        assert page.locator("aside h2").count() == 1
        assert page.locator("aside img, aside script, aside svg, aside b").count() == 0
        assert events == []
