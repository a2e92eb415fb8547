"""What people see and do on our pages: Chromium on Airflow's own pages, served by its API server."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from airflow.models import DagRun
from airflow.sdk import dag, task
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from matplotlib.figure import Figure
from PIL import Image

from airflow_zen import Output, ml_step
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState
from airflow_zen.transports import open_transport
from tests.servers.axe import axe_core, violations
from tests.servers.browser import go_to

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    return axe_core(tmp_path_factory.mktemp("axe"))


def test_a_run_from_its_graph_to_a_step(run, visit):
    """In the graph an artifact is found and followed, and the trials are one node or many; the table of steps leads to a step and the trials."""
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
    unfold_and_fold(page, cards)

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
    table.get_by_role("link", name="2", exact=True).click()
    page.get_by_role("link", name="In the graph").click()
    # The graph has the instances as one node.
    page.locator(".zen-card.chosen").filter(has_text="trial × 5").wait_for()
    assert "node=step%3Atrial%3A2" in page.url


def unfold_and_fold(page, cards):
    """Show each instance of the mapped step, choose one, and fold them again."""
    cards.filter(has_text="trial × 5").click()
    page.get_by_role("button", name="Show each instance").click()
    cards.filter(has_text="trial [2]").click()
    cards.filter(has_text="trial × 5").wait_for(state="detached")
    assert cards.filter(has_text=re.compile(r"^trial \[\d\]")).count() == 5
    page.get_by_role("button", name="Fold the instances").click()
    page.locator(".zen-card.chosen").filter(has_text="trial × 5").wait_for()
    cards.filter(has_text="trial [2]").wait_for(state="detached")


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


@pytest.fixture
def page_with_a_clock(window, log_in):
    """A page whose time can be stopped."""
    timed = window.browser.new_context()
    timed.set_default_timeout(120_000)
    log_in(timed)
    page = timed.new_page()
    page.clock.install()
    yield page
    timed.close()


def test_a_search_is_sent_when_typing_ends(ran, site, page_with_a_clock):
    """However fast a word is typed, no letter is lost, and the catalogue is searched once, for the whole word; the address has it."""
    page, asked = page_with_a_clock, []
    ran(rates=(0.1,))
    page.goto(f"{site}/plugin/zen-artifacts")
    field = page.get_by_label("Search artifacts")
    field.wait_for()
    page.on("request", lambda request: asked.append(request.url))
    page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=60))
    field.press_sequentially("load.train")
    with page.expect_response(re.compile("search=load.train")):
        page.clock.run_for(1000)
    page.wait_for_url(re.compile("search=load.train"))
    assert len([url for url in asked if "api/catalogue?search=" in url]) == 1


def test_a_graph_of_hundreds_of_nodes_is_readable(run, visit, root, axe):
    """A run of 300 nodes begins at its left end in a size that can be read, with 1,000 instances as one; so does one of 1,000 nodes.

    Both are laid out in a worker.
    """
    shown = run(rates=(0.1,))
    record_layers(root, shown.dag_id, shown.run_id, layers=15, width=10, mapped={"many": 1000, "some": 350})
    page = visit(f"{shown.path}/plugin/zen-run?view=steps")
    page.get_by_role("tab", name="Graph").wait_for()
    for query, count in (("", r"3\d\d nodes"), ("?expand=some", r"1,0\d\d nodes")):
        with page.expect_worker():
            go_to(page, f"{shown.path}/plugin/zen-run{query}")
        page.get_by_text(re.compile(count)).wait_for()
        card = page.locator(".zen-card").first
        card.wait_for()
        assert card.bounding_box()["height"] >= 35
        for scheme in ("light", "dark"):
            assert violations(page, axe, scheme) == [], (count, scheme)
        page.get_by_label("Search the graph").fill("many × 1000")
        page.get_by_label("Search the graph").press("Enter")
        page.locator(".zen-card.chosen").filter(has_text="many × 1000").first.wait_for()
        page.get_by_label("Search the graph").fill("")


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


def test_tabs_search_and_tables_by_keyboard(run, visit):
    """From tab to tab, in the search field, in a table and into a step, no mouse is needed, and the focus is seen."""
    page = visit(f"{run(rates=(0.1,)).path}/plugin/zen-run")
    page.locator(".zen-card").filter(has_text="load.train").wait_for()
    press_until(page, "Tab", page.get_by_role("tab", name="Graph"))
    press_until(page, "Tab", page.get_by_label("Search the graph"))
    page.keyboard.type("load.test")
    page.keyboard.press("Enter")
    page.get_by_role("complementary", name="About load.test").wait_for()
    press_until(page, "Shift+Tab", page.get_by_role("tab", name="Graph"))
    page.keyboard.press("ArrowRight")
    sort = page.get_by_role("button", name="Step", exact=True)
    press_until(page, "Tab", sort)
    page.keyboard.press("Enter")
    page.get_by_role("columnheader", name="Step").and_(page.locator("[aria-sort=ascending]")).wait_for()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press_until(page, "Tab", page.get_by_role("row").get_by_role("link", name="load", exact=True).first)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Outputs").wait_for()
    press_until(page, "Tab", page.locator("summary").filter(has_text="train").first)
    page.keyboard.press("Enter")
    press_until(page, "Tab", page.get_by_role("link", name="Download").first)


def press_until(page, key, wanted):
    """Press a key until it has led the focus to an element."""
    wanted.wait_for()
    for _ in range(150):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} does not lead to {wanted}")


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


@pytest.fixture
def pictures(root):
    """A DAG of a step that returns an image, a figure and a dict."""

    @ml_step
    def draw() -> Output(image=Image.Image, figure=Figure, facts=dict):
        figure = Figure(figsize=(3, 2))
        figure.subplots().plot([1, 3, 2])
        return Image.new("RGB", (40, 30), "red"), figure, {"classes": ["ham", "spam"]}

    @dag(dag_id="draws", schedule=None, start_date=datetime(2026, 1, 1))
    def body():
        draw()

    return body()


def test_previews_of_pictures_and_texts(pictures, run_dag_test, visit):
    """An image and a figure are drawn, and a dict is shown as the text that it is stored as."""
    run = run_dag_test(pictures)
    page = visit(f"dags/{run.dag_id}/runs/{quote(run.run_id, safe='')}/tasks/draw/plugin/zen-step")
    for output, width in (("image", 40), ("figure", 300)):
        panel = page.locator("details").filter(has=page.locator("summary strong").get_by_text(output, exact=True))
        panel.locator("summary").first.click()
        image = panel.get_by_role("img", name="Preview preview.png")
        image.wait_for()
        # Decoding waits for the file, and fails for one that is not an image.
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == width
    page.locator("summary").filter(has_text="facts").click()
    page.locator(".zen-panel pre").filter(has_text=re.compile(r'"ham",\s*"spam"')).wait_for()


RUN_ROUTE = re.compile("/zen/api/dags/[^/]+/run[?]")


def test_a_page_that_waits_says_so(run, visit, window):
    """Until its answer comes, a page says what it loads."""
    shown, held = run(rates=(0.1,)), []
    window.route(RUN_ROUTE, lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks the function
    page = visit(f"{shown.path}/plugin/zen-run")
    loading = page.get_by_role("status").get_by_text("Loading the DAG run…")
    loading.wait_for()
    assert page.locator(".zen-card").count() == 0
    for route in held:
        route.continue_()
    window.unroute(RUN_ROUTE)
    page.locator(".zen-card").first.wait_for()
    loading.wait_for(state="detached")


def test_a_dag_without_steps(root, run_dag_test, visit):
    """A DAG run, a task and a DAG without ML steps say so, and what would appear there."""

    @dag(dag_id="no_steps", schedule=None, start_date=datetime(2026, 1, 1))
    def body():
        @task
        def plain():
            pass

        plain()

    run = run_dag_test(body())
    path = f"dags/{run.dag_id}/runs/{quote(run.run_id, safe='')}"
    page = visit(f"{path}/plugin/zen-run")
    page.get_by_role("heading", name="This DAG run has no ML steps").wait_for()
    go_to(page, f"{path}/tasks/plain/plugin/zen-step")
    page.get_by_role("heading", name="No record of this task").wait_for()
    go_to(page, f"dags/{run.dag_id}/plugin/zen-dag")
    page.get_by_text("This DAG has no artifacts").wait_for()


def test_a_live_page_goes_on_after_an_error(run, visit):
    """While a DAG run goes on, an answer that fails leaves the graph on the page beside the error, and the next one replaces both."""
    shown = run(rates=(0.1,))
    set_state(shown, DagRunState.RUNNING)
    page = visit(f"{shown.path}/plugin/zen-run")
    live, alert = (
        page.locator(".zen-summary").get_by_text("live", exact=True),
        page.locator(".zen-page").get_by_role("alert"),
    )
    live.wait_for()
    page.route(RUN_ROUTE, lambda request: request.fulfill(status=503, json={"detail": "busy"}), times=1)
    alert.get_by_text("503 busy").wait_for()
    assert page.locator(".zen-card").filter(has_text="load.train").count() == 1
    set_state(shown, DagRunState.SUCCESS)
    live.wait_for(state="detached")
    alert.wait_for(state="detached")
    page.locator(".zen-card").filter(has_text="load.train").wait_for()


def set_state(shown, state):
    with create_session() as session:
        session.query(DagRun).filter_by(dag_id=shown.dag_id, run_id=shown.run_id).update({"state": state})


@pytest.fixture
def page_abroad(window, log_in):
    """A page of a German browser in India, which has another offset than hours."""
    abroad = window.browser.new_context(locale="de-DE", timezone_id="Asia/Kolkata")
    abroad.set_default_timeout(120_000)
    log_in(abroad)
    yield abroad.new_page()
    abroad.close()


def test_numbers_and_times_of_the_reader(run, site, page_abroad):
    """Numbers and times are written as the browser's language asks for, in its time zone, or in the one that was chosen in Airflow."""
    shown = run(rates=(0.1,), rows=1234)
    started = open_stack().records.get(StepRunId(shown.dag_id, shown.run_id, "load")).started
    for zone in (ZoneInfo("Asia/Kolkata"), UTC):
        page_abroad.goto(f"{site}/{shown.path}/tasks/load/plugin/zen-step")
        page_abroad.get_by_text("1.234 rows × 2 columns").first.wait_for()
        page_abroad.get_by_text(f"{datetime.fromtimestamp(started, zone):%d.%m.%Y, %H:%M:%S}").first.wait_for()
        page_abroad.evaluate("localStorage.setItem('timezone', JSON.stringify('UTC'))")
