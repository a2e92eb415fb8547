"""Measure the pages in Airflow's UI: a large DAG run on S3, and what the plugin adds to an API server.

The DAG run has 1,000 mapped steps. Its page is opened in a new API server, whose cache of documents is empty, on a local S3
server (rclone). The memory is that of a process that has shown the DAG run, the mapped task and the catalogue, over that of
one without the plugin.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd

from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId, StepState
from airflow_zen.stack import Stack
from airflow_zen.transports.base import map_in_parallel
from bench.bench_requests import make_stack
from bench.measure import Row, main, row, run_python
from tests.servers.flaky import FlakyProxy
from tests.servers.rclone import rclone

ROWS = {
    "ui_run_1000_s3_s": "the page of a DAG run with 1,000 mapped steps on S3, in a new API server",
    "ui_run_1000_s3_requests": "requests to S3 of that page",
    "ui_start_s": "the load of the plugin at the start of an API server; CPU",
    "ui_memory_mb": "what the plugin adds to the memory of an API server that has shown such a run",
}

_STEPS = 1000
_SERVER = """
import sys, time
import psutil
import airflow._shared.module_loading as loading
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi.testclient import TestClient
has_pages, find = sys.argv[1] != "without", loading.entry_points_with_dist
loaded, opened = [], 0.0

def find_plugins(group):
    for point, dist in find(group):
        if point.name != "airflow_zen":
            yield point, dist
        elif has_pages:
            begun = time.process_time()
            point.load()
            loaded.append(time.process_time() - begun)
            yield point, dist

loading.entry_points_with_dist = find_plugins
from airflow.api_fastapi.app import create_app
app = create_app(apps="core")
assert len(loaded) == has_pages
user = SimpleAuthManagerUser(username="someone", role="*")
headers = {"Authorization": f"Bearer {app.state.auth_manager.generate_jwt(user)}"}
client = TestClient(app)
client.get("/api/v2/dags", headers=headers).raise_for_status()
if has_pages:
    assert client.get("/zen/api/dags/large/runs?limit=x", headers=headers).status_code == 422
    begun = time.perf_counter()
    page = client.get("/zen/api/dags/large/run?run_id=r1", headers=headers).raise_for_status().json()
    opened = time.perf_counter() - begun
    assert [row["count"] for row in page["steps"]] == [1, 1000], page
    for path in ("dags/large/mapped?run_id=r1&task_id=trial", "catalogue") if sys.argv[1] == "with" else ():
        client.get(f"/zen/api/{path}", headers=headers).raise_for_status()
print(sum(loaded), opened, psutil.Process().memory_full_info().uss / 1e6)
"""


def rows(rounds: int) -> Iterator[Row]:
    """Yield the rows."""
    with tempfile.TemporaryDirectory() as directory, rclone(Path(directory)) as server:
        environment = {
            **server.environment(),
            "AIRFLOW_HOME": str(Path(directory, "airflow")),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__AUTH_MANAGER": "tests.ui.per_dag_rights.PerDagAuthManager",
            "AIRFLOW__ZEN__ARTIFACT_ROOT": f"{server.root}/bench",
            "_AIRFLOW_PROCESS_CONTEXT": "server",
        }
        run_python("from airflow.utils.db import initdb; initdb()", **environment)
        _write_dag_run(make_stack(server.root, server.storage_options()))
        pairs = [(_serve("with", environment), _serve("without", environment)) for _ in range(rounds)]
        yield row("ui_run_1000_s3_s", [ours[1] for ours, _ in pairs], "s")
        with FlakyProxy(urlsplit(server.endpoint).port or 0) as proxy:
            _serve("page", {**environment, "AWS_ENDPOINT_URL": proxy.uri})
            yield Row("ui_run_1000_s3_requests", proxy.requests, "requests")
        yield row("ui_start_s", [ours[0] for ours, _ in pairs], "s")
        yield row("ui_memory_mb", [ours[2] - bare[2] for ours, bare in pairs], "MB")


def _serve(kind: str, environment: dict[str, str]) -> tuple[float, ...]:
    """Start an API server in a new process; return the CPU seconds of the plugin, the seconds of the page, its memory in MB."""
    return tuple(map(float, run_python(_SERVER, kind, **environment)[0][-3:]))


def _write_dag_run(stack: Stack) -> None:
    frame = stack.save(pd.DataFrame({"a": range(100)})).ref.with_name("large/load.train")
    load = StepRun(
        StepRunId("large", "r1", "load"), StepState.FINISHED, started=1.0, ended=2.0, outputs={"train": frame}
    )
    trials = [
        StepRun(
            StepRunId("large", "r1", "trial", number),
            StepState.FINISHED,
            cache=CacheState.MISS,
            why="no earlier result of this task is remembered",
            started=3.0 + number,
            ended=4.5 + number,
            parameters={"rate": number / _STEPS, "depth": 8},
            inputs={"frame": frame},
            outputs={"output": frame.with_name(f"large/trial[{number}]")},
            source="def trial(frame, rate, depth):\n" + "    frame = frame * rate\n" * 20,
        )
        for number in range(_STEPS)
    ]
    list(map_in_parallel(lambda run: stack.records.put(run, delivered=True), [load, *trials]))


if __name__ == "__main__":
    main(__doc__, rows, rounds=3)
