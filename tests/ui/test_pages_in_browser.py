"""What people see and do on our pages: Chromium on Airflow's own pages, served by its API server."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import uvicorn
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.sdk import dag

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState
from airflow_zen.transports import open_transport
from tests.servers.browser import browser_window

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).resolve().parents[2]
# The rules of axe-core for WCAG 2.2, levels A and AA.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
HOSTILE = "<img src=x onerror=document.title=1>"


@pytest.fixture(scope="module")
def site(api_server):
    """Airflow's API server on a port of this machine; gives its address."""
    with socket.socket() as listener, pytest.MonkeyPatch.context() as patch:
        patch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(api_server, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the API server did not start"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def window(site):
    with browser_window(1280, 900) as window:
        yield window


@pytest.fixture
def visit(window, site, api_server):
    """Open an address as a user: `visit(path, reads="dag_a", dark=True)` gives the page."""
    opened, errors = [], []

    def open_page(path, reads="*", dark=False):
        user = SimpleAuthManagerUser(username="someone", role=reads)
        token = api_server.state.auth_manager.generate_jwt(user)
        window.add_cookies([{"name": "_token", "value": token, "url": site}])
        page = window.new_page()
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{site}/{path}")
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        page.close()
    assert errors == []


@pytest.fixture
def run(pipeline, run_dag_test):
    """Run the DAG in Airflow's database: `run(**options of the pipeline)` gives its id and the address of the DAG run."""

    def start(**options):
        run = run_dag_test(pipeline(**options))
        path = f"dags/{run.dag_id}/runs/{quote(run.run_id, safe='')}"
        return SimpleNamespace(dag_id=run.dag_id, run_id=run.run_id, path=path)

    return start


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The program axe-core in the version of ui/package-lock.json."""
    if shutil.which("npm") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no npm on the PATH: install Node.js")
    lock = json.loads((REPOSITORY / "ui/package-lock.json").read_text(encoding="utf-8"))
    version, folder = lock["packages"]["node_modules/axe-core"]["version"], tmp_path_factory.mktemp("axe")
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefer-offline"]
    subprocess.run(["npm", "install", *options, f"axe-core@{version}"], cwd=folder, check=True)
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


def go_to(page, path):
    """Open an address as a click on a link does, without loading Airflow's page again."""
    page.evaluate(
        "path => { history.pushState({}, '', path); dispatchEvent(new PopStateEvent('popstate')); }", f"/{path}"
    )


def violations(page, axe, scheme):
    """Return what axe-core finds wrong on our part of the page, in one colour scheme."""
    page.emulate_media(color_scheme=scheme)
    page.locator(f"html.{scheme}").wait_for(state="attached")
    # Colours change in 0.15 s, and are measured at rest.
    page.wait_for_function("document.querySelector('.zen-page').getAnimations({subtree: true}).length === 0")
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(axe)
    found = page.evaluate(
        "rules => axe.run('.zen-page', {runOnly: rules, iframes: false}).then(done => done.violations)", RULES
    )
    return [(each["id"], node["html"][:200], node["failureSummary"]) for each in found for node in each["nodes"]]


def test_a_run_from_its_graph_to_a_step(run, visit):
    """In the graph an artifact is found and followed; the table of steps leads to a step, and the trials are one table."""
    page = visit(f"{run(rates=(0.1, 0.2, 0.3, 0.4, -1.0)).path}/plugin/zen-run")
    cards = page.locator(".zen-card")
    cards.filter(has_text="load.train").wait_for()
    assert cards.filter(has_text="trial × 5").count() == 1
    page.get_by_label("Search the graph").fill("load.test")
    page.get_by_label("Search the graph").press("Enter")
    details = page.get_by_role("complementary", name="About load.test")
    details.get_by_role("heading", name="Made by").wait_for()
    assert "dimmed" in cards.filter(has_text="trial × 5").get_attribute("class")
    assert "dimmed" not in cards.filter(has_text="load").first.get_attribute("class")

    page.get_by_role("tab", name="Steps").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="trial × 5"))
    row.get_by_text("1 failed").wait_for()
    page.get_by_role("row").get_by_role("link", name="load", exact=True).click()
    page.get_by_role("heading", name="Outputs").wait_for()
    page.get_by_text("20 rows × 2 columns").first.wait_for()
    page.go_back()
    page.get_by_role("link", name="trial × 5").click()
    table = page.get_by_role("region", name="Instances of trial")
    table.get_by_role("button", name="rate").click()
    table.get_by_role("columnheader", name="rate").and_(page.locator("[aria-sort=ascending]")).wait_for()
    table.get_by_text("ValueError: a negative rate").wait_for()


