"""Model artifacts as logged models and versions of registered models in MLflow."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.folder import MANIFEST_FILE_NAME, Manifest
from airflow_zen.errors import SettingsError, ZenError
from airflow_zen.json_records import convert_record
from airflow_zen.lineage.mlflow.datasets import is_mlflow_model, mlflow_column_type
from airflow_zen.lineage.mlflow.encoding import MAX_BATCH_ENTRIES, MAX_KEY, flatten_parameters, key_values, shorten
from airflow_zen.lineage.mlflow.log_step import OUTPUTS, PrefetchResult, model_metadata_requests, send
from airflow_zen.lineage.mlflow.model_versions import maker_tags, point_challenger, register, versions_of_content
from airflow_zen.lineage.mlflow.offline.outbox import Request
from airflow_zen.lineage.mlflow.parent_runs import find_experiment
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.run_files import copy_files, put_run_files
from airflow_zen.lineage.mlflow.tags import dag_run_key, quote_filter_value
from airflow_zen.model_files import MLMODEL_FILE, ModelEnvironment
from airflow_zen.runs.step_run import StepRun, StepState
from airflow_zen.transports.base import Transport, key_of_url

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef

log = logging.getLogger("airflow_zen.lineage")

_EXAMPLE_FILE, _SERVING_FILE = "input_example.json", "serving_input_example.json"
_OWN_SIGNATURE = r"(?m)^signature:"
# The schema that MLflow itself writes for outputs that it cannot infer. MLServer loads no model without a schema.
ANY_OUTPUT = '[{"type": "any", "required": true}]'
_INVALID_NAME_CHARACTERS = r"[/:.%\"']"
_READY = "LOGGED_MODEL_READY"
_MAX_LOOKUPS = 100

_NO_MODEL_WARNING = (
    "Step %r is declared model=%r, but returned no model that MLflow can serve: %r has no new version. Return a model "
    "that is stored as an MLflow Model (docs/steps.md), or airflow_zen.MLflowModel(directory)."
)
_FOREIGN_LOCATION_WARNING = (
    "MLflow keeps this experiment's files at %r, outside the artifact root %r: the model %s is registered at its own "
    "address instead. Rename the experiment in MLflow, and a new one is created under the root."
)


class LoggedModels:
    """Create models in MLflow, and find those that were created; the files are in the store `transport`."""

    def __init__(self, rest: MlflowRest, transport: Transport, artifact_root: str) -> None:
        self.rest = rest
        self._transport = transport
        self._root = artifact_root

    def prefetch(self, run: StepRun, experiment_id: str) -> PrefetchResult:
        """Look up what a run refers to; at most 100 artifacts of a kind."""
        outputs = run.outputs.values() if run.is_hit else ()
        models = {ref.digest: ref for ref in (*run.inputs.values(), *outputs) if is_mlflow_model(ref)}
        found = {
            ref.digest: self.find_model_id(ref, run, experiment_id) for ref in islice(models.values(), _MAX_LOOKUPS)
        }
        # MLflow keeps the first description of a dataset in an experiment: for other artifacts it is the producer's.
        foreign = [ref for ref in run.inputs.values() if not ref.name.startswith(f"{run.id.dag_id}/")]
        described = {*run.summaries, *models}
        missing = {ref.digest: ref for ref in (*foreign, *outputs) if ref.digest not in described}
        return PrefetchResult(
            summaries={ref.digest: self._read_summary(ref) for ref in islice(missing.values(), _MAX_LOOKUPS)},
            model_ids={digest: model_id for digest, model_id in found.items() if model_id},
        )

    def log_step_models(
        self, run: StepRun, experiment_id: str, run_id: str, prefetched: PrefetchResult, resume: bool
    ) -> None:
        """Create the model outputs of a step, and versions of them where `run.model` is set.

        What a hit reused, and what another step made, is only attached to the run.

        resume: look for what an earlier attempt created, and continue from there.
        """
        known = prefetched.model_ids
        outputs = [name for name, ref in run.outputs.items() if is_mlflow_model(ref)]
        if run.model and not outputs and run.state is StepState.FINISHED:
            log.warning(_NO_MODEL_WARNING, run.id.task_id, run.model, run.model)
        ids = {f"output:{name}": self._log_output(run, name, experiment_id, run_id, known, resume) for name in outputs}
        ids |= {f"input:{name}": known.get(ref.digest, "") for name, ref in run.inputs.items()}
        if not run.is_hit:
            send(
                model_metadata_requests(run, run_id, {subject: found for subject, found in ids.items() if found}),
                self.rest,
            )

    def _log_output(
        self, run: StepRun, output: str, experiment_id: str, run_id: str, known: Mapping[str, str], resume: bool
    ) -> str:
        """Attach the model of an output to the run, created where MLflow has none of it; return its id, empty for none.

        A step that returns the model of another step, or the content of a version, has no model of its own: the page of
        the version shows what it was trained with.
        """
        digest, source = run.outputs[output].digest, ""
        version = next(iter(versions_of_content(self.rest, run.model, digest)), None) if run.model else None
        model_id = str(version.get("source", "")).removeprefix("models:/") if version else ""
        if not model_id.startswith("m-"):
            is_read = any(ref.digest == digest for ref in run.inputs.values())
            model_id = known.get(digest, "") if run.is_hit or is_read else ""
        if model_id:
            self.log_outputs(run_id, [model_id])
        elif run.model or not run.is_hit:
            model_id, source = self.log_model(run, output, experiment_id, run_id, resume)
        if run.model:
            if version is None:
                logged = self.rest.get(f"logged-models/{model_id}")["model"]["info"]
                version = register(self.rest, run, logged, source or f"models:/{model_id}")
            point_challenger(self.rest, run.model, str(version["version"]), forward_only=resume)
        return model_id

    def log_model(
        self, run: StepRun, output: str, experiment_id: str, run_id: str, resume: bool = False
    ) -> tuple[str, str]:
        """Create a logged model of an output with its files; return its id, and the address of files elsewhere."""
        ref = run.outputs[output]
        found = []
        if resume:
            key, name = quote_filter_value(str(run.id)), quote_filter_value(output)
            found = self._search([experiment_id], f"tags.`zen.key` = {key} AND tags.`zen.output` = {name}")
        model = found[0] if found else self._create(run, output, experiment_id, run_id)
        model_id = str(model["model_id"])
        copied = self._copy_files(ref, model["artifact_uri"])
        if copied:
            self._complete(ref, run, output, model["artifact_uri"])
        self.log_outputs(run_id, [model_id])
        self.rest.request("PATCH", f"logged-models/{model_id}", {"model_id": model_id, "status": _READY})
        return model_id, "" if copied else ref.uri

    def log_outputs(self, run_id: str, model_ids: Iterable[str]) -> None:
        """List models as outputs of a run; those that are listed already stay."""
        models = [{"model_id": model_id, "step": 0} for model_id in model_ids]
        send([Request("POST", OUTPUTS, {"run_id": run_id, "models": models})] if models else [], self.rest)

    def find_model_id(self, ref: ArtifactRef, run: StepRun, experiment_id: str) -> str | None:
        """Find the logged model of an artifact: the one of this DAG run, else the newest with that content."""
        # The artifact's name begins with the DAG that made it.
        producer = ref.name.partition("/")[0]
        other = None if producer in {"", run.id.dag_id} else find_experiment(producer, self.rest)
        experiments = [experiment_id, *([other.id] if other else ())]
        found = self._search(experiments, f"tags.`zen.digest` = {quote_filter_value(ref.digest)}")
        ready = [model for model in found if model.get("status") == _READY]
        run_key = {"key": "zen.run_key", "value": dag_run_key(run.id.dag_id, run.id.run_id)}
        ready.sort(key=lambda model: run_key not in model.get("tags", []))
        return str(ready[0]["model_id"]) if ready else None

    def _create(self, run: StepRun, output: str, experiment_id: str, run_id: str) -> dict[str, Any]:
        ref = run.outputs[output]
        name = run.model or ref.name.rpartition("/")[2] or run.id.task_id
        run_key = dag_run_key(run.id.dag_id, run.id.run_id)
        tags = {**maker_tags(run, output), "zen.run_key": run_key, "zen.uri": ref.uri}
        request = {
            "experiment_id": experiment_id,
            "name": shorten(re.sub(_INVALID_NAME_CHARACTERS, "_", name), MAX_KEY),
            "source_run_id": run_id,
            "model_type": ref.type,
            "params": key_values(flatten_parameters(run.parameters))[:MAX_BATCH_ENTRIES],
            "tags": key_values(tags),
        }
        return dict(self.rest.post("logged-models", request)["model"]["info"])

    def _search(self, experiment_ids: list[str], condition: str) -> list[dict[str, Any]]:
        """Return the logged models that match a filter, newest first; at most 50."""
        request = {
            "experiment_ids": experiment_ids,
            "filter": condition,
            "order_by": [{"field_name": "creation_timestamp", "ascending": False}],
            "max_results": 50,
        }
        return [model["info"] for model in self.rest.post("logged-models/search", request).get("models", [])]

    def _copy_files(self, ref: ArtifactRef, artifact_uri: str) -> bool:
        """Copy the files of an artifact to a logged model; return whether MLflow has them now.

        Under our own root the store copies (or links) them itself. An experiment that was created by others may keep
        its files elsewhere: behind the server's proxy they are uploaded, anywhere else they stay where they are.
        """
        # A ref carries only a few files.
        names = [file.path for file in ref.files or self._read_manifest(ref).files]
        try:
            copy_files(artifact_uri, key_of_url(self._root, ref.uri), names, self._transport, self.rest)
        except SettingsError:
            log.warning(_FOREIGN_LOCATION_WARNING, artifact_uri, self._root, ref.name)
            return False
        return True

    def _complete(self, ref: ArtifactRef, run: StepRun, output: str, artifact_uri: str) -> None:
        """Write the versions that a model was made with, and what it takes, into the copy of its files.

        The artifact itself, and its digest, have none of it.
        """
        # The record of a reused result has no summaries.
        summary = run.summaries[ref.digest] if ref.digest in run.summaries else self._read_summary(ref)
        environment, described = summary.get("environment", {}), dict(run.model_inputs.get(output, {}))
        if not run.registration.get("signature", True):
            described = {}
        elif not run.registration.get("input_example", True):
            described.pop("rows", None)
        if environment or described:
            written = self._transport.read(f"{key_of_url(self._root, ref.uri)}/{MLMODEL_FILE}").decode()
            files = completed_files(written, environment, described)
            put_run_files(artifact_uri, files, self._transport, self._root, self.rest)

    def _read_summary(self, ref: ArtifactRef) -> Mapping[str, Any]:
        """Return the summary of an artifact's manifest; empty where it was deleted, or is outside the artifact root."""
        try:
            return self._read_manifest(ref).summary
        except ZenError:
            return {}

    def _read_manifest(self, ref: ArtifactRef) -> Manifest:
        key = f"{key_of_url(self._root, ref.uri)}/{MANIFEST_FILE_NAME}"
        return Manifest.from_json(self._transport.read(key), ref.digest)


