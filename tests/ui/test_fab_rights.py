from urllib.parse import quote

import pytest
from airflow.api_fastapi import app

from tests.servers.application import served
from tests.servers.browser import go_to
from tests.ui.page_routes import LISTS, requests_for

pytest.importorskip("airflow.providers.fab", reason="needs apache-airflow-providers-fab")

_MANAGER = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
# What Airflow's own pages ask for is among them.
_PARTS = ("DAG Runs", "Task Instances", "XComs", "DAG Code", "DAG Versions", "Website", "Plugins")
_PASSWORD = "secret"
_NOT_FOUND = "There is nothing at this address, or you may not see it."


@pytest.fixture(scope="module")
def fab_server(airflow_db):
    """Airflow's application with the auth manager of Flask-AppBuilder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", _MANAGER)
        patch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
        patch.setattr(app._AuthManagerState, "instance", None)
        yield app.create_app(apps="core")


@pytest.fixture
def get_as_reader(fab_server):
    """Send a request as a user whose role may read one DAG: `get_as_reader(dag_id, path, query)`."""
    from fastapi.testclient import TestClient

    manager = fab_server.state.auth_manager
    client = TestClient(fab_server, raise_server_exceptions=False)

    def send(dag_id, path, query):
        with manager.flask_app.app_context():
            user = _reader(manager.security_manager, dag_id)
            token = manager.generate_jwt(user)
        return client.get(f"/zen/{path}", params=query, headers={"Authorization": f"Bearer {token}"})

    return send


def _reader(security, dag_id):
    name = f"reader of {dag_id}"
    if user := security.find_user(username=name):
        return user
    role = security.add_role(name)
    for resource in (f"DAG:{dag_id}", *_PARTS):
        security.add_permission_to_role(role, security.create_permission("can_read", resource))
    return security.add_user(name, "A", "Reader", f"{dag_id}@example.org", role, password=_PASSWORD)


@pytest.mark.server
def test_shows_a_user_of_fab_the_dag_that_its_role_may_read(ran, deploy, get_as_reader):
    """A user whose role in FAB may read one DAG sees all its pages and lists what it made, and finds none of another's."""
    dag_id = ran(rates=(0.1,))
    for path, query in requests_for(dag_id):
        found = {reads: get_as_reader(reads, path, query).status_code for reads in (dag_id, "other")}
        assert found == {dag_id: 200, "other": 404}, path
    deploy(dag_id)
    for path, field in LISTS.items():
        listed = {reads: get_as_reader(reads, path[1:], {}).json()[field] for reads in (dag_id, "other")}
        assert listed[dag_id], path
        assert listed["other"] == [], path


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_shows_one_dag_to_a_person_who_logs_in_by_the_form(run, fab_server, window):
    """In Chromium, after FAB's own login, a DAG without permission is not found on any page, by click or address, nor named."""
    shown, hidden = (run(dag_id=dag_id, rates=(0.1,)) for dag_id in ("fab_shown", "fab_hidden"))
    manager = fab_server.state.auth_manager
    with manager.flask_app.app_context():
        _reader(manager.security_manager, shown.dag_id)
    page = window.new_page()
    with served(fab_server) as site:
        page.goto(f"{site}/{shown.path}/plugin/zen-run")
        _log_in(page, f"reader of {shown.dag_id}")
        page.goto(f"{site}/{shown.path}/plugin/zen-run")
        page.locator(".zen-card").filter(has_text="load.train").wait_for()
        for open_address in (lambda path: go_to(page, path), lambda path: page.goto(f"{site}/{path}")):
            for path in (
                f"{hidden.path}/plugin/zen-run",
                f"{hidden.path}/tasks/load/plugin/zen-step",
                f"dags/{hidden.dag_id}/tasks/trial/plugin/zen-task?run_id={quote(hidden.run_id)}",
                f"dags/{hidden.dag_id}/plugin/zen-dag",
                f"plugin/zen-artifacts?name={hidden.dag_id}/load.train",
            ):
                with page.expect_response(lambda answer: _is_about(answer, hidden)) as answer:
                    open_address(path)
                assert answer.value.status == 404, path
                page.get_by_role("alert").get_by_text(_NOT_FOUND).wait_for()
        page.get_by_role("link", name="All artifacts").click()
        for view in ("Artifacts", "Storage"):
            page.get_by_role("tab", name=view).click()
            page.get_by_role("link", name=f"{shown.dag_id}/load.train").wait_for()
            assert hidden.dag_id not in page.content()
    page.close()


def _is_about(answer, run):
    return "/zen/api/" in answer.url and run.dag_id in answer.url


def _log_in(page, name):
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(_PASSWORD)
    page.get_by_role("button", name="Sign In").click()
    page.wait_for_url(lambda address: "/auth/login" not in address)