def test_steps_without_a_task_instance_of_their_own(grouped, run_dag_test, visit):
    """A step of a fused group is shown on the page of the group's task, an element of a batch on that of the DAG run."""
    run = run_dag_test(grouped)
    path = f"dags/{run.dag_id}/runs/{quote(run.run_id, safe='')}"
    page = visit(f"{path}/plugin/zen-run?view=steps")
    page.get_by_role("row").get_by_role("link", name="prepare.trial", exact=True).first.click()
    page.get_by_role("heading", name="prepare.trial").wait_for()
    page.get_by_role("heading", name="Outputs").wait_for()
    assert page.url.endswith("/tasks/prepare/plugin/zen-step?step=prepare.trial")
    page.get_by_role("link", name="All steps of prepare").click()
    page.get_by_role("region", name="Steps of prepare").get_by_role("link", name="prepare.load", exact=True).click()
    page.get_by_text("5 rows × 2 columns").first.wait_for()

    go_to(page, f"dags/{run.dag_id}/tasks/trial/plugin/zen-task?run_id={quote(run.run_id)}")
    page.get_by_role("region", name="Instances of trial").get_by_role("link", name="4", exact=True).click()
    page.get_by_role("heading", name="trial[4]").wait_for()
    assert "/plugin/zen-run?step=trial&map_index=4" in page.url
    go_to(page, f"{path}/tasks/trial/mapped/1/plugin/zen-step")
    page.get_by_text("This task instance is a batch").wait_for()


def test_a_dag_from_its_versions_to_the_catalogue(ran, run, visit):
    """The versions of a DAG's artifacts are drawn over time, its runs compared; a version leads to the catalogue."""
    ran(rates=(0.1,))
    name = f"{run(rates=(0.1,), rows=21).dag_id}/load.train"
    page = visit(f"dags/{name.partition('/')[0]}/plugin/zen-dag")
    page.get_by_role("img", name=f"rows of {name} over time, 2 versions").wait_for()
    page.get_by_role("tab", name="Compare runs").click()
    steps = page.get_by_role("region", name="Steps of both DAG runs")
    steps.get_by_role("row").filter(has_text="load").locator("summary").click()
    steps.get_by_role("row").filter(has_text="parameter rows").get_by_text("21").first.wait_for()

    page.get_by_role("tab", name="Artifacts over time").click()
    page.get_by_role("region", name=f"Versions of {name}").get_by_role("link").first.click()
    page.get_by_role("heading", name=name).wait_for()
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("region", name=f"Differences of {name}").get_by_text("column x").first.wait_for()
    page.get_by_role("tab", name="Lineage").click()
    page.locator(".zen-card").filter(has_text="trial").first.wait_for()
    page.get_by_role("link", name="All artifacts").click()
    page.get_by_label("Search artifacts").fill("LOAD.TEST")
    page.get_by_text("1 artifact", exact=True).wait_for()
    page.get_by_role("tab", name="Storage").click()
    page.get_by_role("region", name="Storage by name").get_by_role("link", name=name).wait_for()


def test_a_hostile_table_is_text(run, visit):
    """Markup in a name of a column and in a cell of 10 MB is text; a stored preview has an origin of its own."""
    page = visit(
        f"{run(rates=(0.1,), rows=2, column=HOSTILE, cell_length=10_000_000).path}/tasks/load/plugin/zen-step",
        dark=True,
    )
    page.locator("summary").filter(has_text="train").first.click()
    page.get_by_role("cell", name=HOSTILE).first.wait_for()
    assert page.title() != "1"
    assert page.locator("html.dark").count() == 1
    assert {frame.get_attribute("sandbox") for frame in page.locator(".zen-page iframe").all()} == {"allow-scripts"}
    assert page.locator(".zen-page img[src=x]").count() == 0
    assert page.evaluate("document.querySelector('.zen-page').innerText.length") < 100_000


