"""Show in MLflow what user code noted about a step, its artifacts and its models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.lineage.datasets import dataset_name
from airflow_zen.lineage.limits import MAX_BATCH_ENTRIES, MAX_TAG_VALUE, short_digest, shorten
from airflow_zen.lineage.metrics import metric_entry, to_milliseconds
from airflow_zen.lineage.models import is_mlflow_model
from airflow_zen.lineage.parameters import flatten_parameters, key_value_entries, sanitize_key
from airflow_zen.lineage.rest import MlflowRest
from airflow_zen.lineage.step_run import StepRun

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
