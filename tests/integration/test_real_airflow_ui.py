"""What a person does in Airflow's own pages that concerns MLflow: enter a connection, follow a link to a log."""

import os
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.localstack.services import request_json
from tests.servers.browser import browser_window
from tests.servers.certificate import signed_by_itself
from tests.servers.guarded_mlflow import ADMIN, PASSWORD, guarded_mlflow

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]

STACKS = """\
stacks:
  guarded:
    artifact_root: {root}
    artifact_conn_id: zen_s3
    mlflow_conn_id: by_form
"""


@pytest.fixture(scope="module")
def window(deployment):
    with browser_window(1100, 1300) as window:
        yield window


@pytest.fixture
def page(window):
    page = window.new_page()
    yield page
    page.close()


@pytest.fixture
def screenshot(tmp_path):
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    return lambda page, name: page.screenshot(path=folder / f"{name}.png")


@pytest.fixture
def guarded(deployment, tmp_path, monkeypatch):
    """An MLflow behind TLS with a user `airflow`, and a stack that asks it through a connection nobody has made yet."""
    tls = signed_by_itself(tmp_path)
    stacks = deployment.layout.directory / "airflow" / "stacks.yaml"
    with guarded_mlflow(tmp_path, tls) as server:
        stacks.write_text(STACKS.format(root=f"{deployment.s3.root}/guarded"))
        admin = MlflowRest(TrackingServer(server.uri, ADMIN, PASSWORD, ca_bundle=tls[0]))
        admin.post("users/create", {"username": "airflow", "password": PASSWORD})
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", tls[0])
        yield SimpleNamespace(port=server.port, ca=tls[0], client=MlflowClient(server.uri))
        stacks.unlink()


def test_a_connection_from_the_form(deployment, guarded, page, screenshot):
    """A connection of type mlflow that a person enters in Airflow's form leads a step to an MLflow with users, over TLS."""
    api = deployment.airflow
    page.goto(f"{api.url}/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.locator("input[name=connection_id]").fill("by_form")
    form.get_by_role("combobox").fill("mlflow")
    page.get_by_role("option", name="MLflow").click()
    form.get_by_label("Tracking URI").fill("https://127.0.0.1")
    form.get_by_label("Port").fill(str(guarded.port))
    form.get_by_label("User name").fill("airflow")
    form.get_by_label("Password").fill(PASSWORD)
    assert form.get_by_label("Schema").count() == 0
    screenshot(page, "airflow-connection")
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    form.get_by_text("Path of a PEM file, on every machine that runs Airflow: the CA").wait_for()
    assert form.locator("input[name=element_token]").get_attribute("type") == "password"
    form.locator("input[name=element_server_cert_path]").fill(guarded.ca)
    screenshot(page, "airflow-connection-extra")
    form.get_by_role("button", name="Save").click()
    row = page.get_by_role("row", name=re.compile("by_form"))
    row.wait_for()
    with page.expect_response("**/connections/test") as answer:
        row.get_by_role("button", name="Test Connection").click()
    assert answer.value.json() == {"status": True, "message": "MLflow answered."}
    shown = request_json("GET", f"{api.url}/api/v2/connections/by_form")
    assert (shown["host"], shown["login"], shown["port"]) == ("https://127.0.0.1", "airflow", guarded.port)
    assert PASSWORD not in str(shown)

    run = api.wait_for_dag_run(api.trigger("again", {"zen": {"stack": "guarded"}}))
    assert run.state == "success"
    assert {step.data.tags["zen.try"]: step.info.status for step in wait_for_try_runs(guarded.client)} == {
        "1": "FAILED",
        "2": "FINISHED",
    }


def test_what_a_task_shows_without_its_log(deployment, page, screenshot):
    """The list of a DAG run says which tasks were cached; a task's page has buttons for MLflow, mapped or not."""
    api, fit, score = deployment.airflow, "tasks/fit/details", "tasks/score/mapped/1/details"
    addresses = []
    page.goto(api.dag_run_url(deployment.second))
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="fit", exact=True))
    row.get_by_text("cached", exact=True).wait_for()
    screenshot(page, "airflow-run")
    for run, task, names in (
        (deployment.first, fit, {"MLflow run", "Artifacts", "Versions"}),
        (deployment.second, fit, {"MLflow run", "Artifacts", "Versions", "Produced by"}),
        (deployment.second, score, {"MLflow run", "Artifacts", "Versions", "Produced by"}),
    ):
        page.goto(f"{api.dag_run_url(run)}/{task}")
        page.get_by_role("link", name="Versions").wait_for()
        buttons = page.locator("a[rel='noopener noreferrer']").filter(has_not=page.locator("svg"))
        links = {button.inner_text(): button.get_attribute("href") for button in buttons.all()}
        assert names == links.keys()
        addresses.append(links.pop("Artifacts"))
        assert addresses[-1].startswith(api.dag_run_url(run))
        assert all(url.startswith(deployment.mlflow_uri) for url in links.values())
    page.get_by_role("heading", name="score [offset=1 (cached)]").wait_for()
    screenshot(page, "airflow-task")
    for address in addresses:
        page.goto(address)
        page.get_by_role("heading", name="Outputs").wait_for()
    page.goto(f"{api.dag_run_url(deployment.second)}/tasks/fit/details")
    page.get_by_role("link", name="Versions").wait_for()
    page.get_by_role("link", name="Storage").click()
    page.get_by_text("zen.cache", exact=True).wait_for()


def wait_for_try_runs(client):
    """Return the runs of both tries; what a busy MLflow did not take at once, the scheduler's process delivers."""
    deadline = time.monotonic() + 120
    while True:
        experiment = client.get_experiment_by_name("airflow/again")
        found = client.search_runs([experiment.experiment_id], "tags.`zen.kind` = 'step'") if experiment else []
        if len(found) == 2 and all(step.info.status != "RUNNING" for step in found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(1)


def test_the_log_of_a_try(deployment, page):
    """MLflow's run of each try links to that try's own log in Airflow's pages."""
    run = deployment.airflow.wait_for_dag_run(deployment.airflow.trigger("again"))
    assert run.state == "success"
    tries = {
        step.data.tags["zen.try"]: re.search(r"\[Log in Airflow\]\((\S+)\)", step.data.tags["mlflow.note.content"])[1]
        for step in wait_for_try_runs(MlflowClient(deployment.mlflow_uri))
    }
    assert set(tries) == {"1", "2"}
    for number, address in tries.items():
        page.goto(address)
        page.get_by_text(f"this is try {number}").wait_for()
        page.get_by_text("stubborn").first.wait_for()
        assert page.get_by_text(f"this is try {3 - int(number)}").count() == 0