def test_a_graph_of_hundreds_of_nodes_is_readable(run, visit, root):
    """A run of 160 steps and 1,000 mapped ones begins at its left end in a size that can be read, the mapped ones as one."""
    shown = run(rates=(0.1,))
    record_layers(root, shown.dag_id, shown.run_id, layers=16, width=10, mapped=1000)
    page = visit(f"{shown.path}/plugin/zen-run")
    first = page.locator(".zen-card").first
    first.wait_for()
    page.get_by_text(re.compile(r"3\d\d nodes")).wait_for()
    assert first.bounding_box()["height"] >= 35
    page.get_by_label("Search the graph").fill("many × 1000")
    page.get_by_label("Search the graph").press("Enter")
    page.locator(".zen-card.chosen").filter(has_text="many × 1000").first.wait_for()


def record_layers(root, dag_id, run_id, layers, width, mapped):
    """Write the records of layers of steps, each of which reads two of the layer before it, and of a mapped step."""
    records = StepRunRecords(open_transport(str(root), {}))

    def record(task_id, inputs, map_index=-1):
        digest = hashlib.sha256(f"{task_id}{map_index}".encode()).hexdigest()
        uri = f"{root}/artifacts/{digest[:2]}/{digest}"
        output = ArtifactRef(digest, uri, "pandas.parquet@1", "pandas.DataFrame", 2812, f"{dag_id}/{task_id}", "3 rows")
        key = StepRunId(dag_id, run_id, task_id, map_index, 1)
        facts = {"state": StepState.FINISHED, "started": 10.0, "ended": 12.0}
        records.put(StepRun(key, inputs=inputs, outputs={"output": output}, **facts), delivered=True)
        return output

    made = []
    for layer in range(layers):
        inputs = [{"a": made[n], "b": made[(n * 3 + 1) % width]} if made else {} for n in range(width)]
        made = [record(f"step_{layer}_{n}", inputs[n]) for n in range(width)]
    for index in range(mapped):
        record("many", {"table": made[0]}, index)


def test_a_run_out_of_sight_is_not_found(run, visit, site):
    """Who may not read the DAG gets the answer of a DAG that does not exist, with the browser's own session."""
    _, dag_id, _, run_id = run(rates=(0.1,)).path.split("/")
    fetch = "async address => { const answer = await fetch(address); return [answer.status, await answer.text()]; }"
    asked = [f"{site}/zen/api/dags/{name}/run?run_id={run_id}" for name in (dag_id, "no_such_dag")]
    hidden, missing = (visit("", reads="another").evaluate(fetch, address) for address in asked)
    assert hidden == missing
    assert hidden[0] == 404
    assert visit("", reads=dag_id).evaluate(fetch, asked[0])[0] == 200


def test_no_page_violates_wcag(run, visit, axe):
    """Each view of a failed run meets the rules of WCAG 2.2 AA that a program can test, in both colour schemes."""
    shown = run(rates=(0.1, 0.2, 0.3, 0.4, -1.0))
    name = f"{shown.dag_id}/load.train"
    views = {
        f"{shown.path}/plugin/zen-run?node=step:load:-1": ".zen-card.chosen",
        f"{shown.path}/plugin/zen-run?view=steps": "table",
        f"{shown.path}/tasks/load/plugin/zen-step": "table",
        f"{shown.path}/tasks/trial/mapped/4/plugin/zen-step": "[role=alert]",
        f"dags/{shown.dag_id}/tasks/trial/plugin/zen-task?run_id={quote(shown.run_id)}": "table",
        f"dags/{shown.dag_id}/plugin/zen-dag": "table",
        "plugin/zen-artifacts": "table",
        f"plugin/zen-artifacts?name={name}": "dl",
        "plugin/zen-artifacts?view=storage": "table",
    }
    page = visit(next(iter(views)))
    for path, part in views.items():
        go_to(page, path)
        if path.endswith("/load/plugin/zen-step"):
            page.locator("summary").filter(has_text="train").first.click()
        page.locator(f".zen-page {part}").first.wait_for()
        for scheme in ("light", "dark"):
            assert violations(page, axe, scheme) == [], (path, scheme)


