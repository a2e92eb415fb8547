"""Promises of `airflow zen lineage`."""

from argparse import Namespace

import pytest

from airflow_zen.cli import lineage
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState
from tests.servers.mlflow_server import mlflow_away

RUN = StepRun(StepRunId("late", "r1", "train"), state=StepState.FINISHED, started=1_000.0, ended=1_001.0)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    return tmp_path


def test_sync_without_mlflow_names_the_option(root):
    """Without a server `lineage sync` fails, and names the option."""
    with pytest.raises(SystemExit, match=r"\[zen\] mlflow_conn_id"):
        lineage.sync_lineage.func(Namespace(stack=None, verbose=False))


@pytest.mark.slow
def test_sync_delivers_pending_step_runs(root, airflow_db, monkeypatch, capsys):
    """A step that runs while MLflow is unavailable succeeds, and one command sends it to MLflow later."""
    with mlflow_away(root / "mlflow") as server:
        monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
        stack = open_stack()
        opened = stack.lineage.start(RUN)
        stack.records.put(RUN, stack.lineage.finish(RUN, opened))
        with pytest.raises(SystemExit):
            lineage.sync_lineage.func(Namespace(stack=None, verbose=False))
        assert "Not delivered: late/r1/train" in capsys.readouterr().out
        server.start()
        with (
            stack.records.delivery_lock(stack.clock),
            pytest.raises(SystemExit, match="Run this again when it has ended"),
        ):
            lineage.sync_lineage.func(Namespace(stack=None, verbose=False))
        lineage.sync_lineage.func(Namespace(stack=None, verbose=False))
        lineage.sync_lineage.func(Namespace(stack=None, verbose=False))
        assert capsys.readouterr().out.splitlines() == ["Delivered 1 step run.", "Delivered 0 step runs."]
        import mlflow

        client = mlflow.MlflowClient(server.uri)
        experiment = client.get_experiment_by_name("airflow/late")
        steps = client.search_runs([experiment.experiment_id], "tags.`zen.task_id` = 'train'")
        assert [(run.info.status, run.info.start_time) for run in steps] == [("FINISHED", 1_000_000)]
