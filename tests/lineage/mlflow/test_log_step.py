"""Promises of `airflow_zen.lineage.mlflow.log_step`: the requests of a step are built without a server."""

import pytest

from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.log_step import (
    PrefetchResult,
    dataset_requests,
    end_request,
    metadata_tags,
    model_metadata_requests,
    send,
    value_requests,
)
from airflow_zen.lineage.mlflow.offline.outbox import Request
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState

RUN = StepRun(StepRunId("d", "r", "t"), StepState.FINISHED, 1.0, 3.5)


class Server:
    """Refuse what `refusals` name by path, and collect what is sent."""

    def __init__(self, **refusals):
        self.refusals = {path.replace("_", "/", 1).replace("_", "-"): error for path, error in refusals.items()}
        self.sent = []

    def request(self, method, path, body):
        self.sent.append((method, path, body))
        if path in self.refusals:
            raise MlflowRejected(self.refusals[path], 400)
        return {}

    def post(self, path, body):
        self.sent.append(("POST", path, body))

    def get(self, path, query):
        return {"run": {"data": {"params": [{"key": "depth", "value": "9"}, {"key": "lr", "value": "0.1"}]}}}


def test_values_are_one_request_and_more_for_many(step):
    """Parameters, metrics and tags share one request; what exceeds MLflow's limits follows in others."""
    (request,) = value_requests(step(parameters={"depth": 8}), "run", {"a": "b"})
    assert [entry["key"] for entry in request.body["params"]] == ["depth"]
    many = [*value_requests(step(parameters={f"p{n}": n for n in range(250)}), "run", {})]
    assert [len(request.body["params"]) for request in many] == [100, 100, 50]
    assert [len(request.body["metrics"]) for request in many] == [1, 0, 0]


def test_what_ranks_use_is_a_curve(step):
    """Each sample of a rank is a point of a system metric with its own time, and no tag or other metric."""
    curve = [[1_700_000_000_000, 50.5], [1_700_000_001_000, 60.5]]
    run = step(
        metadata={
            "ranks:samples": {"system/rank_1/memory_megabytes": curve},
            "": {"epochs": 3, "system/rank_1/cpu_seconds": 2},
        }
    )
    (request,) = value_requests(run, "run", metadata_tags(run))
    points = [(entry["key"], entry["timestamp"], entry["value"], entry["step"]) for entry in request.body["metrics"]]
    key = "system/rank_1/memory_megabytes"
    assert points[-2:] == [(key, 1_700_000_000_000, 50.5, 0), (key, 1_700_000_001_000, 60.5, 1)]
    assert [point[0] for point in points[:-2] if not point[0].startswith("zen.")] == [
        "epochs",
        "system/rank_1/cpu_seconds",
    ]
    assert not request.body["tags"]


def test_an_unknown_model_is_a_dataset(step, ref):
    """A model input that MLflow has is listed as a model, another one as a dataset."""
    model = ref("d/train", encoding="xgboost.mlflow@3")
    run = step(inputs={"model": model})
    (known,) = dataset_requests(run, "run", PrefetchResult(model_ids={model.digest: "m-1"}))
    (unknown,) = dataset_requests(run, "run", PrefetchResult())
    assert (known.body["models"], known.body["datasets"]) == ([{"model_id": "m-1"}], [])
    assert [each["dataset"]["name"] for each in unknown.body["datasets"]] == ["d/train"]
    assert [*dataset_requests(step(), "run", PrefetchResult())] == []


def test_metadata_about_a_model(step, ref):
    """Numbers about a model are metrics linked to the one table that was read; other values are tags."""
    run = step(inputs={"table": ref("d/load")}, metadata={"output:model": {"auc": 0.9, "note": "good"}})
    metrics, tags = model_metadata_requests(run, "run", {"output:model": "m-1"})
    assert metrics.body["metrics"][0].items() >= {"key": "auc", "model_id": "m-1", "dataset_name": "d/load"}.items()
    assert (tags.method, tags.body["tags"]) == ("PATCH", [{"key": "note", "value": "good"}])


def test_the_end():
    """The last request has the end state and the end time in milliseconds."""
    assert end_request(RUN, "run").body == {"run_id": "run", "status": "FINISHED", "end_time": 3500}


def test_a_conflicting_parameter_is_renamed():
    """Where user code logged another value of a parameter, only that parameter is renamed, and all are sent again."""
    server = Server(runs_log_batch="Param 'depth' was already logged")
    entries = [{"key": "depth", "value": "8"}, {"key": "lr", "value": "0.1"}]
    send([Request("POST", "runs/log-batch", {"run_id": "r", "params": entries})], server)
    assert [entry["key"] for entry in server.sent[-1][2]["params"]] == ["step.depth", "lr"]


def test_an_output_that_is_listed_already():
    """MLflow's error for an output that is listed already is ignored; every other error is raised."""
    send([Request("POST", "runs/outputs", {})], Server(runs_outputs="sqlite3.IntegrityError"))
    for request in (Request("POST", "runs/outputs", {}), Request("POST", "runs/update", {})):
        with pytest.raises(MlflowRejected):
            send([request], Server(runs_outputs="no such run", runs_update="IntegrityError"))
