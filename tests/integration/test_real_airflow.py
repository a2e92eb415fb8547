"""The main job in a real Airflow (api-server, scheduler, LocalExecutor, PostgreSQL), a real MLflow and a real S3 store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.localstack.services import request_json
from tests.servers.airflow_api import DagRun
from tests.servers.mlflow_server import tracked_at

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = "s3://artifacts/local"


@pytest.fixture(scope="module")
def mlflow(deployment):
    """MLflow's own client, as a data scientist uses it."""
    import mlflow

    with tracked_at(deployment.mlflow_uri), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_S3_ENDPOINT_URL", deployment.s3.endpoint)
        for name, value in deployment.s3.environment().items():
            patch.setenv(name, value)
        yield mlflow


def runs(mlflow, filter_string):
    experiment = mlflow.get_experiment_by_name("airflow/churn")
    return mlflow.MlflowClient().search_runs([experiment.experiment_id], filter_string, max_results=100)


def test_the_pipeline_succeeds(deployment):
    """Every task of a typed pipeline succeeds, mapped ones too, and values arrive at the end."""
    assert deployment.first.state == "success"
    assert {task.state for task in deployment.tasks(deployment.first).values()} == {"success"}
    assert deployment.xcom(deployment.first, "look") > 2


def test_a_task_finds_what_steps_import(deployment):
    """A task's process, a fork of the scheduler, has imported what a step needs before its DAG file is parsed."""
    task = deployment.tasks(deployment.first)["look", -1]
    assert "steps are preloaded: True" in deployment.airflow.log(deployment.first, task)


def test_artifacts_are_in_s3(deployment):
    """XCom holds refs to parquet tables and models that any tool can read from the bucket of the stack's S3 server."""
    import pyarrow.parquet as pq
    import s3fs

    ref = ArtifactRef.from_wire(deployment.xcom(deployment.first, "customers", key="train"))
    assert ref.uri.startswith(f"{ROOT}/artifacts/")
    fs = s3fs.S3FileSystem(**deployment.s3.storage_options())
    assert pq.read_table(f"{ref.uri}/{ref.files[0].path}", filesystem=fs).num_rows == 100
    assert "MLmodel" in [path.rsplit("/", 1)[1] for path in fs.ls(deployment.xcom(deployment.first, "fit")["uri"])]


def test_the_second_run_is_cached(deployment):
    """Triggered again, every step is green without work, and says whose result it reuses."""
    assert deployment.second.state == "success"
    for task_id, map_index in deployment.tasks(deployment.second):
        if task_id == "look":
            continue
        value = deployment.xcom(deployment.second, task_id, map_index)
        for ref in [value] if ArtifactRef.is_wire(value) else value.values():
            assert ref["cached"] is True
            assert deployment.first.run_id in ref["origin"]


def test_a_cached_task_says_so_in_its_log(deployment):
    """The log of a cached task names the run that made the result."""
    task = deployment.tasks(deployment.second)["fit", -1]
    assert f"cached: reusing the result of churn/{deployment.first.run_id}/fit" in deployment.airflow.log(
        deployment.second, task
    )


def test_a_run_can_be_computed_anew(deployment):
    """`{"zen": {"cache": false}}` runs everything, and equal content has the same digest."""
    run = deployment.airflow.wait_for_dag_run(deployment.airflow.trigger("churn", {"zen": {"cache": False}}))
    assert run.state == "success"
    before, after = (deployment.xcom(r, "fit") for r in (deployment.first, run))
    assert (after["cached"], after["digest"]) == (False, before["digest"])


