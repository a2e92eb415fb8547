"""The services of the compose file, running without Docker."""

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError

from airflow_zen.localstack.services import request_json
from tests.docker.loss import WorkerLossScenario, count_mlflow_runs, expected
from tests.docker.stack import STARTED, missing
from tests.docker.stack import stack as run_stack
from tests.servers.airflow_api import AirflowApi

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1200)]

PARTS = 16
WORKERS = {"worker": "default,sums", "worker-2": "default"}
# Nobody wants to wait: seconds for a lost worker's tasks where a deployment waits for minutes.
SHORT_TIMEOUTS = {"LOST_AFTER": "12", "QUEUED_AT_MOST": "60"}
FREQUENT_CHECKS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    "AIRFLOW__CORE__PARALLELISM": "6",
    # Nobody changes the DAG files: each is parsed once.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
}


@pytest.fixture(scope="module")
def stack(secrets, tmp_path_factory):
    """All services, healthy, with two workers that share only network addresses."""
    if lacking := missing():
        reason = f"no {', '.join(lacking)} on the PATH: scripts/test-parts.sh installs Redis; install PostgreSQL"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    dags = Path(__file__).parent / "dags"
    with run_stack(
        tmp_path_factory.mktemp("stack"), secrets, dags, WORKERS, SHORT_TIMEOUTS, FREQUENT_CHECKS
    ) as running:
        yield running


@pytest.fixture(scope="module")
def api(stack, secrets):
    return AirflowApi(stack.paths.url("api-server"), (secrets / "admin_password").read_text())


@pytest.fixture(scope="module")
def run(stack, api):
    """One finished run of the small pipeline."""
    api.wait_for_dag("small", timeout=300)
    api.unpause("small")
    return api.wait_for_dag_run(api.trigger("small"), timeout=300)


def s3(stack, secrets, who):
    key = (secrets / f"s3_{who}_key").read_text()
    return boto3.client(
        "s3",
        endpoint_url=stack.paths.url("s3"),
        region_name="us-east-1",
        aws_access_key_id=who,
        aws_secret_access_key=key,
    )


def keys(client, bucket):
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_a_pipeline_runs_on_a_celery_worker(stack, api, run):
    """Steps succeed on a worker that shares no disk and no database password with other services."""
    assert run.state == "success", [stack.tail(name) for name in ("worker", "scheduler")]
    assert [(task.task_id, task.state) for task in api.task_instances(run)] == [
        ("customers", "success"),
        ("fit", "success"),
    ]


def test_artifacts_are_in_the_bucket(stack, secrets, api, run):
    """A step's result is under the artifact root of the compose file."""
    ref = api.xcom(run, api.task_instances(run)[1])
    path = ref["uri"].removeprefix("s3://artifacts/")
    assert path.startswith("production/")
    assert [key for key in keys(s3(stack, secrets, "airflow"), "artifacts") if key == f"{path}/MLmodel"]


def test_the_log_is_in_the_bucket(stack, secrets, api, run):
    """A task's log is in the bucket, and Airflow shows it from there."""
    bucket, deadline = s3(stack, secrets, "airflow"), time.monotonic() + 240
    # The worker sends it once it has told that the task has ended.
    while not [key for key in keys(bucket, "logs") if "task_id=fit" in key]:
        assert time.monotonic() < deadline, stack.tail("worker")
        time.sleep(0.2)
    assert "fit" in api.log(run, api.task_instances(run)[1])


def test_mlflow_shows_the_run_as_ended(stack, run):
    """The scheduler reads both connections from their file, and closes the DAG run in MLflow."""
    url = stack.paths.url("mlflow")
    found = request_json("GET", f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=airflow%2Fsmall")
    asked = {"experiment_ids": [found["experiment"]["experiment_id"]]}
    deadline = time.monotonic() + 240
    while True:
        runs = request_json("POST", f"{url}/api/2.0/mlflow/runs/search", asked)["runs"]
        states = sorted((run["info"]["run_name"], run["info"]["status"]) for run in runs)
        if [state for _, state in states] == ["FINISHED"] * 3:
            break
        assert time.monotonic() < deadline, (states, stack.tail("scheduler"))
        time.sleep(0.5)
    assert request_json("GET", f"{url}/api/2.0/mlflow/registered-models/get?name=small")["registered_model"]


def test_one_of_concurrent_creators_succeeds(stack, secrets):
    """The S3 server lets exactly one of sixteen clients create a key, so that one of several equal steps computes."""
    client = s3(stack, secrets, "airflow")

    def create(number):
        try:
            client.put_object(Bucket="artifacts", Key="probe", Body=b"%d" % number, IfNoneMatch="*")
        except ClientError as error:
            return error.response["Error"]["Code"]
        return number

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(create, range(16)))
    assert sorted(map(str, results), key=str.isdigit)[:15] == ["PreconditionFailed"] * 15
    (winner,) = [result for result in results if isinstance(result, int)]
    assert client.get_object(Bucket="artifacts", Key="probe")["Body"].read() == b"%d" % winner


