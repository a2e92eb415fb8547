"""Airflow's real API server in this process, with our pages and users that have rights per DAG."""

import uuid
from datetime import datetime
from functools import wraps
from types import SimpleNamespace
from typing import Annotated
from urllib.parse import quote

import pandas as pd
import pytest
from airflow.sdk import dag

from airflow_zen import Artifact, Deployment, Output, fused, log_metadata, ml_step
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.transports.local import LocalTransport
from airflow_zen.transports.timeouts import Timeouts
from tests.harness import run_dag
from tests.servers.application import served
from tests.servers.browser import browser_window

_MANAGER = "tests.ui.per_dag_rights.PerDagAuthManager"


@ml_step
def load(rows: int, column: str = "x", cell_length: int = 0) -> Output(train=pd.DataFrame, test=pd.DataFrame):
    frame = pd.DataFrame({column: range(rows), "y": [0.5] * rows})
    if cell_length:
        frame["cell"] = "<b>" + "x" * cell_length
    return frame, frame.head(2)


@ml_step
def trial(frame: pd.DataFrame, rate: float) -> float:
    if rate < 0:
        raise ValueError("a negative rate")
    log_metadata({"loss": 1 - rate})
    return float(len(frame)) * rate


@ml_step
def best(scores: list[float]) -> float:
    return max(scores)


@pytest.fixture(scope="session")
def api_server(airflow_db):
    """Airflow's application, as `airflow api-server` serves it."""
    from airflow.api_fastapi import app

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", _MANAGER)
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "nobody:viewer")
        app.purge_cached_app()
        yield app.create_app(apps="core")
        app.purge_cached_app()


@pytest.fixture
def get(api_server, monkeypatch):
    """Send a request as a user: `get(path, reads="dag_a,dag_b", **query)` gives the response; `reads=None` is anonymous."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    client = TestClient(api_server, raise_server_exceptions=False)

    def send(path, reads="*", **query):
        headers = {}
        if reads is not None:
            user = SimpleAuthManagerUser(username="someone", role=reads)
            headers["Authorization"] = f"Bearer {api_server.state.auth_manager.generate_jwt(user)}"
        return client.get(f"/zen/{path}", params=query or None, headers=headers)

    return send


@pytest.fixture
def answer(get):
    """Return the JSON of a request that succeeds."""

    def read(path, **query):
        response = get(path, **query)
        assert response.status_code == 200, response.text
        return response.json()

    return read


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty artifact root of the active stack."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def store_requests(monkeypatch):
    """The names of the requests to local roots so far, as a list that a test may clear."""
    requests = []

    def count(method):
        @wraps(method)
        def counting(*arguments, **options):
            requests.append(method.__name__)
            return method(*arguments, **options)

        return counting

    for name in ("read", "list_objects", "list_prefixes", "first_key", "exists", "list"):
        monkeypatch.setattr(LocalTransport, name, count(getattr(LocalTransport, name)))
    return requests


@pytest.fixture
def pipeline(root):
    """Build the DAG of `load`, mapped `trial` and `best`: `pipeline(rates, rows, column, cell_length)`."""
    dag_id = f"pages_{uuid.uuid4().hex[:8]}"

    def build(rates=(0.1, 0.2, 0.3, 0.4, 0.5), rows=20, column="x", cell_length=0, dag_id=dag_id):
        @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1))
        def body():
            train, _ = load(rows, column, cell_length)
            best(trial.partial(frame=train).expand(rate=list(rates)))

        return body()

    return build


@pytest.fixture
def grouped(root):
    """A DAG of `load` and `trial` in the fused group `prepare`, and of `trial` in batches of two elements."""

    @dag(dag_id=f"pages_{uuid.uuid4().hex[:8]}", schedule=None, start_date=datetime(2026, 1, 1))
    def body():
        with fused("prepare"):
            train, _ = load(5)
            trial(train, 0.7)
        trial.partial(frame=train).expand(rate=[0.1, 0.2, 0.3, 0.4, 0.5], batch=2)

    return body()


@pytest.fixture
def ran(pipeline):
    """Run the DAG without Airflow's database: `ran(run_id="r1", **options)` gives the DAG's id."""

    def run(run_id="r1", **options):
        built = pipeline(**options)
        run_dag(built, run_id=run_id)
        return built.dag_id

    return run


@pytest.fixture
def run(pipeline, run_dag_test):
    """Run the DAG in Airflow's database: `run(**options of the pipeline)` gives its id and the address of the DAG run."""

    def start(**options):
        run = run_dag_test(pipeline(**options))
        path = f"dags/{run.dag_id}/runs/{quote(run.run_id, safe='')}"
        return SimpleNamespace(dag_id=run.dag_id, run_id=run.run_id, path=path)

    return start


@pytest.fixture
def deploy(server, root, monkeypatch):
    """Run a step that returns a deployment, and register a model as it does: `deploy(dag_id)` gives the name of both."""
    rest = MlflowRest(TrackingServer(server.uri))

    def register(dag_id):
        name = f"a_{uuid.uuid4().hex[:8]}"
        run_dag(_deploying(dag_id, name), run_id="deployed")
        rest.post("registered-models/create", {"name": name})
        tags = [{"key": "zen.dag_id", "value": dag_id}]
        rest.post("model-versions/create", {"name": name, "source": f"s3://bucket/{name}", "tags": tags})
        monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
        monkeypatch.setattr("airflow_zen.ui.stacks._MLFLOW_TIMEOUTS", Timeouts(60.0, 60.0, answer=60.0))
        return name

    return register


def _deploying(dag_id, name):
    """Build a DAG of one step that returns a deployment whose service does not run."""

    @ml_step
    def publish() -> Annotated[Deployment, Artifact(f"deployments/{name}")]:
        facts = {"model": name, "version": "1", "digest": "0" * 64, "owner": "ada", "since": "2026-01-01T00:00:00Z"}
        url = "http://127.0.0.1:9"
        return Deployment(name, endpoint=url, predict_url=url, target="MLflowServing()", **facts)

    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1))
    def body():
        publish()

    return body()


@pytest.fixture(scope="module")
def site(api_server):
    """Airflow's API server on a port of this machine; gives its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
        with served(api_server) as address:
            yield address


@pytest.fixture(scope="module")
def window():
    with browser_window(1280, 900) as window:
        yield window


@pytest.fixture
def new_page(window):
    """Open an empty page, on which no script may fail: `new_page(dark=True)`."""
    opened, errors = [], []

    def open_page(dark=False):
        page = window.new_page()
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.on("pageerror", lambda error: errors.append(str(error)))
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        page.close()
    assert errors == []


@pytest.fixture
def log_in(site, api_server):
    """Log a user in to a context of the browser: `log_in(window, reads="dag_a")`."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    def add_cookie(window, reads="*"):
        user = SimpleAuthManagerUser(username="someone", role=reads)
        token = api_server.state.auth_manager.generate_jwt(user)
        window.add_cookies([{"name": "_token", "value": token, "url": site}])

    return add_cookie


@pytest.fixture
def visit(window, site, new_page, log_in):
    """Open an address as a user: `visit(path, reads="dag_a", dark=True)` gives the page."""

    def open_address(path, reads="*", dark=False):
        log_in(window, reads)
        page = new_page(dark)
        page.goto(f"{site}/{path}")
        return page

    return open_address