def test_one_parent_run_and_a_nested_run_for_each_task(deployment, mlflow):
    """MLflow shows each DAG run as one run, with a nested run for every step and map index."""
    for dag_run in (deployment.first, deployment.second):
        key = f"churn/{dag_run.run_id}"
        (parent,) = runs(mlflow, f"tags.`zen.run_key` = '{key}' and tags.`zen.kind` = 'dag_run'")
        nested = runs(mlflow, f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
        names = sorted(run.data.tags["zen.task_id"] + run.data.tags.get("zen.map_index", "-1") for run in nested)
        assert names == ["best-1", "customers-1", "fit-1", "score0", "score1", "score2"]
        assert {run.info.status for run in nested} == {"FINISHED"}


def test_the_parent_run_ends_with_the_dag_run(deployment, mlflow):
    """The scheduler closes the DAG run's MLflow run when it ends, and has its lineage graph drawn there."""
    deadline = time.monotonic() + 300
    condition = f"tags.`zen.run_key` = 'churn/{deployment.first.run_id}' and tags.`zen.kind` = 'dag_run'"
    while True:
        (parent,) = runs(mlflow, condition)
        if "lineage/lineage.svg" in parent.data.tags.get("mlflow.note.content", "") or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert (parent.info.status, parent.data.metrics["zen.steps"]) == ("FINISHED", 6)
    drawn = mlflow.MlflowClient().list_artifacts(parent.info.run_id, "lineage")
    assert [Path(file.path).suffix for file in drawn] == [".html", ".json", ".md", ".svg"]


def test_the_users_own_metrics_land_in_the_step(deployment, mlflow):
    """`mlflow.log_metric` inside a step needs no set-up and lands in the step's run."""
    scores = runs(mlflow, f"tags.`zen.run_id` = '{deployment.first.run_id}' and tags.`zen.task_id` = 'score'")
    assert len({run.data.metrics["accuracy"] for run in scores}) == 3
    assert {run.data.params["offset"] for run in scores} == {"0", "1", "2"}


def test_inputs_and_outputs_are_datasets(deployment, mlflow):
    """Each step run names its input and output artifacts by digest."""
    (fit,) = runs(mlflow, f"tags.`zen.run_id` = '{deployment.first.run_id}' and tags.`zen.task_id` = 'fit'")
    digest = deployment.xcom(deployment.first, "customers", key="train")["digest"][:16]
    (given,) = [d for d in fit.inputs.dataset_inputs if d.dataset.digest == digest]
    assert [tag.value for tag in given.tags if tag.key == "mlflow.data.context"] == ["input"]
    assert "age" in given.dataset.schema or "age" in str(
        runs(mlflow, f"dataset.digest = '{digest}'")[0].inputs.dataset_inputs[0].dataset.schema
    )


def test_the_model_is_registered_and_loads(deployment, mlflow):
    """`model="churn"` makes a version that MLflow's own loaders read from S3."""
    import pandas as pd

    model = mlflow.pyfunc.load_model("models:/churn/1")
    assert list(model.predict(pd.DataFrame({"age": [150, 151], "calls": [6, 0]}))) == [True, False]


def test_a_hit_registers_no_second_version(deployment, mlflow):
    """A cached training step points to the model it reuses, and makes no new version of it."""
    versions = mlflow.MlflowClient().search_model_versions("name = 'churn'")
    runs_of_versions = {version.run_id for version in versions}
    (cached,) = runs(mlflow, f"tags.`zen.run_id` = '{deployment.second.run_id}' and tags.`zen.task_id` = 'fit'")
    assert cached.info.run_id not in runs_of_versions
    assert cached.data.tags["zen.cache"] == "hit"


def test_a_failure_is_told_everywhere(deployment, mlflow):
    """A step that fails is red in Airflow and FAILED in MLflow, and so is its DAG run."""
    run = deployment.airflow.wait_for_dag_run(deployment.airflow.trigger("broken"))
    assert run.state == "failed"
    experiment = mlflow.get_experiment_by_name("airflow/broken")
    client = mlflow.MlflowClient()
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        found = client.search_runs([experiment.experiment_id])
        if {r.info.status for r in found} == {"FAILED"}:
            break
        time.sleep(1)
    told = (deployment.layout.directory / "logs" / "scheduler.log").read_text()
    assert [r.info.status for r in found] == ["FAILED", "FAILED"], told[-3000:]


@pytest.fixture(scope="module")
def backfilled(deployment):
    """The number of a backfill of three days, of which an earlier one had done the first two."""
    deployment.backfill("daily", "2026-02-02T00:00:00Z", "2026-02-03T00:00:00Z")
    return deployment.backfill("daily", "2026-02-02T00:00:00Z", "2026-02-04T00:00:00Z")


def test_a_backfill_computes_what_changed_and_says_what_it_saved(deployment, backfilled):
    """A backfill reuses the days that are known, and Airflow's log and `cache stats` count them when it ends."""
    told = "3 partitions: 2 reused, 1 run,"
    assert told in deployment.run_zen_command("cache", "stats", "daily", "--backfill", str(backfilled))
    scheduler = deployment.layout.directory / "logs" / "scheduler.log"
    deadline = time.monotonic() + 300
    while f"backfill {backfilled} of daily: {told}" not in scheduler.read_text():
        assert time.monotonic() < deadline, scheduler.read_text()[-3000:]
        time.sleep(0.5)


def test_a_run_is_planned_from_the_command_line(deployment, backfilled):
    """`airflow zen plan` says what a run of a day would reuse, and runs nothing."""
    plans = {}
    for day in ("2026-02-04", "2026-02-05"):
        steps = json.loads(deployment.run_zen_command("plan", "daily", "--logical-date", day, "--output", "json"))
        plans[day] = [(step["task"], step["plan"]) for step in steps]
    assert plans == {
        "2026-02-04": [("weekday", "hit"), ("weekend", "hit")],
        "2026-02-05": [("weekday", "miss"), ("weekend", "unknown")],
    }


@pytest.mark.timeout(900)
def test_a_timetable_of_its_own_catches_up(deployment):
    """The days of a custom timetable run one after the other: a step without the day as an argument runs once."""
    url = f"{deployment.airflow.url}/api/v2/dags/catchup/dagRuns"
    deadline, states, found = 0.0, None, []
    while states != ["success"] * 3:
        found = request_json("GET", url)["dag_runs"]
        if (now := [run["state"] for run in found]) != states:
            states, deadline = now, time.monotonic() + 250
        failed = [run["dag_run_id"] for run in found if run["state"] == "failed"]
        logs = [
            deployment.airflow.log(DagRun("catchup", run, "failed"), task)[-2000:]
            for run in failed
            for task in deployment.tasks(DagRun("catchup", run, "failed")).values()
        ]
        assert not failed, logs
        assert time.monotonic() < deadline, states
        time.sleep(0.5)
    days = sorted(run["dag_run_id"] for run in found)
    # Named by the end of each interval.
    assert [day[:21] for day in days] == [f"scheduled__2026-01-0{number}" for number in (2, 4, 6)]
    runs = [DagRun("catchup", day, "success") for day in days]
    by_day, by_all = ([deployment.xcom(run, task) for run in runs] for task in ("of_the_day", "of_all_days"))
    assert [ref["cached"] for ref in by_day] == [False, False, False]
    assert [ref["cached"] for ref in by_all] == [False, True, True]
    assert len({ref["digest"] for ref in by_day}) == 3


def test_new_content_starts_the_dag_that_waits_for_it(deployment):
    """A DAG scheduled on a named artifact starts when its content is new, reads it, and not when it is the same."""
    api = deployment.airflow

    def consuming_runs():
        runs = request_json("GET", f"{api.url}/api/v2/dags/consume/dagRuns?order_by=run_after")["dag_runs"]
        return [DagRun("consume", run["dag_run_id"], run["state"]) for run in runs]

    made = {}
    for conf in ({"count": "3"}, {"count": "3"}, {"count": "3", "salt": "other"}, {"count": "4"}):
        run = api.wait_for_dag_run(api.trigger("produce", conf))
        assert run.state == "success"
        made[conf["count"]] = deployment.xcom(run, "numbers")["digest"]
        deadline = time.monotonic() + 300
        while len(consuming_runs()) < len(made) and time.monotonic() < deadline:
            time.sleep(0.5)
    runs = [api.wait_for_dag_run(run) for run in consuming_runs()]
    assert [run.state for run in runs] == ["success", "success"]
    for run, digest, size in zip(runs, made.values(), (3, 4), strict=True):
        (told,) = deployment.xcom(run, "told")
        assert (told["digest"], told["shape"]) == (digest, f"{size} items")
        events = request_json("GET", f"{api.url}/api/v2/dags/consume/dagRuns/{quote(run.run_id)}/upstreamAssetEvents")
        assert [event["uri"] for event in events["asset_events"]] == ["zen://default/numbers/daily"]
    assert deployment.xcom(runs[0], "total")["digest"] != deployment.xcom(runs[1], "total")["digest"]


def test_no_secret_is_in_the_store(deployment):
    """No object under the artifact root holds the store's secret."""
    s3, seen = deployment.s3, 0
    client = s3.client()
    for entry in client.list_objects_v2(Bucket=s3.bucket, Prefix="local/")["Contents"]:
        # The scheduler's follow-up is at work beside us, and takes away what was owed.
        with suppress(client.exceptions.NoSuchKey):
            body = client.get_object(Bucket=s3.bucket, Key=entry["Key"])["Body"].read()
            assert s3.secret_key.encode() not in body, entry["Key"]
            seen += 1
    assert seen > 20


def test_the_form_of_an_mlflow_connection(deployment):
    """Airflow's form for a connection of type mlflow shows our fields, and its test button asks the server."""
    url = deployment.airflow.url
    (form,) = [
        form for form in request_json("GET", f"{url}/ui/connections/hook_meta") if form["connection_type"] == "mlflow"
    ]
    assert form["hook_name"] == "MLflow"
    assert {"token", "workspace", "server_cert_path", "client_cert_path", "insecure_tls"} <= form["extra_fields"].keys()
    assert form["extra_fields"]["token"]["schema"]["format"] == "password"

    def connection_test_result(host):
        asked = {"connection_id": "lineage", "conn_type": "mlflow", "host": host}
        return request_json("POST", f"{url}/api/v2/connections/test", asked)

    assert connection_test_result(deployment.layout.mlflow_uri) == {"status": True, "message": "MLflow answered."}
    nobody = connection_test_result("http://127.0.0.1:9")
    assert not nobody["status"]
    assert "127.0.0.1:9" in nobody["message"]


def test_mlflow_shows_no_import_in_a_plain_task(deployment):
    """A step that does not use MLflow does not import it: its process stays small and quick."""
    code = (
        "import sys, airflow_zen.operators.execute; "
        "sys.exit(any(name.split('.')[0] == 'mlflow' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}).returncode == 0
