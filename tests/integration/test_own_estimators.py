"""An own estimator, defined in the DAG file, under `dag.test()`: stored, read by the next task, and run again when it changes."""

from pathlib import Path

import pytest

import airflow_zen
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import CacheState, StepRunId

DAG_FILE = """
from datetime import datetime
import numpy as np
from airflow.sdk import dag
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from airflow_zen import ml_step

def shift(x):
    return x + 1

class Majority(ClassifierMixin, BaseEstimator):
    def fit(self, x, y):
        self.classes_, counts = np.unique(y, return_counts=True)
        self.most_ = int(self.classes_[counts.argmax()])
        return self

    def predict(self, x):
        return np.full(len(x), self.most_)

@ml_step
def train(rows: int) -> Pipeline:
    return make_pipeline(FunctionTransformer(shift), Majority()).fit(np.arange(rows).reshape(-1, 1), np.arange(rows) // 3)

@ml_step
def predict(model: Pipeline) -> int:
    return int(model.predict(np.zeros((2, 1))).sum())

@dag(dag_id="own_estimators", schedule=None, start_date=datetime(2026, 1, 1))
def pipeline():
    predict(train(10))

pipeline()
"""


def test_own_estimator_of_a_dag_file(run_dag_test, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next task reads the model; it is reused, until a method changes that leaves the stored model as it was."""
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    file, found = tmp_path / "own_estimators_dag.py", []
    for text in (
        DAG_FILE,
        DAG_FILE,
        DAG_FILE.replace("np.full(len(x), self.most_)", "np.full(len(x), self.most_ + 5)"),
    ):
        file.write_text(text)
        bag = DagBag(dag_folder=str(file))
        assert not bag.import_errors
        run = run_dag_test(bag.dags["own_estimators"])
        assert run.state == "success"
        records = [open_stack().records.get(StepRunId("own_estimators", run.run_id, at)) for at in ("train", "predict")]
        outputs = [record.outputs["output"] for record in records]
        found.append(([record.cache for record in records], outputs[0].digest, airflow_zen.load(outputs[1])))
    (first, second, third) = found
    assert [first[0], second[0], third[0]] == [[CacheState.MISS] * 2, [CacheState.HIT] * 2, [CacheState.MISS] * 2]
    assert first[1] == second[1] == third[1]
    assert (first[2], second[2], third[2]) == (0, 0, 10)
