"""Promises of `airflow zen models` and of `airflow zen lineage show`, on a real MLflow."""

import json
from argparse import Namespace
from datetime import datetime
from getpass import getuser

import pytest
from airflow.sdk import dag
from sklearn.linear_model import LinearRegression

from airflow_zen import ml_step
from airflow_zen.cli import lineage, models
from airflow_zen.config.settings import open_stack
from tests.harness import run_dag
from tests.servers.mlflow_server import mlflow_server

pytestmark = pytest.mark.server


@ml_step
def load(rows: int) -> list:
    return [[float(row)] for row in range(rows)]


@ml_step(model="line")
def fit(rows: list, offset: float) -> LinearRegression:
    return LinearRegression().fit(rows, [row[0] * 2 + offset for row in rows])


@ml_step
def score(rows: list, model: LinearRegression) -> float:
    return float(model.score(rows, [row[0] for row in rows]))


@dag(dag_id="line", schedule=None, start_date=datetime(2026, 1, 1))
def line(offset=0.0):
    rows = load(5)
    score(rows, fit(rows, offset))


@pytest.fixture(scope="module")
def pipeline_runs(tmp_path_factory):
    """Two runs of a pipeline that registers a model, with its own root and MLflow."""
    directory = tmp_path_factory.mktemp("models")
    with mlflow_server(directory / "mlflow") as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(directory / "root"))
        patch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
        for number, offset in enumerate((0.0, 1.0)):
            assert set(run_dag(line(offset), run_id=f"r{number}").states.values()) == {"success"}
        yield server


def call_command(function, **options):
    function.func(Namespace(**{"stack": None, "output": "json", "verbose": False, "why": "", **options}))


def json_output(capsys, function, **options):
    capsys.readouterr()
    call_command(function, **options)
    return json.loads(capsys.readouterr().out)


def test_promotes_an_existing_version(pipeline_runs, capsys):
    """An alias moves to a version, and its earlier version is printed; a missing model or version is refused."""
    call_command(models.promote_model, name="line", version="1", alias="champion")
    call_command(models.promote_model, name="line", version="2", alias="champion")
    assert "which pointed at version 1" in capsys.readouterr().out
    assert json_output(capsys, models.list_models, name=None)[0]["aliases"] == "challenger → 2, champion → 2"
    versions = json_output(capsys, models.list_models, name="line")
    assert [(row["version"], row["aliases"]) for row in versions] == [("2", "challenger, champion"), ("1", "")]
    for wrong in ({"version": "7"}, {"name": "circle"}):
        with pytest.raises(
            SystemExit, match=r"has no version '7'; it has 2, 1|no registered model 'circle'. It has 'line'"
        ):
            call_command(models.promote_model, **{"name": "line", "version": "1", "alias": "champion", **wrong})
    with pytest.raises(SystemExit, match="'latest' cannot be an alias"):
        call_command(models.promote_model, name="line", version="1", alias="latest")


def test_history_and_rollback_of_an_alias(pipeline_runs, capsys):
    """Each move is listed with who, why and the version before; a rollback undoes one, and a move by hand is shown."""
    import mlflow

    given = {"name": "line", "alias": "eu"}
    call_command(models.promote_model, version="1", **given)
    call_command(models.promote_model, version="2", **{**given, "why": "a better fit"})
    call_command(models.roll_back_model, **given)
    assert "models:/line@eu is version 1 now, which pointed at version 2." in capsys.readouterr().out
    rows = json_output(capsys, models.show_history, **given)
    assert [(row["version"], row["previous"], row["state"]) for row in rows] == [
        ("1", "2", "moved (rollback)"),
        ("2", "1", "moved"),
        ("1", "", "moved"),
    ]
    assert rows[1]["why"] == "a better fit"
    assert rows[1]["by"] == getuser()
    mlflow.MlflowClient(pipeline_runs.uri).set_registered_model_alias("line", "eu", "2")
    assert json_output(capsys, models.show_history, **given)[0]["state"] == "moved outside of airflow_zen"
    with pytest.raises(SystemExit, match="line@us has never been set"):
        call_command(models.show_history, name="line", alias="us")