def test_each_s3_user_can_access_its_own_buckets_only(stack, secrets):
    """Tasks cannot read MLflow's own artifacts, and MLflow cannot read the logs."""
    for who, bucket in (("airflow", "mlflow"), ("mlflow", "logs")):
        with pytest.raises(ClientError, match="AccessDenied"):
            s3(stack, secrets, who).list_objects_v2(Bucket=bucket)


def test_a_worker_cannot_read_files_of_another(stack):
    """No worker can read the home of another; they share only network addresses."""
    first, second = (stack.own_paths[name] for name in WORKERS)
    if first.group is None:
        pytest.skip("only root can give each worker a group of its own")
    seen = subprocess.run([*second.prefix(), "ls", second.directory, first.directory], capture_output=True, text=True)
    assert f"{first.directory}': Permission denied" in seen.stderr
    assert "given" in seen.stdout


@pytest.fixture(scope="module")
def lost(stack, secrets, api, run):
    """A run of mapped steps, in the middle of which the second worker was killed with everything it ran."""
    return WorkerLossScenario(stack, secrets, api, "worker-2").run(PARTS, timeout=600)


def test_a_lost_worker_costs_no_result(stack, lost):
    """Both workers ran tasks; those of the lost worker were retried, and the result is that of plain Python."""
    assert lost.run.state == "success", stack.tail("scheduler")
    assert lost.result == expected(PARTS)
    assert set(lost.shares) == set(WORKERS)
    assert lost.retried


def test_no_stored_result_is_computed_again(lost):
    """A part whose result was cached when its worker died is a hit in the next try; only other parts are called again."""
    assert lost.wasted == []
    stored_but_not_told = {task.map_index for task in lost.retried} & lost.loss.remembered
    assert stored_but_not_told
    assert stored_but_not_told <= set(lost.hits)
    assert set(lost.computed_again).isdisjoint(lost.loss.remembered)
    assert {len(lost.calls(number)) for number in range(PARTS)} <= {1, 2}


def test_mlflow_shows_the_run_and_the_killed_steps(stack, lost):
    """Under one parent every step has finished, and the runs of the dead worker are shown as killed."""
    counts = count_mlflow_runs(stack, lost.run)
    assert len(lost.unrecorded) <= counts.pop("part KILLED", 0) <= len(lost.retried)
    finished = len(lost.records) - 1
    # A worker can die between remembering a result and recording it: the next try is a hit, the first is not FINISHED.
    recorded_first = set(lost.hits) - {told.number for told in lost.unrecorded}
    assert PARTS <= finished == PARTS + len(recorded_first)
    assert counts == {"dag_run FINISHED": 1, "part FINISHED": finished, "total FINISHED": 1}


def test_no_process_has_a_secret_in_its_environment(stack, secrets, run):
    """Neither the environment nor the command line of any process of the stack contains a password or a key."""
    values = [file.read_text().strip() for file in secrets.iterdir() if file.name.endswith(("_password", "_key"))]
    values.append((secrets / "jwt_secret").read_text())
    seen = 0
    for name, process in stack.processes.items():
        if process.poll() is not None:
            continue
        started = psutil.Process(process.pid)
        for one in [started, *started.children(recursive=True)]:
            try:
                text = json.dumps([one.cmdline(), one.environ()])
            except psutil.NoSuchProcess:
                continue  # it has ended, and is at most still waited for
            seen += 1
            assert [value[:4] for value in values if value in text] == [], (name, one)
    assert seen >= len(STARTED) - 2


def test_existing_buckets_stay(stack):
    """A stack that is started a second time keeps its buckets."""
    service, paths = stack.services["buckets"], stack.paths
    told, home = paths.environment(service), paths.home("buckets")
    done = subprocess.run(paths.command(service), env=told, cwd=home, capture_output=True, text=True)
    assert done.stdout == "bucket artifacts is there\nbucket logs is there\nbucket mlflow is there\n"


def test_a_health_check_fails_when_the_service_is_stopped(stack):
    """Each health check fails when its own service is stopped. This test is the last, because it stops everything."""
    stack.stop()
    healthy = [
        name for name in ("redis", "s3", "mlflow", "api-server", "scheduler") if not stack.check(name).returncode
    ]
    assert healthy == []
