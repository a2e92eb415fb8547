"""Promises of `airflow_zen.lineage.mlflow.offline`: autologging, callbacks and models of ML libraries are the step's."""

from importlib.util import find_spec

import mlflow
import pytest

from tests.lineage.mlflow.test_fluent import THERE, go, process, runs  # noqa: F401 - fixtures

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]

there = pytest.mark.parametrize("go", [THERE], indirect=True)

_DATA = """
import warnings
warnings.filterwarnings("ignore")
import pandas as pd
from sklearn.datasets import make_classification
X, y = make_classification(100, 4, random_state=0)
X = pd.DataFrame(X, columns=list("abcd"))
"""

_TORCH = """
import logging, torch, lightning
from torch.utils.data import DataLoader, TensorDataset
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
class Line(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(2, 1)
    def training_step(self, batch, index):
        loss = ((self.line(batch[0]) - batch[1]) ** 2).mean()
        self.log("loss", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
batches = DataLoader(TensorDataset(torch.rand(16, 2), torch.rand(16, 1)), batch_size=8)
quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
trainer = {"max_epochs": 2, "accelerator": "cpu", "log_every_n_steps": 1, **quiet}
"""


def find_library(name):
    """Skip a test whose library only `make test-ml` installs; it is imported in the step's process."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed: make test-ml")


@pytest.fixture
def step_run(runs):  # noqa: F811
    """Return the step's run and the runs under it; every other run is the DAG run's."""

    def look():
        found = runs()
        (step,) = [run for run in found if run.data.tags.get("zen.kind") == "step"]
        ids = {run.info.run_id for run in found}
        assert [run.info.run_id for run in found if run.data.tags.get("mlflow.parentRunId") not in ids] == [
            step.data.tags["mlflow.parentRunId"]
        ]
        return step, [run for run in found if run.data.tags.get("mlflow.parentRunId") == step.info.run_id]

    return look


def models(client, run):
    search = f"source_run_id = '{run.info.run_id}'"
    return [model.name for model in client.search_logged_models([run.info.experiment_id], search)]


def test_sklearn(go, step_run, client):  # noqa: F811
    """The first fit is in the step's run; a later search is a run under it, with its trials below."""
    go(
        _DATA
        + """
mlflow.sklearn.autolog(silent=True, log_models=False)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
LogisticRegression(C=0.5).fit(X, y)
GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2).fit(X, y)
mlflow.sklearn.autolog(disable=True)
"""
    )
    step, (search,) = step_run()
    assert (step.data.params["C"], "training_score" in step.data.metrics) == ("0.5", True)
    assert "best_cv_score" in search.data.metrics
    trials = client.search_runs([step.info.experiment_id], f"tags.`mlflow.parentRunId` = '{search.info.run_id}'")
    assert {trial.data.params["C"] for trial in trials} == {"1", "2"}


@there
def test_all_libraries(go, step_run):  # noqa: F811
    """`mlflow.autolog()` for all libraries at once logs what is fitted into the step's run."""
    go(
        _DATA
        + """
# MLflow leaves a library as it is that was configured alone, here by another test of this process.
mlflow.utils.autologging_utils.AUTOLOGGING_INTEGRATIONS.clear()
mlflow.autolog(silent=True, log_models=False)
from sklearn.linear_model import LogisticRegression
LogisticRegression(C=0.25).fit(X, y)
mlflow.autolog(disable=True)
"""
    )
    step, under = step_run()
    assert (step.data.params["C"], "training_score" in step.data.metrics, under) == ("0.25", True, [])


def test_log_model_and_evaluate(go, step_run, client):  # noqa: F811
    """A model that the code logs is the step run's, and so are the metrics of `mlflow.evaluate`."""
    go(
        _DATA
        + """
from sklearn.linear_model import LogisticRegression
model = LogisticRegression().fit(X, y)
info = mlflow.sklearn.log_model(model, name="mine", pip_requirements=[], input_example=X[:2])
options = {"targets": "y", "model_type": "classifier", "evaluator_config": {"log_explainer": False}}
mlflow.evaluate(info.model_uri, X.assign(y=y), **options)
"""
    )
    step, under = step_run()
    assert (models(client, step), under) == (["mine"], [])
    assert 0.5 < step.data.metrics["accuracy_score"] <= 1


