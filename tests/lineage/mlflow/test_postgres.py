"""The promises of the recorder on PostgreSQL, which is stricter than SQLite about lengths and characters."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient

from airflow_zen.runs.step_run import StepRun, StepRunId
from tests.servers import postgres as database
from tests.servers.mlflow_server import mlflow_server

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One MLflow server with a PostgreSQL backend."""
    if programs := database.missing():
        reason = f"no {', '.join(programs)} on the PATH: install PostgreSQL"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with (
        database.postgres() as backend,
        mlflow_server(tmp_path_factory.mktemp("mlflow"), backend=backend) as running,
    ):
        yield running


def test_sixteen_first_tasks_make_one_parent(client, new_recorder, step):
    """Sixteen tasks that start at once in a new DAG get one experiment and one parent run, and all are in it."""
    gate = threading.Barrier(16)

    def start(number):
        recorder = new_recorder()
        gate.wait()
        return recorder.start(step(f"t{number}"))

    with ThreadPoolExecutor(16) as pool:
        runs = [client.get_run(opened.run_id) for opened in pool.map(start, range(16))]
    assert len({run.info.experiment_id for run in runs}) == 1
    found = client.search_runs([runs[0].info.experiment_id], "tags.`zen.kind` = 'dag_run'")
    assert [parent.info.run_id for parent in found] == list({run.data.tags["mlflow.parentRunId"] for run in runs})


def test_everything_at_its_limit(server, new_recorder, ended, ref):
    """PostgreSQL accepts long, unusual and many names, parameters, metadata and artifacts, shortened with `…`."""
    odd = "né\0日🙂'|`\n"
    run = StepRun(
        StepRunId("日" * 240, "r" * 250, "t" * 249, 3, 2),
        started=1.0,
        label="λ" * 300,
        parameters={f"p{n}": odd * 2000 for n in range(350)} | {"x" * 400: 1, odd: {"deep": [odd]}},
        source="def f():\n    pass  # " + odd * 3000,
        owner="o" * 9000,
        log_url="http://af/" + "l" * 9000,
        code_version="c" * 9000,
    )
    columns = [{"name": f"{odd}{n}", "type": "int64"} for n in range(500)]
    outputs = {f"o{n}": ref(f"{n}{odd}" * 200) for n in range(250)}
    recorder = new_recorder()
    opened = recorder.start(run)
    assert opened.run_id
    finished = ended(
        run,
        outputs=outputs,
        summaries={item.digest: {"columns": columns, "note": odd * 1000} for item in outputs.values()},
        metadata={"": {f"f{n}": odd * 3000 for n in range(50)} | {f"m{n}": n / 7 for n in range(950)}},
        error=odd * 5000,
    )
    assert recorder.finish(finished, opened)
    found = MlflowClient(server.uri).get_run(opened.run_id)
    assert len(found.inputs.dataset_inputs) == 250
    assert found.inputs.dataset_inputs[0].dataset.schema.count('"type"') == 500
    assert found.data.params["zen.more"].startswith("… ")
    assert found.data.params["p0"].endswith("…")
    assert found.data.tags["zen.io_truncated"] == "true"
    assert found.info.status == "FINISHED"