def test_lists_the_metrics_of_models(pipeline_runs, capsys):
    """Each version has the metrics on its model's page in MLflow, and each model those of its latest version."""
    import mlflow

    client = mlflow.MlflowClient(pipeline_runs.uri)
    for version, auc in (("1", 0.25), ("2", 0.123456789)):
        found = client.get_model_version("line", version)
        model_id = found.source.removeprefix("models:/")
        for name, value in (("auc", 0.5), ("auc", auc), ("f1", 1.0)):
            client.log_metric(found.run_id, name, value, step=int(value == auc), model_id=model_id)
    (model,) = json_output(capsys, models.list_models, name=None)
    assert model["metrics"] == "auc=0.123457, f1=1"
    versions = json_output(capsys, models.list_models, name="line")
    assert [row["metrics"] for row in versions] == ["auc=0.123457, f1=1", "auc=0.25, f1=1"]


def test_draws_a_dag_run_again(pipeline_runs, capsys):
    """`lineage draw` restores the graph of a DAG run on its parent run; an unknown run is refused."""
    import mlflow

    client = mlflow.MlflowClient(pipeline_runs.uri)
    (experiment,) = client.search_experiments(filter_string="name = 'airflow/line'")
    (parent,) = client.search_runs(
        [experiment.experiment_id], "tags.`zen.run_key` = 'line/r1' AND tags.`zen.kind` = 'dag_run'"
    )
    client.set_tag(parent.info.run_id, "mlflow.note.content", "lost")
    call_command(lineage.draw_dag_run, dag_id="line", run_id="r1")
    assert capsys.readouterr().out.splitlines()[-1] == "Drawn: line r1."
    assert "fit" in client.get_run(parent.info.run_id).data.tags["mlflow.note.content"]
    with pytest.raises(SystemExit, match="MLflow has no DAG run 'r7' of DAG 'line'"):
        call_command(lineage.draw_dag_run, dag_id="line", run_id="r7")


def test_without_mlflow_the_option_is_named(pipeline_runs, monkeypatch):
    """Without MLflow the commands for models and graphs fail, and name the option."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", "")
    with pytest.raises(SystemExit, match=r"\[zen\] mlflow_conn_id"):
        call_command(lineage.draw_dag_run, dag_id="line", run_id="r1")
    with pytest.raises(SystemExit, match=r"\[zen\] mlflow_conn_id"):
        call_command(models.list_models, name=None)


def steps(tree):
    """List the steps of a tree, depth first."""
    yield tree["step"], tree["run"]
    for artifact in tree.get("inputs", ()):
        if "made_by" in artifact:
            yield from steps(artifact["made_by"])


def test_the_ancestry_of_a_model(pipeline_runs, capsys):
    """A model is shown with the run that made it and all inputs, back to the raw data."""
    tree = json_output(capsys, lineage.show_ancestry, target="models:/line/2")["made_by"]
    assert [*steps(tree)] == [("fit", "r1"), ("load", "r0")]
    call_command(lineage.show_ancestry, target="models:/line/2", output="table")
    assert "fit · line r1" in capsys.readouterr().out


def test_the_ancestry_of_an_artifact_by_name_and_digest(pipeline_runs, capsys):
    """An artifact is found by its name or its digest; an input of several steps is shown in full once."""
    by_name = json_output(capsys, lineage.show_ancestry, target="line/score")
    assert next(steps(by_name["made_by"])) == ("score", "r1")
    assert json_output(capsys, lineage.show_ancestry, target=by_name["digest"])["made_by"] == by_name["made_by"]
    call_command(lineage.show_ancestry, target="line/score", output="table")
    assert capsys.readouterr().out.count("(see above)") == 1


def test_the_records_have_the_same_ancestry(pipeline_runs, capsys, monkeypatch):
    """Without MLflow the step run records give the same ancestry, with the same steps."""
    known = json_output(capsys, lineage.show_ancestry, target="line/score")["made_by"]
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", "")
    assert [*steps(json_output(capsys, lineage.show_ancestry, target="line/score")["made_by"])] == [*steps(known)]
    with pytest.raises(SystemExit, match="MLflow is not configured"):
        call_command(lineage.show_ancestry, target="models:/line/2")


def test_unknown_targets_are_refused(pipeline_runs):
    """An unknown name, digest or model is reported."""
    with pytest.raises(SystemExit, match="'line/nothing'"):
        call_command(lineage.show_ancestry, target="line/nothing")
    with pytest.raises(SystemExit, match="0000000000000000"):
        call_command(lineage.show_ancestry, target="0" * 64)
    with pytest.raises(SystemExit, match="nosuch"):
        call_command(lineage.show_ancestry, target="models:/nosuch/1")
    assert open_stack().names.get("line/score").ref.size
