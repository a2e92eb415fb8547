"""The page of a DAG: its runs, two of them side by side, and the versions of its artifacts over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.diff import FieldChange, diff_manifests
from airflow_zen.errors import ZenError
from airflow_zen.lineage.graph.model import displayed_state
from airflow_zen.lineage.savings import RunTotalsReader, totals_of_dag_run
from airflow_zen.runs.step_run import StepRun
from airflow_zen.transports.base import map_in_parallel
from airflow_zen.ui.artifact_page import rows_of
from airflow_zen.ui.dag_responses import (
    DagArtifacts,
    DagRunList,
    DagRunRow,
    Difference,
    RunComparison,
    StepComparison,
    VersionPoint,
    VersionSeries,
)
from airflow_zen.ui.facts import bounded, is_number, key_of_origin, seconds_of, shorten, visible_run
from airflow_zen.ui.responses import Totals
from airflow_zen.ui.run_page import step_row
from airflow_zen.ui.step_metrics import StepMetrics, read_version_metrics

if TYPE_CHECKING:
    from airflow_zen.artifacts.folder import Manifest
    from airflow_zen.artifacts.named_artifacts import VersionTag
    from airflow_zen.artifacts.ref import ArtifactVersion
    from airflow_zen.lineage.savings import RunTotals
    from airflow_zen.ui.access import Access
    from airflow_zen.ui.stacks import OpenedStack

_MAX_SERIES = 60
_MAX_CHANGES = 20
_MAX_COMPARED = 2000


def list_runs(opened: OpenedStack, dag_id: str, limit: int) -> DagRunList:
    """Return the DAG runs that have records, those with the newest records first."""
    reader = RunTotalsReader(opened.stack.store.transport)
    found = sorted(reader.read(dag_id, limit=limit), key=lambda each: each.ended, reverse=True)
    return DagRunList(dag_id=dag_id, runs=[*map(_run_row, found)])


def list_artifacts(opened: OpenedStack, dag_id: str, access: Access, limit: int) -> DagArtifacts:
    """Return the versions over time of the names that the DAG's steps gave; of mapped instances none."""
    tags = opened.names.list_tags()
    found_names = _names(opened, dag_id)
    names = sorted(found_names[:_MAX_SERIES])
    versions = [*map_in_parallel(lambda name: opened.names.versions(name, limit + 1), names)]
    logged = read_version_metrics(opened, dag_id, (each.origin for found in versions for each in found))
    series = map_in_parallel(
        lambda each: _series(opened, *each, access, tags, limit, logged), zip(names, versions, strict=True)
    )
    shown = [each for each in series if each.points]
    return DagArtifacts(dag_id=dag_id, series=shown, more=len(found_names) > _MAX_SERIES)


def compare_runs(opened: OpenedStack, dag_id: str, before: str, after: str, access: Access) -> RunComparison | None:
    """Return two DAG runs side by side; None where one of them has no record."""
    sides = [
        {(run.id.task_id, run.id.map_index): visible_run(run, access) for run in opened.dag_run(dag_id, id_).latest}
        for id_ in (before, after)
    ]
    old, new = sides
    if not (old and new):
        return None
    began = {task: run.started for (task, _), run in sorted({**old, **new}.items(), key=lambda each: -each[1].started)}
    instances = sorted({*old, *new}, key=lambda each: (began[each[0]], each))[:_MAX_COMPARED]
    return RunComparison(
        dag_id=dag_id,
        before=_run_row(totals_of_dag_run(dag_id, before, old.values())),
        after=_run_row(totals_of_dag_run(dag_id, after, new.values())),
        steps=[_compare_steps(*each, old.get(each), new.get(each), access) for each in instances],
    )


def difference(change: FieldChange) -> Difference:
    """Return a change between two manifests as an answer."""
    subject = f"column {shorten(change.column, 300)}" if change.column else ""
    return Difference(subject=subject, fact=change.fact, before=bounded(change.before), after=bounded(change.after))


def _run_row(found: RunTotals) -> DagRunRow:
    return DagRunRow(run_id=found.run_id, ended=found.ended, totals=Totals.model_validate(found))


def _names(opened: OpenedStack, dag_id: str) -> list[str]:
    """Return the names of the artifacts of the DAG's latest run, then the others that begin with the DAG's name."""
    run_id = opened.stack.records.latest_dag_run(dag_id)
    runs = opened.dag_run(dag_id, run_id).latest if run_id else []
    newest = sorted({ref.name for run in runs for ref in run.outputs.values() if ref.name})
    # The latest run may have failed, or go on: what earlier runs made is still the DAG's.
    names = dict.fromkeys([*newest, *opened.names.list_names(f"{dag_id}/")])
    return [name for name in names if not name.endswith("]")]


