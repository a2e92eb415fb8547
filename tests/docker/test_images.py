"""The images of docker/, built and running. `make test-images` runs this: it takes minutes, and installs from PyPI."""

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from airflow_zen import load
from airflow_zen.runtimes import Docker
from tests.docker.compose import DOCKER
from tests.docker.dags.logged import logged_dag
from tests.docker.images import Images, missing
from tests.harness import run_dag
from tests.servers.process import free_port

pytestmark = [pytest.mark.images, pytest.mark.timeout(3000)]
AIRFLOW, MLFLOW = "airflow-zen:0.1.0", "airflow-zen-mlflow:0.1.0"
RUN_TWICE = "airflow db migrate >/dev/null && airflow dags test small 2026-01-01 && airflow dags test small 2026-01-02"


@pytest.fixture(scope="module")
def engine(docker_engine, tmp_path_factory):
    """An engine that has both images, built here."""
    if programs := missing():
        pytest.fail(f"no {', '.join(programs)} on the PATH: scripts/test-parts.sh installs them on Debian")
    images = Images(docker_engine, tmp_path_factory.mktemp("images"))
    images.make_bases()
    with ThreadPoolExecutor() as pool:
        list(pool.map(images.build, (AIRFLOW, MLFLOW), ("Dockerfile", "mlflow.Dockerfile")))
    return docker_engine


def start(engine, image, *command, environment=None, binds=()):
    """Start a container with this machine's network; return its id."""
    host = engine.client.create_host_config(network_mode="host", binds=list(binds))
    container = engine.client.create_container(image, list(command), environment=environment, host_config=host)["Id"]
    engine.client.start(container)
    return container


def output(engine, image, *command, **options):
    """Run a container to its end; return what it wrote. An exit code other than 0 is an error."""
    container = start(engine, image, *command, **options)
    code = engine.client.wait(container)["StatusCode"]
    text = engine.client.logs(container).decode()
    assert code == 0, text[-4000:]
    return text


@pytest.fixture(scope="module")
def mlflow(engine):
    """A server in the MLflow image, with a database of its own; gives its URL."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    options = ["--port", str(port), "--workers", "1", "--backend-store-uri", "sqlite:////home/mlflow/mlflow.db"]
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    container = start(engine, MLFLOW, "mlflow", "server", *options, environment=settings)
    deadline = time.monotonic() + 600
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=10)
        except OSError:
            log = engine.client.logs(container).decode()
            assert engine.client.inspect_container(container)["State"]["Running"], log
            assert time.monotonic() < deadline, log
            time.sleep(0.5)
        else:
            return url


@pytest.fixture(scope="module")
def pipeline(engine, mlflow, tmp_path_factory):
    """A DAG of two steps, run twice in one container of the Airflow image."""
    root = tmp_path_factory.mktemp("artifacts")
    # The image's user is not the owner of a mounted directory.
    root.chmod(0o777)
    variables = {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__ZEN__ARTIFACT_ROOT": "/artifacts",
        "AIRFLOW__ZEN__MLFLOW_TRACKING_URI": mlflow,
    }
    binds = [f"{DOCKER.parent}/tests/docker/dags/small.py:/opt/airflow/dags/small.py:ro", f"{root}:/artifacts"]
    log = output(engine, AIRFLOW, "bash", "-c", RUN_TWICE, environment=variables, binds=binds)
    return SimpleNamespace(root=root, log=log, mlflow=mlflow)


@pytest.mark.parametrize("image", [AIRFLOW, MLFLOW])
def test_no_image_runs_as_root(engine, image):
    """Containers run as user 50000 of group 0, as the compose file and the Helm chart expect."""
    assert output(engine, image, "id", "-u").strip() == "50000"
    assert output(engine, image, "id", "-g").strip() == "0"


def test_steps_run_in_the_airflow_image(pipeline):
    """Both steps of a DAG succeed, their artifacts are stored, and a second DAG run reuses both results."""
    assert pipeline.log.count("cached: reusing the result of small/") == 2
    manifests = [json.loads(path.read_text()) for path in pipeline.root.glob("artifacts/*/*/manifest.json")]
    assert {manifest["encoding"].split("@")[0] for manifest in manifests} == {"pandas.parquet", "sklearn.mlflow"}


def test_lineage_is_in_the_mlflow_image(pipeline):
    """The server of the MLflow image has the runs of both DAG runs and of their steps, and one version of the model."""
    assert [run["info"]["status"] for run in runs_of("small", pipeline.mlflow)] == ["FINISHED"] * 6
    versions = ask(pipeline.mlflow, "registered-models/get-latest-versions", name="small")["model_versions"]
    assert [version["version"] for version in versions] == ["1"]


def test_a_step_of_the_worker_runs_in_the_airflow_image(engine, mlflow, tmp_path, monkeypatch):
    """With the runtime `Docker` the image runs the step of a DAG outside of it, which logs into its run in MLflow."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", mlflow)
    runtime = Docker(AIRFLOW, network="host", docker_url=engine.url)
    run = run_dag(logged_dag(), conf={"zen": {"runtime": repr(runtime)}})
    assert run.states == {"logged": "success"}, run.tasks[-1].error
    assert load(run.xcom("logged"))["n"].tolist() == [0, 1, 2]
    [step] = [run["data"] for run in runs_of("logged", mlflow) if run["info"]["run_name"] == "logged"]
    assert {metric["key"]: metric["value"] for metric in step["metrics"]}["rows"] == 3


def runs_of(dag_id, url):
    """Return the runs of a DAG, whose experiment has its name."""
    [experiment] = ask(url, "experiments/search", filter=f"name = 'airflow/{dag_id}'", max_results=10)["experiments"]
    return ask(url, "runs/search", experiment_ids=[experiment["experiment_id"]], max_results=100)["runs"]


def ask(url, path, **body):
    """Return what MLflow's API answers."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/{path}", json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request, timeout=60))
