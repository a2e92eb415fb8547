"""What people see and do on our pages: Chromium on Airflow's own pages, served by its API server."""

import hashlib
import importlib.util
import re
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from airflow.sdk import dag

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState
from airflow_zen.transports import open_transport
from tests.servers.axe import axe_core, violations
from tests.servers.browser import go_to

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    return axe_core(tmp_path_factory.mktemp("axe"))


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


def test_a_graph_of_hundreds_of_nodes_is_readable(run, visit, root, axe):
    """A run of 300 nodes begins at its left end in a size that can be read, with 1,000 instances as one; so does one of 1,000 nodes."""
    shown = run(rates=(0.1,))
    record_layers(root, shown.dag_id, shown.run_id, layers=15, width=10, mapped={"many": 1000, "some": 350})
    page = visit(f"{shown.path}/plugin/zen-run")
    for count in (r"3\d\d nodes", r"1,0\d\d nodes"):
        page.get_by_text(re.compile(count)).wait_for()
        card = page.locator(".zen-card").first
        card.wait_for()
        assert card.bounding_box()["height"] >= 35
        for scheme in ("light", "dark"):
            assert violations(page, axe, scheme) == [], (count, scheme)
        page.get_by_label("Search the graph").fill("many × 1000")
        page.get_by_label("Search the graph").press("Enter")
        page.locator(".zen-card.chosen").filter(has_text="many × 1000").first.wait_for()
        go_to(page, f"{shown.path}/plugin/zen-run?expand=some")


def record_layers(root, dag_id, run_id, layers, width, mapped):
    """Write the records of layers of steps, each of which reads two of the layer before it, and of mapped steps."""
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
    for task_id, count in mapped.items():
        for index in range(count):
            record(task_id, {"table": made[0]}, index)


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
