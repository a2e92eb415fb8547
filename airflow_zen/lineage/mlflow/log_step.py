"""The requests that log a step run in MLflow, built by pure functions, and the function that sends them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.lineage.mlflow.datasets import dataset_inputs, dataset_name, is_mlflow_model
from airflow_zen.lineage.mlflow.encoding import (
    MAX_BATCH_ENTRIES,
    MAX_TAG_VALUE,
    chunks,
    flatten_parameters,
    key_values,
    metric_entries,
    sanitize_key,
    short_digest,
    shorten,
    split_batches,
    to_milliseconds,
)
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.lineage.mlflow.offline.outbox import Request
from airflow_zen.lineage.mlflow.tags import run_name
from airflow_zen.runs.step_run import RANK_SAMPLES, StepRun

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.mlflow.dag_runs import MlflowDagRun
    from airflow_zen.lineage.mlflow.models import LoggedModels
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.runs.step_run import ResourceUsage

# What the databases of MLflow call a row that is there already.
_DUPLICATE = "IntegrityError|UniqueViolation|Duplicate entry"
_RANK_METRIC = re.compile(r"system/rank_\d+/\w+")
_LOG_BATCH, OUTPUTS = "runs/log-batch", "runs/outputs"

# MLflow accepts 1000 datasets, but may need longer for them than we wait for an answer.
_DATASETS_PER_REQUEST = 200

# A request may contain 1000 metrics, parameters and tags in total.
_METRICS_PER_REQUEST = 700

# MLflow accepts 1000 for a run, and some are ours; the step run record has all of them.
_MAX_METRICS = 900


class PrefetchResult(msgspec.Struct, frozen=True):
    """Summaries of other steps' artifacts and model ids in MLflow, by digest; the tags and parameters already sent."""

    summaries: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    model_ids: Mapping[str, str] = msgspec.field(default_factory=dict)
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    has_parameters: bool = False


def send(requests: Iterable[Request], rest: MlflowRest) -> None:
    """Send requests in order.

    MLflow never changes a parameter. Where user code logged another value under the same name, our parameter becomes
    `step.<name>`. An output that is listed already is not an error.
    """
    for request in requests:
        try:
            rest.request(request.method, request.path, request.body)
        except MlflowRejected as error:
            if request.body.get("params") and "already logged" in str(error):
                rest.post(request.path, _with_renamed_parameters(request.body, rest))
            elif request.path != OUTPUTS or not re.search(_DUPLICATE, str(error)):
                raise


def parameter_requests(
    parameters: Mapping[str, Any], run_id: str, tags: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Request]:
    """Yield requests with parameters and tags; one for every 100 of a kind."""
    batches = split_batches(key_values(flatten_parameters(parameters))), split_batches(key_values(tags))
    for some, others in zip_longest(*batches, fillvalue=()):
        kinds = {"params": some, "tags": others}
        yield Request("POST", _LOG_BATCH, {"run_id": run_id, **{kind: held for kind, held in kinds.items() if held}})


def value_requests(
    run: StepRun, run_id: str, tags: Mapping[str, str], has_parameters: bool = False
) -> Iterator[Request]:
    """Yield requests with parameters, metrics and tags: one, and another for every further 100 of a kind.

    has_parameters: whether MLflow has the parameters already.
    """
    parameters = {} if has_parameters else flatten_parameters(run.parameters)
    metrics = [*metric_entries(_step_metrics(run), run.end_time), *_reported(run), *_rank_samples(run)]
    for batches in zip_longest(
        split_batches(key_values(parameters)),
        split_batches(key_values(tags)),
        chunks(metrics, _METRICS_PER_REQUEST),
        fillvalue=(),
    ):
        yield Request(
            "POST", _LOG_BATCH, {"run_id": run_id, **dict(zip(("params", "tags", "metrics"), batches, strict=True))}
        )


def dataset_requests(run: StepRun, run_id: str, prefetched: PrefetchResult) -> Iterator[Request]:
    """Yield requests that attach all inputs, and all outputs that are not models; one for every 200 of them.

    A model that this MLflow does not have is attached as a dataset, so that no artifact is missing.
    """
    known = prefetched.model_ids
    inputs = [ref for ref in run.inputs.values() if ref.digest not in known]
    outputs = [
        ref for ref in run.outputs.values() if not is_mlflow_model(ref) or (run.is_hit and ref.digest not in known)
    ]
    listed = dataset_inputs(inputs, outputs, {**prefetched.summaries, **run.summaries})
    models = dict.fromkeys(known[ref.digest] for ref in run.inputs.values() if ref.digest in known)
    body = {"run_id": run_id, "models": [{"model_id": model_id} for model_id in models]}
    for part in [*chunks(listed, _DATASETS_PER_REQUEST)] or [[]] * bool(models):
        yield Request("POST", "runs/log-inputs", {**body, "datasets": part})


