"""The spec of an execution in the artifact root, and the answer beside it, for a far side that opens both there."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.errors import ArtifactNotFound
from airflow_zen.runtimes.base import TELEMETRY_OFF, make_spec, step_environment
from airflow_zen.steps.ranks import USAGE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_zen.runs.step_run import StepRunId
    from airflow_zen.steps.runtime import Execution
    from airflow_zen.transports.base import Transport

TASK_LABEL = "airflow-zen/task-instance"
"""The label of what runs for a task instance, by which its next try finds it."""

# The options of a runtime that may differ between two tries of the same work.
_OF_THE_TRY = {"memory": (), "deferrable": None}
_NAME_LIMIT = 40
# What everyone who can read a pod may know; all other variables are taken for credentials.
_PUBLIC_VARIABLES = {
    *TELEMETRY_OFF,
    *("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_CONTEXT"),
    *("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"),
}


class StoredSpec:
    """The spec of an execution on a runtime that has `artifact_root`.

    `task` is the label of the task instance. `name` is made from that and the spec, so that the far side rejects a second
    execution of the same spec; `fingerprint` identifies the spec without the task. `address` is the spec's as the far side
    opens it.
    """

    def __init__(self, runtime: Any, execution: Execution, name: str = "") -> None:
        spec = make_spec(execution, root=runtime.artifact_root)
        document = msgspec.json.encode(msgspec.structs.replace(spec, run=""))
        same = {option: value for option, value in _OF_THE_TRY.items() if hasattr(runtime, option)}
        self._execution, self._transport = execution, execution.stack.store.transport
        self.task = task_label(execution.run.id)
        self.fingerprint = _digest(document + repr(msgspec.structs.replace(runtime, **same)).encode())
        self.name = name or _object_name(execution, _digest((self.task + self.fingerprint).encode()))
        self._spec_key, self._answer_key = (f"{_folder(self.name)}/{each}.json" for each in ("spec", "answer"))
        self._spec = msgspec.structs.replace(spec, answer=self._answer_key)
        root = (runtime.artifact_root or execution.stack.store.root).rstrip("/")
        self.address = f"{root}/{self._spec_key}"

    def variables(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the variables for the far side: the public ones, and the credentials."""
        execution = self._execution
        found = step_environment(execution.stack, execution.opened(), reaches_relay=False)
        public = {name: value for name, value in found.items() if value and _is_public(name, value)}
        return public, {name: value for name, value in found.items() if value and name not in public}

    def write(self) -> None:
        """Store the spec, and delete an old answer."""
        self.delete()
        self._transport.write(self._spec_key, msgspec.json.encode(self._spec))

    def answer(self) -> dict[str, Any] | None:
        """Return the answer; None before there is one."""
        with suppress(ArtifactNotFound):
            return dict(json.loads(self._transport.read(self._answer_key)))
        return None

    def has_result(self) -> bool:
        """Whether there is an answer that is no error."""
        answer = self.answer()
        return answer is not None and not answer.get("error")

    def delete(self, name: str = "") -> None:
        """Delete the objects of the execution, or those of an earlier one with another name."""
        delete_objects(self._transport, name or self.name)

    def rank_usages(self) -> Iterator[dict[str, Any]]:
        """Yield what each rank of the step used, as metadata by subject."""
        for key in self._transport.list(_folder(self.name)):
            if key.rpartition("/")[2].startswith(USAGE_PREFIX):
                yield dict(json.loads(self._transport.read(key)))


def delete_objects(transport: Transport, name: str) -> None:
    """Delete the spec of an execution, its answer, and what its ranks used."""
    transport.delete(list(transport.list(_folder(name))))


def _folder(name: str) -> str:
    return f"runtimes/pods/{name}"


def task_label(run: StepRunId) -> str:
    """Return what identifies a task instance where characters are limited."""
    return _digest(run.task_instance.encode())


def _is_public(name: str, value: str) -> bool:
    return name in _PUBLIC_VARIABLES and "@" not in value


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _object_name(execution: Execution, digest: str) -> str:
    words = re.sub("[^a-z0-9]+", "-", f"{execution.run.id.dag_id}-{execution.run.id.task_id}".lower())
    return f"{words[:_NAME_LIMIT].strip('-') or 'step'}-{digest[:16]}"
