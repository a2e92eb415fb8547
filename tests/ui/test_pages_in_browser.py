"""What people see and do on our pages: Chromium on Airflow's own pages, served by its API server."""

import hashlib
import re
import socket
import threading
import time
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import uvicorn
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState
from airflow_zen.transports import open_transport
from tests.servers.browser import browser_window

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(900)]

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