def model_metadata_requests(run: StepRun, run_id: str, model_ids: Mapping[str, str]) -> Iterator[Request]:
    """Yield requests that show metadata about models on the models' pages; two for each model.

    model_ids: by `input:<argument>` or `output:<name>`.
    """
    for subject, model_id in model_ids.items():
        facts = run.metadata.get(subject, {}).items()
        metrics, tags = _metadata_metrics(facts), key_values(_metadata_tags(facts))[:MAX_BATCH_ENTRIES]
        if metrics:
            yield model_metric_request(run, run_id, model_id, metric_entries(metrics, run.end_time))
        if tags:
            body = {"model_id": model_id, "tags": tags}
            yield Request("PATCH", f"logged-models/{model_id}/tags", body)


def model_metric_request(run: StepRun, run_id: str, model_id: str, metrics: Iterable[Mapping[str, Any]]) -> Request:
    """Return the request that links metrics to a model, and to the run's input table if there is exactly one."""
    tables = {ref.digest: ref for ref in run.inputs.values() if not is_mlflow_model(ref)}
    dataset = {}
    if len(tables) == 1:
        (ref,) = tables.values()
        dataset = {"dataset_name": dataset_name(ref), "dataset_digest": short_digest(ref.digest)}
    linked = [{**metric, "model_id": model_id, **dataset} for metric in metrics]
    return Request("POST", _LOG_BATCH, {"run_id": run_id, "metrics": linked})


def end_request(run: StepRun, run_id: str) -> Request:
    """Return the request with the end state and time, and the name if a label or a cache hit changes it."""
    body: dict[str, Any] = {"run_id": run_id, "status": str(run.state)}
    if run.ended is not None:
        body["end_time"] = to_milliseconds(run.ended)
    if run.label or run.is_hit:
        body["run_name"] = run_name(run)
    return Request("POST", "runs/update", body)


def metadata_tags(run: StepRun) -> Mapping[str, str]:
    """Return the metadata that are not numbers, as tags."""
    return _metadata_tags(_metadata_items(run))


def link_model_metrics(dag_run: MlflowDagRun, runs: Sequence[StepRun], models: LoggedModels) -> None:
    """Link the metrics that user code logged in each step to the one model that the step read, else to the one it created.

    Where the DAG run has several logged models of that content, as after a step that registers the model, each gets the
    metrics. This is done when the DAG run has ended, so that no task waits for it; repeating it changes nothing. A step
    with several models uses `log_metadata` to say which model its metrics are about.
    """
    for run in runs:
        for request in _link_requests(dag_run, run, models):
            _send_links(request.body, models.rest)


def _send_links(body: Mapping[str, Any], rest: MlflowRest) -> None:
    """Link metrics to a model, except those that user code has linked itself: MLflow rejects a second link."""
    try:
        rest.post(_LOG_BATCH, body)
    except MlflowRejected as error:
        if not re.search(_DUPLICATE, str(error)):
            raise
        for metric in body["metrics"] if len(body["metrics"]) > 1 else ():
            _send_links({**body, "metrics": [metric]}, rest)


def _with_renamed_parameters(body: Mapping[str, Any], rest: MlflowRest) -> dict[str, Any]:
    data = rest.get("runs/get", {"run_id": body["run_id"]})["run"]["data"]
    taken = {entry["key"]: entry.get("value", "") for entry in data.get("params", [])}
    renamed = [
        entry if taken.get(entry["key"], entry["value"]) == entry["value"] else {**entry, "key": f"step.{entry['key']}"}
        for entry in body["params"]
    ]
    return {**body, "params": renamed}