def _series(
    opened: OpenedStack,
    name: str,
    found: Sequence[ArtifactVersion],
    access: Access,
    tags: Sequence[VersionTag],
    limit: int,
    logged: Mapping[str, StepMetrics],
) -> VersionSeries:
    # What another DAG made under this name is not of this page where the user may not see that DAG.
    versions = [each for each in found[:limit] if access.may_read_origin(each.origin)][::-1]
    manifests = [_manifest(opened, version) for version in versions]
    marks: dict[str, list[str]] = {}
    for mark in tags:
        if mark.name == name:
            marks.setdefault(mark.version, []).append(mark.tag)
    points = [
        _point(
            version, manifest, before, marks.get(version.version, []), access, logged.get(version.origin, StepMetrics())
        )
        for version, manifest, before in zip(versions, manifests, [None, *manifests], strict=False)
    ]
    return VersionSeries(name=name, points=points, more=len(found) > limit)


def _manifest(opened: OpenedStack, version: ArtifactVersion) -> Manifest | None:
    """Return a version's manifest; None where its content is gone."""
    with suppress(ZenError):
        return opened.manifest(version.ref)
    return None


def _point(
    version: ArtifactVersion,
    manifest: Manifest | None,
    before: Manifest | None,
    tags: Sequence[str],
    access: Access,
    logged: StepMetrics,
) -> VersionPoint:
    numbers = {name: float(value) for name, value in version.metadata.items() if is_number(value)}
    return VersionPoint(
        version=version.version,
        created=version.created,
        digest=version.ref.digest,
        size=version.ref.size,
        rows=rows_of(manifest) if manifest else None,
        shape=shorten(version.ref.shape, 300),
        producer=key_of_origin(version.origin, access),
        changes=[*_schema_changes(before, manifest)] if before and manifest else [],
        metrics={**logged.values, **numbers},
        tags=[*tags],
    )


def _schema_changes(before: Manifest, after: Manifest) -> Iterator[str]:
    """Yield the changes of columns and of the type as sentences."""
    changes = [each for each in diff_manifests(before, after).changes if each.fact in ("type", "column")]
    for change in changes[:_MAX_CHANGES]:
        what = f"column {shorten(change.column, 100)!r}" if change.column else "the type"
        if change.before is None:
            yield f"{what} is new ({change.after})"
        elif change.after is None:
            yield f"{what} was removed"
        else:
            yield f"{what}: {change.before} → {change.after}"


def _compare_steps(
    task_id: str, map_index: int, before: StepRun | None, after: StepRun | None, access: Access
) -> StepComparison:
    rows = [step_row(run, access, displayed_state(run)) if run else None for run in (before, after)]
    differences = [*_differences(before, after)] if before and after else []
    digests = [{name: ref.digest for name, ref in run.outputs.items()} if run else None for run in (before, after)]
    return StepComparison(
        task_id=task_id,
        map_index=map_index,
        same_outputs=digests[0] == digests[1],
        before=rows[0],
        after=rows[1],
        differences=differences,
    )


def _differences(before: StepRun, after: StepRun) -> Iterator[Difference]:
    """Yield the parameters, inputs, outputs and numbers of the metadata that differ, and the time that a step took."""
    yield from _changed("parameter", "value", before.parameters, after.parameters)
    for kind, old, new in (("input", before.inputs, after.inputs), ("output", before.outputs, after.outputs)):
        yield from _changed(kind, "digest", *({name: ref.digest for name, ref in refs.items()} for refs in (old, new)))
        yield from _changed(kind, "shape", *({name: ref.shape for name, ref in refs.items()} for refs in (old, new)))
    yield from _changed_metadata(before.facts, after.facts)
    if (old_seconds := seconds_of(before)) != (new_seconds := seconds_of(after)):
        yield Difference(subject="step", fact="seconds", before=old_seconds, after=new_seconds)


def _changed(kind: str, fact: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            before, after = bounded(old.get(name)), bounded(new.get(name))
            yield Difference(subject=f"{kind} {shorten(name, 300)}", fact=fact, before=before, after=after)


def _changed_metadata(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> Iterator[Difference]:
    """Yield the metadata that differs, of the step and of each of its outputs."""
    for subject in sorted({*old, *new}):
        for change in _changed("metadata", "", old.get(subject, {}), new.get(subject, {})):
            what = shorten(subject.replace(":", " "), 300) or "step"
            yield change.model_copy(update={"subject": what, "fact": change.subject})
