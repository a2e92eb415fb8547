"""Model artifacts as MLflow's logged models and versions of registered models."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_zen.artifacts.manifest import MANIFEST_FILE_NAME, Manifest
from airflow_zen.errors import SettingsError
from airflow_zen.lineage.mlflow.encoding import (
    MAX_BATCH_ENTRIES,
    MAX_KEY,
    flatten_parameters,
    key_value_entries,
    shorten,
)
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.experiments import find_experiment
from airflow_zen.lineage.mlflow.tags import dag_run_key, quote_filter_value
from airflow_zen.runs.step_run import StepRun, mask_secrets
from airflow_zen.transports.base import Transport, key_of_url, run_in_parallel

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.mlflow.rest import MlflowRest

_MODEL_ENCODING = re.compile(r".+\.mlflow@\d+")
_INVALID_NAME_CHARACTERS = re.compile(r"[/:.%\"']")
_READY = "LOGGED_MODEL_READY"


def is_mlflow_model(ref: ArtifactRef) -> bool:
    """Tell whether an artifact is an MLflow Model directory."""
    return _MODEL_ENCODING.fullmatch(ref.encoding) is not None


class LoggedModels:
    """Enter models into MLflow, and find those that were entered."""

    def __init__(self, rest: MlflowRest, transport: Transport, artifact_root: str) -> None:
        self.rest = rest
        self._transport = transport
        self._root = artifact_root

    def log_model(self, run: StepRun, output: str, experiment_id: str, run_id: str, resume: bool = False) -> str:
        """Make a logged model of an output, with its files, and a version where `run.model` asks for one.

        `resume` looks for what an earlier attempt left, and continues there. Returns the model's id.
        """
        ref = run.outputs[output]
        model = (self._find_partial(run, output, experiment_id) if resume else None) or self._create(
            run, output, experiment_id, run_id
        )
        model_id = str(model["model_id"])
        copied = copy_model_files(ref, model["artifact_uri"], self._transport, self._root, self.rest)
        self.log_outputs(run_id, [model_id])
        self.rest.patch(f"logged-models/{model_id}", {"model_id": model_id, "status": _READY})
        if run.model:
            self._create_version(run.model, model_id, run_id, f"models:/{model_id}" if copied else ref.uri, resume)
        return model_id

    def log_outputs(self, run_id: str, model_ids: Iterable[str]) -> None:
        """List models as outputs of a run; those that are listed already stay."""
        models = [{"model_id": model_id, "step": 0} for model_id in model_ids]
        try:
            self.rest.post("runs/outputs", {"run_id": run_id, "models": models})
        except MlflowRejected as error:
            if "IntegrityError" not in str(error):
                raise

    def find_model_id(self, ref: ArtifactRef, run: StepRun, experiment_id: str) -> str | None:
        """Find the logged model of an artifact: the one this DAG run made, else the newest of that content."""
        request = {
            "experiment_ids": self._experiments_to_search(ref, run, experiment_id),
            "filter": f"tags.`zen.digest` = {quote_filter_value(ref.digest)}",
            "order_by": [{"field_name": "creation_timestamp", "ascending": False}],
            "max_results": 50,
        }
        models = [model["info"] for model in self.rest.post("logged-models/search", request).get("models", [])]
        ready = [model for model in models if model.get("status") == _READY]
        here = dag_run_key(run.id.dag_id, run.id.run_id)
        ready.sort(key=lambda model: _tag_value(model, "zen.run_key") != here)
        return str(ready[0]["model_id"]) if ready else None

    def _experiments_to_search(self, ref: ArtifactRef, run: StepRun, experiment_id: str) -> list[str]:
        """Look in the consumer's experiment, and in that of the DAG the artifact's name begins with."""
        producer = ref.name.partition("/")[0]
        if producer in {"", run.id.dag_id}:
            return [experiment_id]
        other = find_experiment(producer, self.rest)
        return [experiment_id, other.id] if other else [experiment_id]

    def _create(self, run: StepRun, output: str, experiment_id: str, run_id: str) -> dict[str, Any]:
        ref = run.outputs[output]
        tags = {
            "zen.digest": ref.digest,
            "zen.key": str(run.id),
            "zen.output": output,
            "zen.run_key": dag_run_key(run.id.dag_id, run.id.run_id),
            "zen.uri": ref.uri,
        }
        request = {
            "experiment_id": experiment_id,
            "name": _model_name(run, ref),
            "source_run_id": run_id,
            "model_type": ref.type,
            "params": key_value_entries(flatten_parameters(mask_secrets(run.parameters)))[:MAX_BATCH_ENTRIES],
            "tags": key_value_entries(tags),
        }
        return dict(self.rest.post("logged-models", request)["model"]["info"])

    def _find_partial(self, run: StepRun, output: str, experiment_id: str) -> dict[str, Any] | None:
        request = {
            "experiment_ids": [experiment_id],
            "filter": f"tags.`zen.key` = {quote_filter_value(str(run.id))} AND tags.`zen.output` = {quote_filter_value(output)}",
            "max_results": 1,
        }
        models = self.rest.post("logged-models/search", request).get("models", [])
        return dict(models[0]["info"]) if models else None

    def _create_version(self, name: str, model_id: str, run_id: str, source: str, resume: bool) -> None:
        if resume and self._is_registered(name, run_id, source):
            return
        try:
            self.rest.post("registered-models/create", {"name": name})
        except MlflowRejected as error:
            if not error.already_exists:
                raise
        version = {"name": name, "source": source, "run_id": run_id, "model_id": model_id}
        self.rest.post("model-versions/create", version)

    def _is_registered(self, name: str, run_id: str, source: str) -> bool:
        filtered = {"filter": f"name={quote_filter_value(name)} and run_id={quote_filter_value(run_id)}"}
        versions = self.rest.get("model-versions/search", filtered).get("model_versions", [])
        return any(version.get("source") == source for version in versions)


def _model_name(run: StepRun, ref: ArtifactRef) -> str:
    name = run.model or ref.name.rpartition("/")[2] or run.id.task_id
    return shorten(_INVALID_NAME_CHARACTERS.sub("_", name), MAX_KEY)


def _tag_value(model: dict[str, Any], key: str) -> str:
    return next((str(tag["value"]) for tag in model.get("tags", []) if tag["key"] == key), "")


log = logging.getLogger("airflow_zen.lineage")


def copy_model_files(ref: ArtifactRef, artifact_uri: str, transport: Transport, root: str, rest: MlflowRest) -> bool:
    """Fill a logged model's `artifact_uri` with the files of the artifact; tell whether MLflow has them now.

    Under our own root the store copies (or links) them itself. An experiment that others made may
    keep files elsewhere: behind the server's proxy they are uploaded, anywhere else they stay ours.
    """
    prefix = key_of_url(root, ref.uri)
    names = _artifact_paths(ref, prefix, transport)
    try:
        copy_files(artifact_uri, prefix, names, transport, rest)
    except SettingsError:
        log.warning(
            "MLflow keeps this experiment's files at %r, outside the artifact root %r: the model %s is registered "
            "at its own address instead. Rename the experiment in MLflow to have a new one made under the root.",
            artifact_uri,
            root,
            ref.name,
        )
        return False
    return True


def copy_files(artifact_uri: str, prefix: str, names: Iterable[str], transport: Transport, rest: MlflowRest) -> None:
    """Bring the files `names` under `prefix` to an address of MLflow's: the store copies, or the server takes them.

    Raises `SettingsError` where neither reaches it.
    """
    if artifact_uri.startswith(("mlflow-artifacts:", "http:", "https:")):
        folder = urlsplit(artifact_uri).path.strip("/")
        run_in_parallel(lambda name: rest.upload(f"{folder}/{name}", transport.read(f"{prefix}/{name}")), names)
        return
    transport.copy(prefix, artifact_uri, names)


def _artifact_paths(ref: ArtifactRef, prefix: str, transport: Transport) -> list[str]:
    """Name the artifact's files; a ref that came through XCom carries only the first two."""
    if ref.files:
        return [file.path for file in ref.files]
    manifest = Manifest.from_json(transport.read(f"{prefix}/{MANIFEST_FILE_NAME}"), ref.digest)
    return [file.path for file in manifest.files]
