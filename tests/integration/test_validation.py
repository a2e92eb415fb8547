"""What failed validations do to the tasks and assets of a real DAG run, in Airflow's own metadata database."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import pandas as pd
import pytest
from airflow.models.asset import AssetEvent, AssetModel
from airflow.providers.standard.utils.skipmixin import XCOM_SKIPMIXIN_KEY, XCOM_SKIPMIXIN_SKIPPED
from airflow.sdk import dag, task, task_group
from airflow.utils.session import create_session
from sqlalchemy import func, select

from airflow_zen import Artifact, InRange, ValidateOperator, artifact, ml_step, validate
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRunId

SUITE = [InRange("delay", max=600)]


@ml_step
def flights(worst: float) -> pd.DataFrame:
    return pd.DataFrame({"delay": [1.0, worst]})


@task
def train() -> None: ...


@task
def alert() -> None: ...


@task(trigger_rule="none_failed_min_one_success")
def join() -> None: ...


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))


def build(worst: float, on_failure: Any, retries: int = 0) -> Any:
    @dag(dag_id="quality", schedule=None, start_date=datetime(2026, 1, 1))
    def quality():
        report = validate(flights(worst), SUITE, on_failure=on_failure, task_id="check", retries=retries)
        report >> [train(), alert()] >> join()

    return quality()


def states(run: Any) -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances() if ti.task_id != "flights"}


EXPECTED = {
    ("fail", 700.0): {
        "check": "failed",
        "train": "upstream_failed",
        "alert": "upstream_failed",
        "join": "upstream_failed",
    },
    ("fail", 2.0): {"check": "success", "train": "success", "alert": "success", "join": "success"},
    ("warn", 700.0): {"check": "success", "train": "success", "alert": "success", "join": "success"},
    ("skip", 700.0): {"check": "success", "train": "skipped", "alert": "skipped", "join": "skipped"},
    ("skip", 2.0): {"check": "success", "train": "success", "alert": "success", "join": "success"},
    (("alert",), 700.0): {"check": "success", "train": "skipped", "alert": "success", "join": "success"},
    (("alert",), 2.0): {"check": "success", "train": "success", "alert": "skipped", "join": "success"},
}


@pytest.mark.parametrize(("on_failure", "worst"), EXPECTED)
def test_tasks_downstream_have_the_declared_states(run_dag_test, on_failure, worst):
    """The tasks after a check run, fail or are skipped as declared, also when the report is reused."""
    for cache in ("miss", "hit"):
        run = run_dag_test(build(worst, on_failure))
        assert states(run) == EXPECTED[on_failure, worst]
        record = open_stack().records.get(StepRunId("quality", run.run_id, "check"))
        assert (record.cache, str(record.state)) == (
            cache,
            "FAILED" if states(run)["check"] == "failed" else "FINISHED",
        )


def test_airflow_skips_nothing_after_one_of_several_instances(run_dag_test, monkeypatch):
    """Were they not refused, skips after a mapped task, or in a mapped task group, would leave all tasks to run."""
    monkeypatch.setattr("airflow_zen.operators.ml_step.refuse_skips", lambda task_id: None)

    @task_group
    def month(worst: float) -> None:
        validate(flights(worst), SUITE, on_failure="skip", task_id="check") >> train()

    @dag(dag_id="mapped_checks", schedule=None, start_date=datetime(2026, 1, 1))
    def mapped_checks():
        month.expand(worst=[2.0, 700.0])
        each = ValidateOperator.partial(task_id="each", validator=SUITE, on_failure="skip")
        each.expand(table=flights.expand(worst=[2.0, 700.0])) >> alert()

    run = run_dag_test(mapped_checks())
    found = [str(ti.state) for ti in run.get_task_instances() if ti.task_id in ("month.train", "alert")]
    assert found == ["success"] * 3
    skips = run.get_task_instance("alert").xcom_pull(["month.check", "each"], key=XCOM_SKIPMIXIN_KEY, map_indexes=1)
    assert list(skips) == [{XCOM_SKIPMIXIN_SKIPPED: ["month.train"]}, {XCOM_SKIPMIXIN_SKIPPED: ["alert"]}]


def test_failed_check_is_not_retried(run_dag_test):
    """A task that may be tried three times fails in its first try."""
    run = run_dag_test(build(700.0, "fail", retries=2))
    (check,) = (ti for ti in run.get_task_instances() if ti.task_id == "check")
    assert (str(check.state), check.try_number) == ("failed", 1)


@ml_step
def features(
    worst: float,
) -> Annotated[pd.DataFrame, Artifact("features", checks=SUITE, quarantine=True, on_failure="warn")]:
    return pd.DataFrame({"delay": [1.0, worst]})


def asset_events() -> int:
    with create_session() as session:
        found = select(func.count()).select_from(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return session.scalar(found.where(AssetModel.name == "features"))


def test_artifact_in_quarantine_starts_no_dag(run_dag_test):
    """A good output makes an asset event and is the newest version; one in quarantine is neither, and has a version."""

    def run(worst: float) -> Any:
        @dag(dag_id="declared", schedule=None, start_date=datetime(2026, 1, 1))
        def declared():
            features(worst)

        return run_dag_test(declared())

    before = asset_events()
    assert run(2.0).state == "success"
    assert asset_events() == before + 1
    assert run(700.0).state == "success"
    assert asset_events() == before + 1
    assert artifact("features").load()["delay"].max() == 2.0
    newest, kept = artifact("features").versions()
    assert (newest.metadata, kept.metadata) == ({}, {"quarantined": True})
    assert kept.load()["delay"].max() == 700.0


def test_mapped_check_has_a_report_for_each_table(run_dag_test):
    """Each instance of a mapped check has its own report and metrics."""

    @dag(dag_id="mapped_quality", schedule=None, start_date=datetime(2026, 1, 1))
    def mapped():
        ValidateOperator.partial(task_id="check", validator=SUITE, on_failure="warn").expand(
            table=flights.expand(worst=[2.0, 700.0])
        )

    run = run_dag_test(mapped())
    assert run.state == "success"
    records = [open_stack().records.get(StepRunId("mapped_quality", run.run_id, "check", at)) for at in (0, 1)]
    assert [record.metadata[""]["validation.failed"] for record in records] == [0, 1]
