import pytest
from airflow.api_fastapi import app

from tests.ui.page_routes import LISTS, requests_for

pytest.importorskip("airflow.providers.fab", reason="needs apache-airflow-providers-fab")

_MANAGER = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
_PARTS = ("DAG Runs", "Task Instances", "XComs", "DAG Code")


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
    return security.add_user(name, "A", "Reader", f"{dag_id}@example.org", role, password="secret")


def test_shows_a_user_of_fab_the_dag_that_its_role_may_read(ran, pipeline, get_as_reader):
    """A user whose role in FAB may read one DAG sees all its pages, finds none of another, and lists none of its artifacts."""
    dag_id = ran(rates=(0.1,))
    for path, query in requests_for(dag_id):
        found = {reads: get_as_reader(reads, path, query).status_code for reads in (dag_id, "other")}
        assert found == {dag_id: 200, "other": 404}, path
    for path, field in LISTS.items():
        assert get_as_reader("other", path[1:], {}).json()[field] == []
    assert len(get_as_reader(dag_id, "api/catalogue", {}).json()["artifacts"]) > 0
