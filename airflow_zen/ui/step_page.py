"""The page of a task instance: what it read and made, why it ran, and what it used."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity

from airflow_zen.caching.step_cache import KeyRecord, changed_ingredients, nearest_record, text_diff
from airflow_zen.errors import ZenError
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.ui.airflow_runs import read_dag_run
from airflow_zen.ui.facts import (
    artifact_facts,
    bounded,
    group_of,
    key_of_origin,
    output_facts,
    resources_of,
    run_key,
    seconds_of,
    shorten,
    state_of,
    visible_run,
)
from airflow_zen.ui.responses import ArtifactFacts, KeyChange, KeyDiff, Link, RunKey, StepPage, StepRow
from airflow_zen.ui.run_page import RunSnapshot, instance_row
from airflow_zen.ui.step_metrics import StepMetrics, read_step_metrics

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.ui.access import Access
    from airflow_zen.ui.airflow_runs import DagRunState, InstanceState
    from airflow_zen.ui.stacks import DagRunRecords, OpenedStack

# Characters.
_MAX_DIFF = 1_000_000
_MAX_SHOWN_KEYS = 500


def step_page(opened: OpenedStack, key: RunKey, access: Access) -> StepPage | None:
    """Return the page of a task instance; None where neither Airflow nor the store has it."""
    airflow = read_dag_run(key.dag_id, key.run_id, [key.task_id, group_of(key.task_id)])
    records = opened.dag_run(key.dag_id, key.run_id)
    shared = _shared_instances(records, airflow, access)
    own = {each.task_id: each for each in airflow.instances if each.map_index == key.map_index}
    tries = {run.id.try_number: visible_run(run, access) for run in records.tries(key.task_id, key.map_index)}
    run = tries.get(key.try_number or max(tries, default=0))
    waiting = shared.instances.get((key.task_id, key.map_index)) if shared else None
    instance = waiting or own.get(key.task_id)
    if run and instance and instance.is_batch:
        instance = None
    if run is None and instance is None:
        return None
    task = own.get(key.task_id) or own.get(group_of(key.task_id))
    in_batches = any(each.is_batch for each in airflow.instances)
    has_task = task and not in_batches and (task.task_id == key.task_id or task.is_group)
    is_latest = key.try_number in (0, max(tries, default=0))
    state = state_of(run, instance if is_latest or run is None else None)
    page = StepPage(
        key=run_key(run.id) if run else key,
        recorded=run is not None,
        state=state,
        live=bool(instance and not instance.has_ended),
        tries=sorted(tries),
        in_batches=in_batches,
        instance=key.model_copy(update={"task_id": task.task_id, "try_number": 0}) if task and has_task else None,
        parts=_parts(key, shared, access) if shared and instance and instance.is_group else [],
    )
    return _with_record(page, run, records, opened, access) if run else _with_times(page, instance)


def _shared_instances(records: DagRunRecords, airflow: DagRunState, access: Access) -> RunSnapshot | None:
    """Return the steps that share task instances with others; None where the task is neither a batch nor a fused group."""
    is_shared = any(each.is_batch or each.is_group for each in airflow.instances)
    return RunSnapshot.of(records, airflow, access) if is_shared else None


def _parts(group: RunKey, snapshot: RunSnapshot, access: Access) -> list[StepRow]:
    """Return the rows of the steps of a fused group, in their order."""
    found = [
        each
        for each in {**snapshot.runs, **snapshot.instances}
        if (group_of(each[0]), each[1]) == (group.task_id, group.map_index)
    ]
    return [instance_row(snapshot, each, access) for each in sorted(found, key=snapshot.started)]


def find_ref(run: StepRun, side: str, argument: str) -> ArtifactRef | None:
    """Return the ref of one of the `inputs` or `outputs` of a step run; None where it has no such argument."""
    found: Mapping[str, ArtifactRef] = run.inputs if side == "inputs" else run.outputs
    return found.get(argument)


def input_facts(run: StepRun, records: DagRunRecords, opened: OpenedStack, access: Access) -> list[ArtifactFacts]:
    """Return the facts of what a step run read, with the runs that made it. records: of its DAG run."""
    made = _outputs_of(records.latest) if run.inputs else {}
    return [_input_facts(name, ref, made, opened, access) for name, ref in run.inputs.items()]


def _with_times(page: StepPage, instance: InstanceState | None) -> StepPage:
    if instance is None:
        return page
    return page.model_copy(update={"started": instance.started, "ended": instance.ended})


def _with_record(page: StepPage, run: StepRun, records: DagRunRecords, opened: OpenedStack, access: Access) -> StepPage:
    """Return the page with what the record says."""
    may_read_code = access.may_read(run.id.dag_id, DagAccessEntity.CODE)
    inputs = input_facts(run, records, opened, access)
    metrics = read_step_metrics(opened, run)
    return page.model_copy(
        update={
            "label": run.label,
            "cache": str(run.cache),
            "why": shorten(run.why),
            "error": shorten(run.error),
            "origin": key_of_origin(run.origin, access),
            "started": run.started,
            "ended": run.ended,
            "seconds": seconds_of(run),
            "seconds_saved": run.seconds_saved,
            "parameters": bounded(run.parameters),
            "selected": bounded(run.selected),
            "inputs": inputs,
            "outputs": output_facts(run, access),
            "metrics": metrics.values,
            "metadata": bounded(run.facts),
            "resources": resources_of(run),
            "key_diff": key_diff(run, opened, access, with_source=may_read_code),
            "producers": _unique(each.producer for each in inputs),
            "consumers": _consumers(run, records, opened, access),
            "links": [*_links(run, metrics)],
            "source": shorten(run.source) if may_read_code else "",
            "owner": shorten(run.owner, 300),
            "code_version": shorten(run.code_version, 300),
        }
    )


def key_diff(run: StepRun, opened: OpenedStack, access: Access, *, with_source: bool) -> KeyDiff | None:
    """Return how the cache key of a computed step run differs from the most similar other one; None for a reused one.

    The other one is earlier, as far as the task's latest keys tell. with_source: with the differences of the texts behind the fingerprints, which are code and values.
    """
    if run.is_hit or run.cache is CacheState.OFF or not run.cache_key:
        return None
    now, others = _key_and_others(run, opened)
    if now is None:
        return None
    before = nearest_record(now.ingredients, others)
    if before is None:
        return KeyDiff(compared_with=None, compared_text="", changes=[*_first_key(now, with_source=with_source)])
    changes = [
        KeyChange(
            label=label,
            before=shorten(old, 200),
            after=shorten(new, 200),
            diff=[*_text_lines(label, before, now)] if with_source else [],
        )
        for label, old, new in changed_ingredients(now.ingredients, before.ingredients)
    ]
    compared = key_of_origin(before.origin, access)
    return KeyDiff(compared_with=compared, compared_text=before.origin if compared else "", changes=changes)


def _text_lines(label: str, before: KeyRecord, now: KeyRecord) -> Iterator[str]:
    """Yield the differences of the texts behind an ingredient, where the text of each that has it is known."""
    known = all(label in each.sources or label not in each.ingredients for each in (before, now))
    left = _MAX_DIFF
    for line in text_diff(label, before, now) if known else ():
        yield shorten(line, left)
        left -= len(line)
        if left <= 0:
            return


def _key_and_others(run: StepRun, opened: OpenedStack) -> tuple[KeyRecord | None, list[KeyRecord]]:
    """Return the key of a run, and the keys to compare it with: those before it among the task's latest, else all of these."""
    history = opened.stack.cache.history.recent_records(run.id.dag_id, run.id.task_id)
    for number, each in enumerate(history):
        if each.key == run.cache_key:
            return each, history[number + 1 :]
    entry = opened.stack.cache.get(run.cache_key)
    if entry is None:
        return None, []
    texts = {f"parameter {name}": json.dumps(value, ensure_ascii=False) for name, value in run.parameters.items()}
    return KeyRecord(entry.key, entry.origin, entry.ingredients, texts), history