def completed_files(mlmodel: str, environment: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of a model directory in which its `environment` is pinned, and which has a signature."""
    files: dict[str, str] = {}
    if environment:
        pinned = convert_record(environment, ModelEnvironment)
        files = pinned.files() | {MLMODEL_FILE: pinned.pin(mlmodel)}
    if described:
        files |= signature_files(files.get(MLMODEL_FILE, mlmodel), described)
    return {name: text.encode() for name, text in files.items()}


def signature_files(mlmodel: str, described: Mapping[str, Any]) -> dict[str, str]:
    """Return the files with which a model directory has a signature; none where its `MLmodel` has one already.

    They are those of MLflow's own `save_model` (https://mlflow.org/docs/latest/ml/model/signatures/). described: the
    `columns`, the `shape` and `dtype`, or the `inputs` by name, that the model takes and, where there are any, `rows`.
    """
    if re.search(_OWN_SIGNATURE, mlmodel):
        return {}
    if "columns" in described:
        taken, names = [*map(column_schema, described["columns"])], [column["name"] for column in described["columns"]]
        example: Any = {"columns": names, "data": described.get("rows")}
        served, info = {"dataframe_split": example}, {"pandas_orient": "split", "type": "dataframe"}
    else:
        taken = [*map(tensor_schema, described.get("inputs", [described]))]
        example, served, info = described.get("rows"), {"inputs": described.get("rows")}, {"type": "ndarray"}
    inputs = json.dumps(taken, ensure_ascii=False).replace("'", "''")
    text = f"{mlmodel.rstrip()}\nsignature:\n  inputs: '{inputs}'\n  outputs: '{ANY_OUTPUT}'\n  params: null\n"
    if not described.get("rows"):
        return {MLMODEL_FILE: text}
    info |= {"artifact_path": _EXAMPLE_FILE, "serving_input_path": _SERVING_FILE}
    text += "saved_input_example_info:\n" + "".join(f"  {name}: {value}\n" for name, value in info.items())
    contents = {_EXAMPLE_FILE: example, _SERVING_FILE: served}
    return {MLMODEL_FILE: text} | {name: json.dumps(each) for name, each in contents.items()}


def tensor_schema(taken: Mapping[str, Any]) -> dict[str, Any]:
    """Return an array of MLflow's schema; several have names."""
    name = {"name": taken["name"]} if "name" in taken else {}
    return {**name, "type": "tensor", "tensor-spec": {"dtype": taken["dtype"], "shape": taken["shape"]}}


def column_schema(column: Mapping[str, Any]) -> dict[str, Any]:
    """Return a column of MLflow's schema; MLflow would change categories to texts, so they have no type."""
    name = str(column["type"])
    kind = "any" if re.match("categor|enum", name.lower()) else mlflow_column_type(name)
    return {"type": kind, "name": column["name"], "required": True}
