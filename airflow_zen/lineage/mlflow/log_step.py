"""Send what went into a step run and what came out: datasets and models."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_zen.lineage.mlflow.datasets import dataset_inputs, dataset_name
from airflow_zen.lineage.mlflow.encoding import (
    MAX_BATCH_ENTRIES,
    MAX_TAG_VALUE,
    flatten_parameters,
    key_value_entries,
    metric_entry,
    sanitize_key,
    short_digest,
    shorten,
    split_batches,
    to_milliseconds,
)
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.models import LoggedModels, is_mlflow_model
from airflow_zen.lineage.mlflow.tags import run_name
from airflow_zen.lineage.savings import seconds_saved
from airflow_zen.runs.step_run import StepRun, StepState, mask_secrets

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.mlflow.prefetch import PrefetchResult
    from airflow_zen.lineage.mlflow.rest import MlflowRest

log = logging.getLogger("airflow_zen.lineage")

_NO_MODEL_WARNING = (
    "Step %r is declared model=%r, but returned no model that MLflow can serve: %r has no new version. Return a model "
    "that is stored as an MLflow Model (docs/steps.md), or airflow_zen.MLflowModel(directory)."
)

# MLflow takes 1000, but may need longer for them than we wait for an answer.
_DATASETS_PER_REQUEST = 200


def log_datasets(run: StepRun, run_id: str, prefetched: PrefetchResult, rest: MlflowRest) -> None:
    """Attach all inputs, and all outputs that are no models; one request for every 200 of them.

    A model that this MLflow does not know is listed as a dataset, so that no artifact is missing.
    """
    models = {prefetched.model_ids[ref.digest]: None for ref in run.inputs.values() if _has_model_id(ref, prefetched)}
    inputs = [ref for ref in run.inputs.values() if not _has_model_id(ref, prefetched)]
    outputs = [
        ref for ref in run.outputs.values() if not is_mlflow_model(ref) or _is_unknown_model(ref, run, prefetched)
    ]
    listed = dataset_inputs(inputs, outputs, {**prefetched.summaries, **run.summaries})
    body: dict[str, Any] = {"run_id": run_id, "models": [{"model_id": model_id} for model_id in models]}
    parts = [listed[first : first + _DATASETS_PER_REQUEST] for first in range(0, len(listed), _DATASETS_PER_REQUEST)]
    for part in parts or [[]] * bool(models):
        rest.post("runs/log-inputs", {**body, "datasets": part})


def log_models(
    run: StepRun, experiment_id: str, run_id: str, prefetched: PrefetchResult, models: LoggedModels, resume: bool
) -> None:
    """Enter the model outputs into MLflow; those that a hit reused are only attached to the run."""
    outputs = [name for name, ref in run.outputs.items() if is_mlflow_model(ref)]
    if run.model and not outputs and run.state is StepState.FINISHED:
        log.warning(_NO_MODEL_WARNING, run.id.task_id, run.model, run.model)
    if not run.is_hit:
        made = {f"output:{name}": models.log_model(run, name, experiment_id, run_id, resume) for name in outputs}
        log_model_metadata(run, run_id, {**_input_model_ids(run, prefetched), **made}, models.rest)
        return
    known = [
        prefetched.model_ids[run.outputs[name].digest]
        for name in outputs
        if _has_model_id(run.outputs[name], prefetched)
    ]
    if known:
        models.log_outputs(run_id, known)


def _input_model_ids(run: StepRun, prefetched: PrefetchResult) -> dict[str, str]:
    return {
        f"input:{name}": prefetched.model_ids[ref.digest]
        for name, ref in run.inputs.items()
        if _has_model_id(ref, prefetched)
    }


def _has_model_id(ref: ArtifactRef, prefetched: PrefetchResult) -> bool:
    return ref.digest in prefetched.model_ids


def _is_unknown_model(ref: ArtifactRef, run: StepRun, prefetched: PrefetchResult) -> bool:
    return run.is_hit and not _has_model_id(ref, prefetched)


# A request may hold 1000 metrics, parameters and tags together.
_METRICS_PER_REQUEST = 700


def log_step_values(run: StepRun, run_id: str, tags: Mapping[str, str], rest: MlflowRest) -> None:
    """Send parameters, metrics and tags: one request, and another for every further 100 of a kind.

    MLflow never changes a parameter. Where user code or autologging wrote another value under the same
    name, theirs stays, and ours becomes `step.<name>`.
    """
    parameters = flatten_parameters(mask_secrets(run.parameters))
    try:
        _log_batches(parameters, run, run_id, tags, rest)
    except MlflowRejected as error:
        if "already logged" not in str(error):
            raise
        _log_batches(_rename_conflicting(parameters, run_id, rest), run, run_id, tags, rest)


def log_end_state(run: StepRun, run_id: str, rest: MlflowRest) -> None:
    """Give a run its end state and time, and its name anew where a label came late."""
    end: dict[str, Any] = {"run_id": run_id, "status": str(run.state)}
    if run.ended is not None:
        end["end_time"] = to_milliseconds(run.ended)
    if run.label:
        end["run_name"] = run_name(run)
    rest.post("runs/update", end)


def _log_batches(
    parameters: Mapping[str, str], run: StepRun, run_id: str, tags: Mapping[str, str], rest: MlflowRest
) -> None:
    metrics = _step_metrics(run)
    parts = {
        "params": list(split_batches(key_value_entries(parameters))),
        "tags": list(split_batches(key_value_entries(tags))),
        "metrics": [
            metrics[first : first + _METRICS_PER_REQUEST] for first in range(0, len(metrics), _METRICS_PER_REQUEST)
        ],
    }
    for number in range(max(map(len, parts.values()))):
        body = {kind: part[number] for kind, part in parts.items() if number < len(part)}
        rest.post("runs/log-batch", {"run_id": run_id, **body})


def _step_metrics(run: StepRun) -> list[dict[str, Any]]:
    ended = run.started if run.ended is None else run.ended
    values = {"zen.seconds": round(ended - run.started, 3)}
    if not run.is_hit and run.outputs:
        values["zen.output_bytes"] = float(sum(ref.size for ref in run.outputs.values()))
    if run.is_hit:
        values["zen.seconds_saved"] = round(seconds_saved(run), 3)
    values |= metadata_metrics(run)
    return [metric_entry(key, value, to_milliseconds(ended)) for key, value in values.items()]


def _rename_conflicting(parameters: Mapping[str, str], run_id: str, rest: MlflowRest) -> dict[str, str]:
    data = rest.get("runs/get", {"run_id": run_id})["run"]["data"]
    taken = {entry["key"]: entry.get("value", "") for entry in data.get("params", [])}
    return {name if taken.get(name, value) == value else f"step.{name}": value for name, value in parameters.items()}


# MLflow takes 1000 with one request, and some are ours; the step run record holds all.
_MAX_METRICS = 900


def metadata_metrics(run: StepRun) -> Mapping[str, float]:
    """Give the numbers: those about an artifact under its name, `table.rows_dropped`."""
    numbers = [(sanitize_key(key), float(value)) for key, value in _metadata_items(run) if _is_number(value)]
    return dict(numbers[:_MAX_METRICS])


def metadata_tags(run: StepRun) -> Mapping[str, str]:
    """Give everything else as tags."""
    texts = flatten_parameters({key: value for key, value in _metadata_items(run) if not _is_number(value)})
    return {key: shorten(text, MAX_TAG_VALUE) for key, text in texts.items()}


def log_model_metadata(run: StepRun, run_id: str, model_ids: Mapping[str, str], rest: MlflowRest) -> None:
    """Show facts about models on the pages of the models; `model_ids` by `input:<argument>` or `output:<name>`.

    A metric is linked to the run's table too where it read only one. Two requests for each model.
    """
    dataset = single_input_dataset(run)
    at = to_milliseconds(run.started if run.ended is None else run.ended)
    for about, model_id in model_ids.items():
        facts = run.metadata.get(about, {})
        numbers = [
            metric_entry(sanitize_key(key), float(value), at) for key, value in facts.items() if _is_number(value)
        ]
        texts = flatten_parameters({key: value for key, value in facts.items() if not _is_number(value)})
        if numbers:
            linked = [{**each, "model_id": model_id, **dataset} for each in numbers]
            rest.post("runs/log-batch", {"run_id": run_id, "metrics": linked})
        if texts:
            tags = key_value_entries({key: shorten(text, MAX_TAG_VALUE) for key, text in texts.items()})[
                :MAX_BATCH_ENTRIES
            ]
            rest.patch(f"logged-models/{model_id}/tags", {"model_id": model_id, "tags": tags})


def single_input_dataset(run: StepRun) -> dict[str, str]:
    """Name the one table the run read; nothing where there are several, for nobody knows which was meant."""
    tables: dict[str, ArtifactRef] = {ref.digest: ref for ref in run.inputs.values() if not is_mlflow_model(ref)}
    if len(tables) != 1:
        return {}
    (ref,) = tables.values()
    return {"dataset_name": dataset_name(ref), "dataset_digest": short_digest(ref.digest)}


def _metadata_items(run: StepRun) -> Iterator[tuple[str, Any]]:
    for about, facts in run.metadata.items():
        name = about.partition(":")[2]
        for key, value in facts.items():
            yield f"{name}.{key}" if name else key, value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
