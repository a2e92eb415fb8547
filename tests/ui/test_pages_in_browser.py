"""What people see and do on our pages: Chromium on Airflow's own pages, served by its API server."""

import socket
import threading
import time
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import uvicorn
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

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
    """A DAG run of Airflow's database: five trials, one of which failed, on a table with a hostile column."""
    run = run_dag_test(pipeline(rates=(0.1, 0.2, 0.3, 0.4, -1.0), column=HOSTILE))
    return SimpleNamespace(dag_id=run.dag_id, path=f"dags/{run.dag_id}/runs/{quote(run.run_id, safe='')}")


def test_a_run_from_its_graph_to_a_step(run, visit):
    """In the graph an artifact is found and followed; the table of steps leads to a step, and the trials are one table."""
    page = visit(f"{run.path}/plugin/zen-run")
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


def test_a_hostile_column_is_text(run, visit):
    """Markup in the name of a column is shown as text, and a stored preview has an origin of its own."""
    page = visit(f"{run.path}/tasks/load/plugin/zen-step", dark=True)
    page.locator("summary").filter(has_text="train").first.click()
    page.get_by_role("cell", name=HOSTILE).first.wait_for()
    assert page.title() != "1"
    assert page.locator("html.dark").count() == 1
    assert {frame.get_attribute("sandbox") for frame in page.locator(".zen-page iframe").all()} == {"allow-scripts"}
    assert page.locator(".zen-page img[src=x]").count() == 0
