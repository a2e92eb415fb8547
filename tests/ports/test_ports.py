"""Projects of Kedro, MLflow and ZenML as DAGs: they end as their originals do, and a second run is cached."""

import mlflow
import pandas as pd
import pytest
from sklearn.metrics import root_mean_squared_error

from airflow_zen import artifact, load
from tests.ports.data import write_spaceflights
from tests.servers.mlflow_server import tracked_at

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]


def versions(client, model):
    return sorted(client.search_model_versions(f"name = '{model}'"), key=lambda version: int(version.version))


def test_spaceflights(run_port, folder, client):
    """Kedro's spaceflights: raw tables become a table, a regression and its R², and a changed file is read again."""
    write_spaceflights(folder / "data")
    first, second = (run_port("spaceflights", "spaceflights") for _ in range(2))
    assert (first.cache_states, second.cache_states) == ({"miss"}, {"hit"})
    assert [*first.strays(), *second.strays()] == []

    evaluated = first.mlflow_run("evaluate")
    assert 0.4 < evaluated.data.metrics["r2"] < 0.9
    assert load(first.output("evaluate")).items() <= evaluated.data.metrics.items()
    table = artifact("spaceflights/model_input").load()
    assert table.notna().all(axis=None)
    assert table["company_rating"].between(0.6, 1).all()
    (version,) = versions(client, "spaceflights_price")
    assert version.run_id == first.mlflow_run("train").info.run_id
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert {metric.value for metric in model.metrics if metric.key == "r2"} == {evaluated.data.metrics["r2"]}

    reviews = folder / "data" / "reviews.csv"
    pd.read_csv(reviews)[:1000].to_csv(reviews, index=False)
    third = run_port("spaceflights", "spaceflights")
    reused = {step.id.task_id for step in third.steps if step.cache == "hit"}
    assert reused == {"preprocess_companies", "preprocess_shuttles"}
    assert len(versions(client, "spaceflights_price")) == 2


def test_wine_quality(run_port, client):
    """MLflow's hyperparameter search: a nested run for each trial, the best of them found, its model registered."""
    first, second = (run_port("wine_quality", "wine_quality") for _ in range(2))
    assert (first.cache_states, second.cache_states) == ({"miss"}, {"hit"})
    assert [*first.strays(), *second.strays()] == []
    assert client.get_experiment_by_name("wine quality") is None

    search = first.mlflow_run("search")
    trials = first.under(search)
    assert sorted(trial.info.run_name for trial in trials) == [f"trial {n}" for n in range(6)]
    assert all(set(trial.data.params) == {"learning_rate_init", "momentum"} for trial in trials)
    assert {len(client.get_metric_history(trial.info.run_id, "loss")) for trial in trials} == {12}
    best = min(trials, key=lambda trial: trial.data.metrics["valid_rmse"])
    assert search.data.tags["best_run"] == best.info.run_id
    assert search.data.metrics["test_rmse"] == best.data.metrics["test_rmse"]
    assert search.data.metrics["valid_rmse"] < search.data.metrics["baseline_valid_rmse"]

    (version,) = versions(client, "wine_quality")
    assert version.run_id == search.info.run_id
    with tracked_at(client.tracking_uri):
        model = mlflow.sklearn.load_model("models:/wine_quality/1")
    table = load(first.output("split", "test"))
    error = root_mean_squared_error(table["quality"], model.predict(table.drop(columns="quality")))
    assert error == pytest.approx(best.data.metrics["test_rmse"])


def test_breast_cancer(run_port, client):
    """ZenML's starter: own transformers in a stored pipeline, the better of two models in production, predictions."""
    features, again = (run_port("breast_cancer", "breast_cancer_features") for _ in range(2))
    assert (features.cache_states, again.cache_states) == ({"miss"}, {"hit"})
    stored = features.output("preprocess", "pipeline")
    assert stored.encoding.startswith("sklearn.")
    assert stored.code == tuple(f"breast_cancer:{name}" for name in ("ColumnsDropper", "DataFrameCaster", "NADropper"))
    assert "worst symmetry" not in artifact("breast_cancer/test").load()

    trained, again = (run_port("breast_cancer", "breast_cancer_training") for _ in range(2))
    assert load(trained.output("promote")) is True
    assert load(again.output("promote")) is False
    assert {step.id.task_id for step in again.steps if step.cache != "hit"} == {"promote"}
    accuracies = [
        run.data.metrics["accuracy"] for run in trained.under(trained.parent) if "accuracy" in run.data.metrics
    ]
    assert len(accuracies) == 2
    assert max(accuracies) > 0.9
    (version,) = versions(client, "breast_cancer")
    assert client.get_model_version_by_alias("breast_cancer", "production").version == version.version
    assert artifact("breast_cancer/best", "production").ref.digest == trained.output("best").digest

    inference, _ = runs = [run_port("breast_cancer", "breast_cancer_inference") for _ in range(2)]
    assert [run.cache_states for run in runs] == [{"miss"}, {"hit"}]
    predicted = load(inference.output("predict"))
    assert set(predicted) == {0, 1}
    for run in (features, trained, again, *runs):
        assert run.strays() == []