def test_the_graph_by_keyboard(run, visit):
    """Arrow keys lead along the edges of the graph and Enter follows a node; Escape shows everything, from the details too."""
    page = visit(f"{run(rates=(0.1,)).path}/plugin/zen-run")
    page.locator(".zen-card").filter(has_text="load.train").wait_for()
    focused = page.locator(".react-flow__node:focus")
    page.get_by_role("group", name=re.compile("^step load,")).focus()
    page.keyboard.press("ArrowRight")
    focused.filter(has_text="load.").wait_for()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowLeft")
    focused.filter(has_text=re.compile("^load(?!\\.)")).wait_for()
    page.keyboard.press("Enter")
    details = page.get_by_role("complementary", name="About load")
    details.get_by_role("link", name="Open inputs and outputs").focus()
    page.keyboard.press("Escape")
    details.wait_for(state="detached")
    focused.filter(has_text="load").wait_for()


def test_pages_under_a_base_path(run, visit, api_server, monkeypatch):
    """Under a path of `[api] base_url` a page reads its data, shows previews, and its links stay under that path."""
    shown = run(rates=(0.1,))
    # What Airflow makes of `base_url`.
    monkeypatch.setattr(api_server, "root_path", "/airflow")
    page = visit(f"airflow/{shown.path}/plugin/zen-run?view=steps")
    page.get_by_role("row").get_by_role("link", name="load", exact=True).click()
    page.locator("summary").filter(has_text="train").first.click()
    frame = page.frame_locator("iframe").first
    frame.get_by_text("20 rows × 2 columns").wait_for()
    assert page.evaluate("location.pathname").startswith("/airflow/dags/")
    page.get_by_role("link", name="In the graph").click()
    page.locator(".zen-card.chosen").wait_for()
    assert page.evaluate("location.pathname").startswith("/airflow/dags/")


def test_the_flight_example_computed_and_cached(run_dag_test, root, visit):
    """The steps of the flight example are computed, then reused; histograms show, files are downloaded, tabs lead on."""
    flights = load_example()

    @dag(dag_id="flights_shown", schedule=None)
    def pipeline():
        parts = flights.split(flights.ingest(), test_from="2013-01-15")
        flights.train(flights.features(parts.train), max_iter=5)

    computed, cached = run_dag_test(pipeline()), run_dag_test(pipeline())
    run_path = f"dags/flights_shown/runs/{quote(cached.run_id, safe='')}"
    page = visit(f"{run_path}/plugin/zen-run", dark=True)
    page.get_by_text("4 reused").wait_for()
    page.locator(".zen-card").filter(has_text="cached").nth(3).wait_for()
    page.get_by_role("tab", name="Steps").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="features", exact=True))
    to_the_second = computed.run_id.partition(".")[0]
    assert f"features in {to_the_second}" in row.inner_text()
    row.get_by_role("link", name="features", exact=True).first.click()

    page.frame_locator("iframe").first.locator("svg").first.wait_for()
    page.get_by_role("cell", name="plane_age").first.wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").first.click()
    assert Path(download.value.path()).read_bytes()[:4] == b"PAR1"
    page.get_by_role("region", name="Read by").get_by_role("link", name="train", exact=True).click()
    page.get_by_role("region", name="Parameters").get_by_text("max_iter").wait_for()
    page.get_by_role("region", name="Made from").get_by_role("link", name="features").wait_for()

    page.get_by_role("link", name="Details", exact=True).click()
    page.get_by_role("link", name="Artifacts", exact=True).first.click()
    page.get_by_role("heading", name="Outputs").wait_for()
    page.get_by_role("link", name="flights_shown").first.click()
    page.get_by_role("link", name="Artifact history").click()
    page.get_by_role("heading", name="split.train").wait_for()


def load_example():
    """Import the flight example."""
    spec = importlib.util.spec_from_file_location("flight_delay_shown", REPOSITORY / "dags_examples/flight_delay.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
