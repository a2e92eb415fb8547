"""The file that owns mlflow: its client inside a step goes on when the server does not.

MLflow loads it by itself, through the entry points `mlflow.tracking_store`. Outside a step's function
it does nothing of its own.
"""

from __future__ import annotations

import json
import logging
import time
from functools import partial
from typing import Any

from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.proto_json_utils import message_to_json, parse_dict

from airflow_zen.lineage.mlflow.offline.call_log import CALL_TAG, UserCall, UserCalls, new_id
from airflow_zen.lineage.mlflow.offline.responses import answer, can_wait, makes

log = logging.getLogger("airflow_zen.lineage")

# A server that takes this long to answer, in seconds, is as good as away: a step may log thousands of times.
_SLOW = 3.0

# Server, gateway or credentials are not as they should be; all else is the caller's own mistake.
_NOT_THE_CALLERS_FAULT = frozenset({401, 403, 408, 429, 500, 502, 503, 504})

_NOTED = frozenset(
    {"CreateRun", "GetRun", "CreateLoggedModel", "GetLoggedModel", "GetExperiment", "GetExperimentByName"}
)


def open_store(store_uri: str, artifact_uri: str | None = None) -> RestStore:
    """Build what MLflow's own builder for `http` and `https` builds, for calls that can wait."""
    return StepStore(store_uri)


class StepStore(RestStore):
    """Send calls to the server; in a step, keep those that it does not take, and ask it no more."""

    def __init__(self, uri: str) -> None:
        super().__init__(partial(get_default_host_creds, uri))  # type: ignore[no-untyped-call]
        self._uri = uri
        self._noted: set[str] = set()

    def _call_endpoint(
        self, api: Any, json_body: str | None = None, endpoint: str | None = None, *args: Any, **options: Any
    ) -> Any:
        send = partial(super()._call_endpoint, api)
        calls = UserCalls.of_step()
        if calls is None or calls.step()["server"] != self._uri.rstrip("/"):
            return send(json_body, endpoint, *args, **options)
        path, method = self._METHOD_TO_INFO.get(api, ("", ""))
        call = _call(api.DESCRIPTOR.name, method, endpoint or path, json_body, calls)
        if not calls.given_up:
            try:
                began = time.monotonic()
                said = send(json.dumps(call.body) if json_body else None, endpoint, *args, **options)
            except Exception as error:
                if not _is_away(error):
                    raise
                _give_up(calls, str(error))
            else:
                if time.monotonic() - began > _SLOW:
                    _give_up(calls, "It took too long to answer.")
                self._note(calls, call, said)
                return said
        return self._kept(calls, call, api)

    def _kept(self, calls: UserCalls, call: UserCall, api: Any) -> Any:
        """Keep the call for later, and answer it from what the step knows."""
        if can_wait(call.api):
            calls.add(call)
        said = answer(calls, call)
        if said is None:
            # MLflow's client makes an experiment that it does not find; later that finds one which is there.
            code = RESOURCE_DOES_NOT_EXIST if call.api == "GetExperimentByName" else TEMPORARILY_UNAVAILABLE
            raise MlflowException(
                f"MLflow at {self._uri!r} is away, and {call.api} needs its answer. What a step logs can wait; see "
                "docs/lineage.md, 'When MLflow is away', for what cannot.",
                error_code=code,
            )
        response = api.Response()
        parse_dict(said, response)  # type: ignore[no-untyped-call]
        return response

    def _note(self, calls: UserCalls, call: UserCall, said: Any) -> None:
        """Remember once what MLflow says of a thing, for the time when it is away."""
        if call.api not in _NOTED:
            return
        document = json.loads(message_to_json(said))
        key = call.made or f"{call.path} {sorted(call.body.items())}"
        if key not in self._noted:
            self._noted.add(key)
            calls.note(document)


def _call(api: str, method: str, path: str, json_body: str | None, calls: UserCalls) -> UserCall:
    """Write down a request; one that makes a thing carries a tag by which that thing is found again.

    MLflow's client links a model to the active run, and there is none before the first metric or parameter.
    """
    body = json.loads(json_body or "{}")
    made = new_id() if makes(api) else ""
    if made and api != "CreateExperiment":
        body["tags"] = [*body.get("tags", []), {"key": CALL_TAG, "value": made}]
    if api == "CreateLoggedModel":
        body.setdefault("source_run_id", calls.step()["run"]["info"]["run_id"])
    return UserCall(api, method, path.partition("/mlflow/")[2], body, made)


def _is_away(error: Exception) -> bool:
    if not isinstance(error, RestException):
        return True
    return error.get_http_status_code() in _NOT_THE_CALLERS_FAULT  # type: ignore[no-untyped-call]


def _give_up(calls: UserCalls, reason: str) -> None:
    calls.give_up()
    log.warning("MLflow is away: what this step logs from now on is kept, and sent later. %s", reason)
