"""What people see of the flight example in Airflow's own pages, in Chromium: computed, reused, and failed."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import airflow_zen
from airflow_zen import Deployment
from airflow_zen.localstack.services import service_environment
from tests.servers.axe import axe_core, violations
from tests.servers.browser import browser_window, go_to

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def window(deployment):
    with browser_window(1280, 900) as window:
        yield window


@pytest.fixture
def page(window):
    """A page on which no script may fail."""
    errors = []
    page = window.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


@pytest.fixture(scope="module")
def computed(deployment, window):
    """The first run, and what a page that was open all the time showed of it before and after."""
    api = deployment.airflow
    api.wait_for_dag("flights", timeout=300)
    api.pause("flights")
    run, page = api.trigger("flights"), window.new_page()
    page.goto(f"{api.dag_run_url(run)}/plugin/zen-run")
    live, cards = page.locator(".zen-summary").get_by_text("live", exact=True), page.locator(".zen-card")
    live.wait_for()
    cards.nth(3).wait_for()
    before = cards.all_inner_texts()
    api.unpause("flights")
    live.wait_for(state="detached")
    cards.filter(has_text="◆").wait_for()
    after = page.locator(".zen-summary").inner_text(), cards.all_inner_texts()
    page.close()
    return SimpleNamespace(run=run, url=api.dag_run_url(run), before=before, after=after)


@pytest.fixture(scope="module")
def later(deployment, computed):
    """The addresses of a run that reuses everything, and of one whose trainings fail."""
    api = deployment.airflow
    runs = {"cached": api.trigger("flights"), "failed": api.trigger("flights", {"learning_rate": -1.0})}
    ended = {name: api.wait_for_dag_run(run).state for name, run in runs.items()}
    assert ended == {"cached": "success", "failed": "failed"}
    return SimpleNamespace(**{name: api.dag_run_url(run) for name, run in runs.items()})


def test_a_page_follows_its_run(computed):
    """A page that was opened before the first step ran shows what came of each step, without being loaded again."""
    assert len(computed.before) == 4
    assert not any("computed" in card for card in computed.before)
    summary, cards = computed.after
    assert "7 computed" in summary
    steps = [card for card in cards if card.startswith(("ingest", "split", "features", "train × 4"))]
    assert len(steps) == sum("computed" in card for card in steps) == 4
    assert any(card.startswith("▤ingest") and "× 27" in card for card in cards)


def test_a_cached_run_from_tab_to_tab(later, computed, page):
    """From the graph of a reused run to a step, its instances, the DAG and the catalogue, by clicks alone."""
    page.emulate_media(color_scheme="dark")
    page.goto(later.cached)
    page.get_by_role("link", name="Lineage", exact=True).click()
    page.get_by_text("7 reused").wait_for()
    page.locator(".zen-card").filter(has_text="train × 4").filter(has_text="cached").wait_for()
    page.get_by_role("group", name="step features,").click()
    page.get_by_role("link", name="Open inputs and outputs").click()
    page.get_by_role("region", name="Why it ran").get_by_text(computed.run.run_id.partition(".")[0]).first.wait_for()
    page.frame_locator("iframe").first.locator("svg").first.wait_for()
    page.get_by_role("cell", name="plane_age").first.wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").first.click()
    assert Path(download.value.path()).read_bytes()[:4] == b"PAR1"

    page.get_by_role("region", name="Read by").get_by_role("link", name="train × 4", exact=True).click()
    instances = page.get_by_role("region", name="Instances of train")
    instances.get_by_role("button", name="max_iter").click()
    instances.get_by_role("link", name="3", exact=True).click()
    page.get_by_role("region", name="Parameters").get_by_text("max_iter").wait_for()
    page.get_by_role("region", name="Made from").get_by_role("link", name="features").wait_for()
    # Airflow's own tabs, and its way back to the DAG.
    page.get_by_role("link", name="Details", exact=True).click()
    page.get_by_role("link", name="Artifacts", exact=True).first.click()
    page.get_by_role("heading", name="Outputs").wait_for()
    page.get_by_role("link", name="flights").first.click()
    page.get_by_role("link", name="Artifact history").click()
    page.get_by_role("region", name="Versions of flights/split.train").get_by_role("link").first.click()
    page.get_by_role("heading", name="flights/split.train").wait_for()
    page.get_by_role("tab", name="Lineage").click()
    page.locator(".zen-card").filter(has_text="features").first.wait_for()
    page.get_by_role("link", name="All artifacts").click()
    page.get_by_label("Search artifacts").fill("FLIGHTS/SPLIT.T")
    page.get_by_text("2 artifacts", exact=True).wait_for()
    page.get_by_role("tab", name="Storage").click()
    page.get_by_role("region", name="Storage by name").get_by_role("link", name="flights/split.train").wait_for()


def test_a_failed_run_from_its_graph_to_the_error(later, page):
    """The graph shows what failed, and leads to the instances and the error of each."""
    page.goto(f"{later.failed}/plugin/zen-run")
    page.get_by_text("4 failed").first.wait_for()
    page.locator(".zen-card").filter(has_text="train × 4").filter(has_text="failed").click()
    page.get_by_role("link", name="Open all instances").click()
    page.get_by_role("region", name="Instances of train").get_by_role("link", name="3", exact=True).click()
    page.get_by_role("alert").get_by_text("learning_rate").wait_for()


@pytest.fixture
def deployed(deployment, monkeypatch):
    """A deployment in the catalogue, whose service does not run."""
    for name, value in service_environment(deployment.layout, deployment.environment).items():
        if name.startswith(("AIRFLOW__ZEN__", "AIRFLOW_CONN_")):
            monkeypatch.setenv(name, value)
    url, target = "http://127.0.0.1:9/flights", "MLflowServing()"
    facts = {"model": "churn", "version": "1", "digest": "0" * 64, "owner": "airflow", "since": "2026-01-01T00:00:00Z"}
    airflow_zen.save_artifact(
        Deployment("flights", endpoint=url, predict_url=url, target=target, **facts), "deployments/flights"
    )


def test_no_view_violates_wcag(later, deployed, page, tmp_path):
    """Each view meets the rules of WCAG 2.2 AA that a program can test, in both colour schemes."""
    axe = axe_core(tmp_path)
    base, _, failed = later.failed.partition("/dags/")
    failed, run_id = f"dags/{failed}", failed.rpartition("/")[2]
    named = "plugin/zen-artifacts?name=flights/split.train"
    views = {
        f"{failed}/plugin/zen-run?node=steps:train": ".zen-card.chosen",
        f"{failed}/plugin/zen-run?view=steps": "table",
        f"{failed}/tasks/ingest/plugin/zen-step": "table",
        f"{failed}/tasks/train/mapped/3/plugin/zen-step": "[role=alert]",
        f"dags/flights/tasks/train/plugin/zen-task?run_id={run_id}": "table",
        "dags/flights/plugin/zen-dag": "table",
        "dags/flights/plugin/zen-dag?view=plan": "table",
        "dags/flights/plugin/zen-dag?view=compare": "table",
        "plugin/zen-artifacts": "table",
        named: "dl",
        f"{named}&part=versions": "table",
        f"{named}&part=compare": "p",
        f"{named}&part=lineage": ".zen-card",
        "plugin/zen-artifacts?view=models": "table",
        "plugin/zen-artifacts?view=deployments": "table",
        "plugin/zen-artifacts?view=storage": "table",
        "plugin/zen-artifacts?name=flights/none": "[role=alert]",
    }
    page.goto(f"{base}/{next(iter(views))}")
    for path, part in views.items():
        go_to(page, path)
        if path.endswith("view=plan"):
            page.get_by_role("button", name="Plan a run now").click()
        page.locator(f".zen-page {part}:visible").first.wait_for()
        for scheme in ("light", "dark"):
            assert violations(page, axe, scheme) == [], (path, scheme)
