"""The runs, models and experiments that a step's code uses, to answer it while MLflow is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow_zen.lineage.mlflow.offline.outbox import Request

Document = dict[str, Any]

# Only the server can store files at such an address.
_STORED_BY_SERVER = frozenset({"mlflow-artifacts", "http", "https"})

_LOGS_ONE = {"log-metric": "metrics", "log-parameter": "params", "set-tag": "tags"}


class Replica:
    """Keep entities as MLflow's REST API describes them, and change them as requests say.

    `files_of` returns the local directory for the files of a run or model by its id.
    """

    def __init__(self, files_of: Callable[[str], str]) -> None:
        self._files_of = files_of
        self._runs_and_models: dict[str, Document] = {}
        self._experiments: list[Document] = []

    def learn(self, answer: Document) -> None:
        """Remember the entity that an answer of MLflow describes."""
        match answer:
            case {"run": {"info": {"run_id": key}} as entity} | {"model": {"info": {"model_id": key}} as entity}:
                self._runs_and_models[key] = entity
            case {"experiment": experiment}:
                self._experiments.append(experiment)

    def answer(self, request: Request) -> Document | None:
        """Apply a request and return MLflow's answer; None where only the server has it."""
        kind, _, what = request.path.partition("/")
        if kind == "experiments":
            return self._answer_experiment(what, request)
        if kind not in {"runs", "logged-models"} or what == "search" or request.method == "DELETE":
            return None
        if request.created:
            self._runs_and_models[request.created] = _run(request) if kind == "runs" else _model(request)
            return self._describe(request.created)
        key = str(request.body.get("run_id", what.partition("/")[0]))
        if request.method == "GET":
            return self._describe(key) if what in {"get", key} else None
        entity = self._runs_and_models.get(key, {"info": {}})
        _change(entity, what, request)
        return {"run_info": entity["info"], "model": {"info": entity["info"]}}

    def _describe(self, key: str) -> Document | None:
        """Return an entity under both names: MLflow's client ignores what it does not look for.

        Where only the server could store its files, the outbox does.
        """
        entity = self._runs_and_models.get(key)
        if entity is None:
            return None
        scheme = urlsplit(entity["info"].get("artifact_uri", "http:")).scheme
        if scheme in _STORED_BY_SERVER:
            entity["info"]["artifact_uri"] = self._files_of(key)
        return {"run": entity, "model": entity}

    def _answer_experiment(self, what: str, request: Request) -> Document | None:
        if what == "create":
            self._experiments.append({**request.body, "experiment_id": request.created})
            return {"experiment_id": request.created}
        key = {"get": "experiment_id", "get-by-name": "name"}.get(what)
        if key is None:
            return {} if what == "set-experiment-tag" else None
        wanted = request.body.get("experiment_id") or request.body.get("experiment_name")
        return next(({"experiment": each} for each in self._experiments if each.get(key) == wanted), None)


def _run(request: Request) -> Document:
    ids = {"run_id": request.created, "run_uuid": request.created}
    return {"info": {**request.body, **ids, "status": "RUNNING"}, "data": {"tags": request.body.get("tags", [])}}


def _model(request: Request) -> Document:
    now = round(time.time() * 1000)
    times = {"creation_timestamp_ms": now, "last_updated_timestamp_ms": now}
    info = {**request.body, **times, "model_id": request.created, "status": "LOGGED_MODEL_PENDING"}
    return {"info": info, "data": {"params": request.body.get("params", [])}}


def _change(entity: Document, what: str, request: Request) -> None:
    body = {_LOGS_ONE[what]: [request.entry()]} if what in _LOGS_ONE else request.body
    data = entity.setdefault("data", {})
    for kind in {"metrics", "params", "tags"} & body.keys():
        data[kind] = [*{each["key"]: each for each in [*data.get(kind, []), *body[kind]]}.values()]
    entity["info"].update({name: body[name] for name in ("status", "end_time", "run_name") if name in body})
