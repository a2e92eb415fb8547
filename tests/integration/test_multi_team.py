"""Steps in Airflow's multi-team mode, under `dag.test()` with Airflow's own metadata database."""

import json
import os
from datetime import datetime
from typing import Annotated

import pytest
from airflow.models.asset import AssetDagRunQueue
from airflow.sdk import dag
from airflow.utils.session import create_session

import airflow_zen
from airflow_zen import Artifact, ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRunId
from tests.airflow_version import AIRFLOW_VERSION

pytestmark = pytest.mark.skipif(AIRFLOW_VERSION < (3, 3), reason="Airflow filters asset events by team from 3.3 on")

FEATURES = Artifact("features_of_a_team")
START = datetime(2026, 1, 1)


@ml_step
def features(rows: int) -> Annotated[list, FEATURES]:
    return [*range(rows)]


@dag(dag_id="team_produces", schedule=None, start_date=START)
def produces():
    features(3)


def consumer(dag_id):
    @dag(dag_id=dag_id, schedule=[FEATURES.asset], start_date=START, is_paused_upon_creation=False)
    def consumes():
        features.override(task_id="again")(4)

    return consumes()


@pytest.fixture
def _multi_team(airflow_db, tmp_path, monkeypatch):
    """Two teams, `ml` with the bundle `tests`, and `ads` with `others`; each has a DAG that waits for the features."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.team import Team

    local, options = "airflow.dag_processing.bundles.local.LocalDagBundle", {"path": str(tmp_path)}
    teams = {"tests": "ml", "others": "ads"}
    bundles = [{"name": name, "classpath": local, "kwargs": options, "team_name": teams[name]} for name in teams]
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    with create_session() as session:
        session.add_all(Team(name=team) for team in teams.values())
    DagBundlesManager().sync_bundles_to_db()
    for name, team in teams.items():
        bag = DagBag(dag_folder=os.devnull)
        bag.bag_dag(consumer(f"of_{team}"))
        sync_bag_to_db(bag, name, "1")


@pytest.mark.usefixtures("_multi_team")
def test_event_of_a_steps_asset_starts_dags_of_its_team(run_dag_test, tmp_path, monkeypatch):
    """A step of a team's bundle runs, and the event of its artifact's asset is queued for DAGs of that team only."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    # It puts the DAG into the bundle `tests`.
    run = run_dag_test(produces())
    assert run.state == "success"
    record = open_stack().records.get(StepRunId("team_produces", run.run_id, "features"))
    assert airflow_zen.load(record.outputs["output"]) == [0, 1, 2]
    with create_session() as session:
        queued = {each.target_dag_id for each in session.query(AssetDagRunQueue)}
    # Other tests of the process leave events of their own.
    assert queued & {"of_ml", "of_ads"} == {"of_ml"}