def _step_metrics(run: StepRun) -> dict[str, float]:
    metrics = {"zen.seconds": round(run.end_time - run.started, 3)}
    if run.is_hit:
        metrics["zen.seconds_saved"] = round(run.seconds_saved, 3)
    elif run.outputs:
        metrics["zen.output_bytes"] = float(sum(ref.size for ref in run.outputs.values()))
    metrics |= _resource_metrics(run.resources)
    own = dict([*_metadata_metrics(_metadata_items(run)).items()][:_MAX_METRICS])
    # The step's own come first: where MLflow compares runs, it begins with the first metric.
    return own | metrics | own


def _resource_metrics(used: ResourceUsage) -> dict[str, float]:
    """Return what a step used; MLflow shows metrics whose names begin with `system/` on a tab of their own."""
    if not used.is_known:
        return {}
    megabytes = {
        "peak_memory": used.peak_memory,
        "memory_limit": used.memory_limit,
        "gpu_peak_memory": used.gpu_memory,
        "read": used.read_bytes,
        "written": used.written_bytes,
    }
    found = {f"system/{name}_megabytes": round(size / 1e6, 3) for name, size in megabytes.items() if size}
    return found | {"system/cpu_seconds": used.cpu_seconds}


def _metadata_items(run: StepRun) -> Iterator[tuple[str, Any]]:
    """Yield the metadata by name; the name of metadata about an artifact includes it, such as `table.rows_dropped`."""
    for subject, facts in run.facts.items():
        kind, _, name = subject.partition(":")
        if kind == "trial":
            # What is reported is a curve, and that the trial is pruned a tag.
            yield from facts.items() if name == "metrics" else ()
            continue
        for key, value in facts.items():
            yield f"{name}.{key}" if name else key, value


def _metadata_metrics(facts: Iterable[tuple[str, Any]]) -> dict[str, float]:
    return {_metric_key(key): float(value) for key, value in facts if _is_number(value)}


def _metric_key(name: str) -> str:
    """Return a name that MLflow allows; those of ranks keep their slashes, by which they are on the tab of system metrics."""
    return name if _RANK_METRIC.fullmatch(name) else sanitize_key(name)


def _metadata_tags(facts: Iterable[tuple[str, Any]]) -> dict[str, str]:
    texts = flatten_parameters({key: value for key, value in facts if not _is_number(value)})
    return {key: shorten(text, MAX_TAG_VALUE) for key, text in texts.items()}


def _reported(run: StepRun) -> Iterator[dict[str, Any]]:
    """Yield the curve of what a trial reported: `<metric>.reported`, or `reported` of a sweep without a metric."""
    key = sanitize_key(".".join(filter(None, [run.sweep.get("metric", ""), "reported"])))
    for step, value in run.metadata.get("trial:reports", {}).items():
        yield {**metric_entries({key: float(value)}, run.end_time)[0], "step": int(step)}


def _rank_samples(run: StepRun) -> Iterator[dict[str, Any]]:
    """Yield the curves of what the processes used that ran the step together."""
    for key, samples in run.metadata.get(RANK_SAMPLES, {}).items():
        for number, (milliseconds, value) in enumerate(samples):
            yield {"key": _metric_key(key), "value": value, "timestamp": int(milliseconds), "step": number}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _link_requests(dag_run: MlflowDagRun, run: StepRun, models: LoggedModels) -> Iterator[Request]:
    # Metrics that are neither ours nor metadata about an artifact.
    others = ("zen.", "system/", *(f"{name}." for subject in run.metadata if (name := subject.partition(":")[2])))
    logged = dag_run.steps.get(run.id, {}).get("data", {}).get("metrics", [])
    ref, metrics = _single_model(run), [metric for metric in logged if not metric["key"].startswith(others)]
    if ref is None or not metrics:
        return
    run_id = dag_run.steps[run.id]["info"]["run_id"]
    model_ids: Sequence[str | None] = dag_run.models.get(ref.digest, ())
    for model_id in model_ids or [models.find_model_id(ref, run, dag_run.experiment_id)]:
        if model_id:
            yield model_metric_request(run, run_id, model_id, metrics)


def _single_model(run: StepRun) -> ArtifactRef | None:
    """Return the one model that a step's metrics are about; None for a hit, whose function was not called.

    If there are several inputs, it is the parameter `model`.
    """
    for refs in (run.inputs, run.outputs):
        found = {ref.digest: ref for ref in refs.values() if is_mlflow_model(ref)}
        if found:
            named = refs.get("model") if refs is run.inputs and len(found) > 1 else None
            only = next(iter(found.values())) if len(found) == 1 else named if named in found.values() else None
            return None if run.is_hit else only
    return None
