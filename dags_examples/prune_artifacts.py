"""Each week, free the artifact root of what nobody refers to, and of what is old.

What a prune finds unreferenced is deleted by the next one: nothing goes at once, and nothing that a
running task is about to refer to. Runs that MLflow shows hold their artifacts until they are deleted there; with
`expire_mlflow_runs` the prune does that for old ones, too.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from airflow.sdk import Param, dag, task

log = logging.getLogger(__name__)


@dag(
    schedule="@weekly",
    # A local stack does not pause DAGs; this one deletes.
    is_paused_upon_creation=True,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["airflow_zen", "maintenance"],
    params={
        "older_than": Param("90d", type="string", description="age from which runs, cache entries and versions may go"),
        "keep_last": Param(5, type="integer", minimum=1, description="newest versions of each name that stay"),
        "expire_mlflow_runs": Param(False, type="boolean", description="delete old DAG runs in MLflow as well"),
        "dry_run": Param(False, type="boolean", description="only say what would be done"),
    },
)
def prune_artifacts():
    @task(retries=3)
    def prune(params=None):
        import airflow_zen

        report = airflow_zen.prune(**params)
        log.info("%s", report)
        for usage in report.usage_by_referrer[:20]:
            log.info("%s %s keeps %s, alone %s", usage.referrer.kind, usage.referrer.name, usage.total, usage.exclusive)
        return {"deleted": report.deleted.artifacts, "bytes": report.deleted.size, "kept": report.kept.artifacts}

    prune()


prune_artifacts()