def _first_key(now: KeyRecord, *, with_source: bool) -> Iterator[KeyChange]:
    for label, fingerprint in sorted(now.ingredients.items())[:_MAX_SHOWN_KEYS]:
        text = now.sources.get(label, "") if with_source and label.startswith("parameter ") else ""
        yield KeyChange(label=label, before="", after=shorten(text or fingerprint, 200))


def _outputs_of(runs: Iterable[StepRun]) -> dict[tuple[str, str], StepRunId]:
    return {(ref.name, ref.digest): run.id for run in runs for ref in run.outputs.values()}


def _input_facts(
    argument: str, ref: ArtifactRef, made: Mapping[tuple[str, str], StepRunId], opened: OpenedStack, access: Access
) -> ArtifactFacts:
    """Return the facts of an input: made in this DAG run, else by the origin of its version, whose DAG is asked about."""
    if maker := made.get((ref.name, ref.digest)):
        return artifact_facts(argument, ref, run_key(maker))
    origin = ref.origin or _origin_of_version(ref, opened)
    producer = key_of_origin(origin, access)
    return artifact_facts(argument, ref, producer, is_readable=access.may_read_origin(origin))


def _origin_of_version(ref: ArtifactRef, opened: OpenedStack) -> str:
    with suppress(ZenError):
        if ref.name:
            return opened.names.get(ref.name, ref.digest).origin
    return ""


def _consumers(run: StepRun, records: DagRunRecords, opened: OpenedStack, access: Access) -> list[RunKey]:
    """Return the step runs that read an output: those of the DAG run, and of other DAGs, as MLflow knows them."""
    digests = {ref.digest for ref in run.outputs.values()}
    if not digests:
        return []
    here = [run_key(each.id) for each in records.latest if any(ref.digest in digests for ref in each.inputs.values())]
    # MLflow does not say which instances of a mapped step they are, and of this DAG run all are known.
    known = _consumers_in_mlflow(digests, opened, access)
    elsewhere = [each for each in known if (each.dag_id, each.run_id) != (run.id.dag_id, run.id.run_id)]
    return _unique([*here, *elsewhere])


def _consumers_in_mlflow(digests: set[str], opened: OpenedStack, access: Access) -> Iterator[RunKey]:
    from airflow_zen.lineage.ancestry import runs_that_read

    if opened.mlflow is None:
        return
    with suppress(ZenError):
        for digest in sorted(digests)[:5]:
            for found in runs_that_read(digest, opened.mlflow)[:50]:
                if access.may_read(found.dag_id):
                    yield RunKey(dag_id=found.dag_id, run_id=found.dag_run_id, task_id=found.task_id)


def _unique(keys: Iterable[RunKey | None]) -> list[RunKey]:
    found = {(key.dag_id, key.run_id, key.task_id, max(key.map_index, -1)): key for key in keys if key}
    return list(found.values())


def _links(run: StepRun, metrics: StepMetrics) -> Iterator[Link]:
    if metrics.url:
        yield Link(text="MLflow run", url=metrics.url, external=True)
    if run.log_url.startswith(("http://", "https://")):
        yield Link(text="Log", url=run.log_url, external=True)
