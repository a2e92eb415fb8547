"""Know the runs, models and experiments of a step, and answer requests about them while the server is unavailable."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow_zen.lineage.mlflow.offline.outbox import Outbox, Request
from airflow_zen.lineage.mlflow.rest import SPANS, TRACES

Document = dict[str, Any]

_LOGS_ONE = {"log-metric": "metrics", "log-parameter": "params", "set-tag": "tags"}
# Only the server can store files at such an address; while it is unavailable, the outbox stores them.
_STORED_BY_SERVER = frozenset({"mlflow-artifacts", "http", "https"})


class KnownEntities:
    """Store entities as MLflow's REST API describes them, and apply the changes that requests make.

    The outbox has all values of their metrics, and a local directory for the files of each.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._runs_and_models: dict[str, Document] = {}
        self._experiments: list[Document] = []

    def learn(self, answer: Document) -> Document:
        """Store the entity that an answer of MLflow describes, and return it; empty if the answer describes none."""
        match answer:
            case {"run": {"info": {"run_id": key}} as entity} | {"model": {"info": {"model_id": key}} as entity}:
                self._runs_and_models[key] = entity
                return dict(entity)
            case {"experiment": experiment}:
                self._experiments.append(experiment)
        return {}

    def experiment_name(self, experiment_id: str) -> str:
        """Return the name of an experiment, or its id where the name has not been seen."""
        names = (each["name"] for each in self._experiments if each["experiment_id"] == experiment_id)
        return str(next(names, experiment_id))

    def answer(self, request: Request) -> Document | None:
        """Apply a request and return MLflow's answer; None where only the server has it."""
        if request.path == SPANS or request.path.startswith(TRACES):
            return _trace(request)
        kind, _, what = request.path.partition("/")
        if kind == "experiments":
            return self._answer_experiment(what, request)
        if request.path == "metrics/get-history":
            return self._metric_history(request.body)
        if kind not in {"runs", "logged-models"} or what == "search" or request.method == "DELETE":
            return {} if request.path == "model-versions/set-tag" else None
        return self._answer_entity(what, request)

    def _answer_entity(self, what: str, request: Request) -> Document | None:
        key = request.created or str(request.body.get("run_id", what.partition("/")[0]))
        if request.created:
            self._runs_and_models[key] = _created(request)
        elif request.method != "GET":
            entity = self._runs_and_models.get(key, {"info": {}})
            _change(entity, what, request)
            return {"run_info": entity["info"], "model": {"info": entity["info"]}}
        if not (request.created or what in {"get", key}) or key not in self._runs_and_models:
            return None
        entity = self._runs_and_models[key]
        if urlsplit(entity["info"].get("artifact_uri", "http:")).scheme in _STORED_BY_SERVER:
            entity["info"]["artifact_uri"] = self._outbox.files_of(key)
        # MLflow's client ignores the name that it does not look for.
        return {"run": entity, "model": entity}

    def _metric_history(self, query: Mapping[str, Any]) -> Document | None:
        """Return the values of a metric; None for a run that the server has, with its earlier values."""
        run_id, key = str(query.get("run_id")), query.get("metric_key")
        if not self._runs_and_models.get(run_id, {}).get("began_here"):
            return None
        logged = (each for each in self._outbox.logged() if each.body.get("run_id") == run_id)
        return {"metrics": [metric for each in logged for metric in _metrics(each) if metric["key"] == key]}

    def _answer_experiment(self, what: str, request: Request) -> Document | None:
        if what == "create":
            made = {"experiment_id": request.created, "lifecycle_stage": "active"}
            self._experiments.append({**request.body, **made})
            return {"experiment_id": request.created}
        key = {"get": "experiment_id", "get-by-name": "name"}.get(what)
        if key is None:
            return {} if what == "set-experiment-tag" else None
        wanted = request.body.get("experiment_id") or request.body.get("experiment_name")
        return next(({"experiment": each} for each in self._experiments if each.get(key) == wanted), None)


def _created(request: Request) -> Document:
    """Return a new run or model with the fields of both; MLflow's client ignores those of the other."""
    ids, now = dict.fromkeys(("run_id", "run_uuid", "model_id"), request.created), round(time.time() * 1000)
    times = {"creation_timestamp_ms": now, "last_updated_timestamp_ms": now}
    status = "RUNNING" if request.path == "runs/create" else "LOGGED_MODEL_PENDING"
    data = {name: request.body.get(name, []) for name in ("params", "tags")}
    return {"info": {**request.body, **ids, **times, "status": status}, "data": data, "began_here": True}


def _trace(request: Request) -> Document | None:
    """Return the answer for spans, for a trace, whose spans are sent apart from it, and for the tags of a trace."""
    if request.path != TRACES:
        return {} if request.path == SPANS or request.path.endswith("/tags") else None
    info = request.body["trace"]["trace_info"]
    tags = {**info.get("tags", {}), "mlflow.trace.spansLocation": "TRACKING_STORE"}
    return {"trace": {"trace_info": {**info, "tags": tags}}}


def _logged(what: str, request: Request) -> Mapping[str, Any]:
    """Return the metrics, parameters and tags that a request logs, by kind."""
    return {_LOGS_ONE[what]: [request.entry()]} if what in _LOGS_ONE else request.body


def _metrics(request: Request) -> list[Document]:
    kind, _, what = request.path.partition("/")
    return [*_logged(what, request).get("metrics", [])] if kind == "runs" else []


def _change(entity: Document, what: str, request: Request) -> None:
    body = _logged(what, request)
    data = entity.setdefault("data", {})
    for kind in {"metrics", "params", "tags"} & body.keys():
        data[kind] = [*{each["key"]: each for each in [*data.get(kind, []), *body[kind]]}.values()]
    entity["info"].update({name: body[name] for name in ("status", "end_time", "run_name") if name in body})
