"""The example that trains again on drift, in Airflow's own metadata database and with a real MLflow server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
from airflow.models.asset import AssetEvent, AssetModel
from airflow.utils.session import create_session
from sqlalchemy import func, select

from airflow_zen import artifact, lineage

_EXAMPLE = Path(__file__).parents[2] / "dags_examples/monitor_drift.py"


def events() -> int:
    """Return the number of events of drift."""
    with create_session() as session:
        found = select(func.count()).select_from(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return session.scalar(found.where(AssetModel.name == "weekly_flights_drift"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_drift_makes_an_event(run_dag_test, load_dag_file, server, monkeypatch, root):
    """A week like the champion's makes no event; another one makes one, after which the champion is of that week."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    module = load_dag_file(_EXAMPLE.read_text(), "monitor_drift")

    def run(build, day):
        ended = run_dag_test(build(), logical_date=day, run_after=day)
        states = {ti.task_id: str(ti.state) for ti in ended.get_task_instances()}
        assert "failed" not in states.values(), states
        return states

    def champion():
        return mlflow.MlflowClient(server.uri).get_model_version_by_alias("weekly_delay", "champion").version

    before = events()
    run(module.retrain_delay, datetime(2026, 1, 8, tzinfo=UTC))
    assert champion() == "1"
    states = run(module.monitor_drift, datetime(2026, 1, 14, tzinfo=UTC))
    assert (states["announce_drift"], events() - before) == ("skipped", 0)
    states = run(module.monitor_drift, datetime(2026, 7, 8, tzinfo=UTC))
    assert (states["announce_drift"], events() - before) == ("success", 1)
    run(module.retrain_delay, datetime(2026, 7, 9, tzinfo=UTC))
    assert champion() == "2"
    (flights,) = lineage.run_of_model("models:/weekly_delay@champion", server.uri).inputs
    assert artifact("weekly_flights").ref.digest.startswith(flights.digest)
