"""The DAGs that the Airflow of a local stack has parsed."""

from __future__ import annotations

import time

from airflow_zen.localstack.services import HttpError, request_json
from airflow_zen.localstack.state import Layout


def first_dag(layout: Layout, timeout: float = 20) -> str:
    """Return the id of the first DAG in the alphabet that is parsed and not paused; empty if none is after `timeout` seconds.

    Return at once if the DAGs folder contains no Python file, or if a file cannot be imported.
    """
    deadline = time.monotonic() + timeout
    while any(layout.dags.rglob("*.py")) and time.monotonic() < deadline:
        try:
            if dags := _get(layout, "dags?paused=false&order_by=dag_id&limit=1")["dags"]:
                return str(dags[0]["dag_id"])
            if _get(layout, "importErrors?limit=1")["import_errors"]:
                break
        except HttpError:
            # SQLite refuses a request during another process's write.
            pass
        time.sleep(0.3)
    return ""


def _get(layout: Layout, path: str) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = request_json("GET", f"{layout.airflow_url}/api/v2/{path}")
    return found
