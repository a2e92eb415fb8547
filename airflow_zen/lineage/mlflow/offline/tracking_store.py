"""Plugins of MLflow's client: in the processes of a step it logs into the step's run, through the step's relay.

MLflow loads them through the entry points `mlflow.tracking_store` and `mlflow.request_auth_provider`. The store has the
server's address, which MLflow prints in links; in a step its requests are redirected. Outside a step it is MLflow's own
store.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from threading import current_thread, main_thread
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import mlflow
from mlflow.entities import Experiment, Run, RunTag
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking.request_auth.abstract_request_auth_provider import RequestAuthProvider
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.rest_utils import MlflowHostCreds
from requests import PreparedRequest

from airflow_zen.lineage.mlflow.offline import EXPERIMENT_STAYS, RELAY_VARIABLE, STEP_VARIABLE

log = logging.getLogger("airflow_zen.lineage")

# MLflow sets them on every run that it creates; the step's run has its own.
_CREATION_TAGS = ("mlflow.user", "mlflow.source.", "mlflow.runName", "mlflow.note.content")

_entered_runs: set[str] = set()
_told_experiments: set[tuple[str, str]] = set()


class StepStore(RestStore):
    """MLflow's own store, except that in a step MLflow's fluent API works in the step's run and experiment."""

    def create_run(
        self, experiment_id: str, user_id: str, start_time: int, tags: list[RunTag], run_name: str | None
    ) -> Run:
        """Return the step's run if the code logs or starts a run without further options; otherwise a new run.

        The relay nests a new run below the step's.
        """
        step = self._step()
        if step and not run_name and _is_step_run(step, tags):
            return self._join(step["run_id"], tags)
        if step and not step["respect_set_experiment"] and experiment_id != step["experiment_id"]:
            experiment_id = self._step_experiment(step, experiment_id).experiment_id
        return super().create_run(experiment_id, user_id, start_time, tags, run_name)

    def get_experiment_by_name(self, experiment_name: str) -> Experiment | None:
        """Return the experiment; for `mlflow.set_experiment` that of the step."""
        return self._own_experiment(experiment_name) or super().get_experiment_by_name(experiment_name)

    def get_experiment(self, experiment_id: str) -> Experiment:
        """Return the experiment; for `mlflow.set_experiment` that of the step."""
        return self._own_experiment(experiment_id) or super().get_experiment(experiment_id)

    def _step(self) -> dict[str, Any] | None:
        """Return the step that the environment describes if requests go to its relay; otherwise None."""
        return dict(json.loads(os.environ[STEP_VARIABLE])) if self.get_host_creds().auth == RELAY_VARIABLE else None

    def _join(self, run_id: str, tags: list[RunTag]) -> Run:
        if own := [tag for tag in tags if not tag.key.startswith(_CREATION_TAGS)]:
            self.log_batch(run_id, [], [], own)
        return self.get_run(run_id)

    def _own_experiment(self, wanted: str) -> Experiment | None:
        step = self._step() if _fluent_call("set_experiment") else None
        if not step or step["respect_set_experiment"]:
            return None
        return self._step_experiment(step, wanted)

    def _step_experiment(self, step: dict[str, Any], wanted: str) -> Experiment:
        """Return the experiment of the step, and log once that it is used if the code wants another one."""
        experiment: Experiment = super().get_experiment(step["experiment_id"])
        if (
            wanted not in {experiment.name, experiment.experiment_id}
            and (step["run_id"], wanted) not in _told_experiments
        ):
            _told_experiments.add((step["run_id"], wanted))
            log.warning(EXPERIMENT_STAYS, experiment.name, wanted)
        return experiment


def client_state() -> tuple[Any, Any]:
    """Return the tracking URI and the experiment that code of this process has set in MLflow's client."""
    from mlflow.tracking import fluent
    from mlflow.tracking._tracking_service import utils

    # MLflow shows neither apart from the environment.
    return utils._tracking_uri, fluent._active_experiment_id  # noqa: SLF001


def leave_step(before: tuple[Any, Any], run_ids: Collection[str], status: str) -> None:
    """End the step's active runs in this thread, forget those of others, and restore what `client_state` returned."""
    from mlflow.tracking import fluent

    mlflow.flush_async_logging()
    mlflow.flush_trace_async_logging()
    while (active := mlflow.active_run()) and active.info.run_id in run_ids:
        mlflow.end_run(status)
    for stack in fluent._active_run_stack.get_all_thread_values().values():  # noqa: SLF001
        stack[:] = [run for run in stack if run.info.run_id not in run_ids]
    tracking_uri, fluent._active_experiment_id = before  # noqa: SLF001
    mlflow.set_tracking_uri(tracking_uri)


@contextmanager
def separate_client(tracking_uri: str) -> Iterator[None]:
    """Set another tracking URI in MLflow's client for the block, without an active run; restore its state after it."""
    from mlflow.tracking import fluent

    before, stacks = client_state(), [*fluent._active_run_stack.get_all_thread_values().values()]  # noqa: SLF001
    active = [stack[:] for stack in stacks]
    for stack in stacks:
        stack.clear()
    fluent._active_experiment_id = None  # noqa: SLF001
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        leave_step(before, {run.info.run_id for run in filter(None, [mlflow.active_run()])}, "FINISHED")
        for stack, runs in zip(stacks, active, strict=True):
            stack[:] = runs


def open_store(store_uri: str, artifact_uri: str | None = None) -> StepStore:
    """Build the store for the schemes `http` and `https`."""
    return StepStore(partial(_host, store_uri))


class RelayAuth(RequestAuthProvider):
    """Redirect requests to the relay, after the authentication that the step's code has chosen."""

    def get_name(self) -> str:
        """Return the name of this authentication plugin."""
        return RELAY_VARIABLE

    def get_auth(self) -> RelayAuth:
        """Return the callable that redirects each request."""
        return self

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Redirect one request."""
        # It loads this file when it is imported.
        from mlflow.tracking.request_auth.registry import fetch_auth

        if chosen := os.environ.get("MLFLOW_TRACKING_AUTH"):
            request.prepare_auth(fetch_auth(chosen))
        server, _, relay = os.environ.get(RELAY_VARIABLE, "").partition(" ")
        if relay:
            request.url = relay + request.path_url.removeprefix(urlsplit(server).path)
        return request


def _host(store_uri: str) -> MlflowHostCreds:
    host = get_default_host_creds(store_uri)
    if os.environ.get(RELAY_VARIABLE, "").partition(" ")[0] == store_uri.rstrip("/"):
        host.auth = RELAY_VARIABLE
    return host


def _is_step_run(step: dict[str, Any], tags: list[RunTag]) -> bool:
    """Whether the code means the step's run: it logs without a run, or starts its first run without name or parent.

    A run that a thread or another process starts may be one of several, and gets a run of its own.
    """
    call = _fluent_call("start_run")
    if call is None or call.f_locals.get("nested") or MLFLOW_PARENT_RUN_ID in {tag.key for tag in tags}:
        return False
    if call.f_back and call.f_back.f_code.co_name == "_get_or_start_run":
        return True
    if step["process"] != os.getpid() or current_thread() is not main_thread() or step["run_id"] in _entered_runs:
        return False
    _entered_runs.add(step["run_id"])
    return True


def _fluent_call(function: str) -> FrameType | None:
    """Return the call of MLflow's fluent API in the current stack."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - MLflow passes on neither `nested` nor who asks
    while frame and (frame.f_code.co_name != function or frame.f_globals.get("__name__") != "mlflow.tracking.fluent"):
        frame = frame.f_back
    return frame