@pytest.mark.ml
def test_log_model_of_each_flavor(go, step_run, client):  # noqa: F811
    """A model that `mlflow.<flavor>.log_model` logs is the step run's, complete, in each flavor."""
    for library in ("catboost", "keras", "lightning", "onnx", "transformers"):
        find_library(library)
    seen = go(
        _DATA
        + """
import os
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}
import catboost, keras, lightgbm, numpy as np, onnx, torch, transformers, xgboost
from onnx.helper import make_graph, make_model, make_node, make_tensor_value_info
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
class Total(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[float]) -> list[float]:
        return [sum(model_input)]
places = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
config = transformers.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
bert = transformers.BertForSequenceClassification(config)
words = Tokenizer(WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
models = {
    "catboost": catboost.CatBoostClassifier(iterations=2, verbose=0, allow_writing_files=False).fit(X, y),
    "lightgbm": lightgbm.train({"num_leaves": 4, "verbose": -1}, lightgbm.Dataset(X, y), num_boost_round=2),
    "onnx": make_model(make_graph([make_node("Identity", ["x"], ["y"])], "same", places[:1], places[1:])),
    "pytorch": torch.nn.Linear(2, 1),
    "tensorflow": keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]),
    "xgboost": xgboost.train({"max_depth": 2}, xgboost.DMatrix(X, y), num_boost_round=2),
}
# MLflow traces a network of PyTorch with an example.
options = {"pytorch": {"input_example": np.ones((1, 2), "float32")}}
for flavor, model in models.items():
    getattr(mlflow, flavor).log_model(model, name=flavor, pip_requirements=[], **options.get(flavor, {}))
mlflow.pyfunc.log_model(name="pyfunc", python_model=Total(), pip_requirements=[])
pipeline = {"model": bert, "tokenizer": tokenizer}
mlflow.transformers.log_model(pipeline, name="transformers", task="text-classification", pip_requirements=[])
seen = sorted([*models, "pyfunc", "transformers"])
"""
    )
    step, under = step_run()
    search = f"source_run_id = '{step.info.run_id}'"
    logged = {model.name: model for model in client.search_logged_models([step.info.experiment_id], search)}
    assert (sorted(logged), under) == (seen, [])
    for name, model in logged.items():
        flavor = {"pyfunc": "python_function"}.get(name, name)
        assert flavor in mlflow.models.Model.load(model.artifact_location).flavors


@pytest.mark.ml
def test_boosters(go, step_run, client):  # noqa: F811
    """XGBoost's values, its model and its pictures are in the step's run, and LightGBM's in a run under it."""
    go(
        _DATA
        + """
import lightgbm, xgboost
mlflow.xgboost.autolog(silent=True)
mlflow.lightgbm.autolog(silent=True)
data = xgboost.DMatrix(X, y)
xgboost.train({"max_depth": 2}, data, num_boost_round=2, evals=[(data, "train")], verbose_eval=False)
lightgbm.train({"num_leaves": 4, "verbose": -1}, lightgbm.Dataset(X, y), num_boost_round=2)
mlflow.xgboost.autolog(disable=True)
mlflow.lightgbm.autolog(disable=True)
"""
    )
    step, (under,) = step_run()
    assert (step.data.params["max_depth"], models(client, step)) == ("2", ["model"])
    assert (under.data.params["num_leaves"], models(client, under)) == ("4", ["model"])
    assert len(client.get_metric_history(step.info.run_id, "train-rmse")) == 2
    assert "feature_importance_weight.json" in {file.path for file in client.list_artifacts(step.info.run_id)}


@pytest.mark.ml
def test_optuna(go, step_run):  # noqa: F811
    """Each trial of Optuna's callback is a run under the step's, whatever experiment the callback asks for."""
    find_library("optuna_integration")
    go(
        """
import optuna
from optuna_integration.mlflow import MLflowCallback
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(study_name="mine")
study.optimize(lambda trial: trial.suggest_float("x", -1, 1), n_trials=3, callbacks=[MLflowCallback(metric_name="score")])
mlflow.log_metric("best", study.best_value)
"""
    )
    step, trials = step_run()
    assert sorted(trial.info.run_name for trial in trials) == ["0", "1", "2"]
    assert step.data.metrics["best"] == min(trial.data.metrics["score"] for trial in trials)


@pytest.mark.ml
def test_lightning(go, step_run, client):  # noqa: F811
    """Autologging of Lightning is in the step's run, and Lightning's own logger has a run under it."""
    find_library("lightning")
    go(
        _TORCH
        + """
mlflow.pytorch.autolog(silent=True)
lightning.Trainer(logger=False, **trainer).fit(Line(), batches)
mlflow.pytorch.autolog(disable=True)
from lightning.pytorch.loggers import MLFlowLogger
logger = MLFlowLogger(experiment_name="mine", run_name="logger", tracking_uri=mlflow.get_tracking_uri())
lightning.Trainer(logger=logger, **trainer).fit(Line(), batches)
"""
    )
    step, (under,) = step_run()
    assert (step.data.params["optimizer_name"], models(client, step)) == ("SGD", ["model"])
    assert (under.info.run_name, under.info.status, "loss" in under.data.metrics) == ("logger", "FINISHED", True)


@pytest.mark.ml
def test_keras(go, step_run):  # noqa: F811
    """Autologging of Keras writes the metrics of each epoch into the step's run."""
    find_library("keras")
    go(
        """
import os
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}
import keras, numpy as np
mlflow.tensorflow.autolog(silent=True, log_models=False)
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(np.ones((8, 2)), np.ones(8), epochs=2, verbose=0)
mlflow.tensorflow.autolog(disable=True)
"""
    )
    step, under = step_run()
    assert (step.data.params["epochs"], "loss" in step.data.metrics, under) == ("2", True, [])


@pytest.mark.ml
def test_transformers(go, step_run):  # noqa: F811
    """The callback of Hugging Face's Trainer logs into the step's run or under it."""
    find_library("transformers")
    go(
        """
import tempfile, torch, transformers
config = transformers.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
model = transformers.BertForSequenceClassification(config)
rows = [{"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor(i % 2)} for i in range(8)]
with tempfile.TemporaryDirectory() as directory:
    options = {"num_train_epochs": 1, "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    arguments = transformers.TrainingArguments(directory, report_to=["mlflow"], run_name="bert", **options)
    transformers.Trainer(model, arguments, train_dataset=rows).train()
"""
    )
    _, (under,) = step_run()
    assert under.info.run_name == "bert"
    assert (under.data.params["num_train_epochs"], "train_loss" in under.data.metrics) == ("1", True)
