"""The catalogue: named artifacts that the user may see, their versions, lineage over DAGs, and their storage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from airflow_zen.artifacts.diff import diff_manifests
from airflow_zen.errors import ArtifactNotFound, LineageError
from airflow_zen.lineage.mlflow.datasets import is_mlflow_model
from airflow_zen.transports.base import map_in_parallel
from airflow_zen.ui.access import not_found
from airflow_zen.ui.artifact_page import artifact_page
from airflow_zen.ui.catalogue_lineage import lineage_graph
from airflow_zen.ui.catalogue_responses import (
    ArtifactComparison,
    CataloguePage,
    CatalogueRow,
    LineagePage,
    NamedArtifactPage,
    StoragePage,
    StorageRow,
)
from airflow_zen.ui.dag_page import difference
from airflow_zen.ui.facts import artifact_facts, bounded, key_of_origin, shorten

if TYPE_CHECKING:
    from airflow_zen.artifacts.named_artifacts import VersionTag
    from airflow_zen.artifacts.ref import ArtifactVersion
    from airflow_zen.ui.access import Access
    from airflow_zen.ui.stacks import OpenedStack

_MAX_VERSIONS = 100
_MAX_NAMES = 500


def catalogue_page(
    opened: OpenedStack, access: Access, search: str, tag: str, offset: int, limit: int
) -> CataloguePage:
    """Return the newest version of each name, or all versions that have a tag, whose name or type contains `search`."""
    names = opened.names
    found = names.tagged_versions(tag) if tag else names.newest_versions()
    visible = [each for each in found if _matches(each, search.lower()) and access.may_read_origin(each.origin)]
    marks = names.list_tags()
    known = {each.name for each in visible}
    return CataloguePage(
        total=len(visible),
        artifacts=[_row(each, marks, access) for each in visible[offset : offset + limit]],
        tags=sorted({mark.tag for mark in marks if mark.name in known}),
    )


def _matches(version: ArtifactVersion, wanted: str) -> bool:
    return wanted in version.name.lower() or wanted in version.ref.type.lower()


def find_version(opened: OpenedStack, name: str, version: str, access: Access) -> ArtifactVersion:
    """Return a version that the user may see; any other is answered as what does not exist."""
    try:
        found = opened.names.get(name, version)
    except ArtifactNotFound:
        # Its text suggests similar names and tags, which may be of DAGs that the user may not see.
        raise not_found() from None
    if not access.may_read_origin(found.origin):
        raise not_found()
    return found


def named_artifact_page(opened: OpenedStack, version: ArtifactVersion, access: Access, route: str) -> NamedArtifactPage:
    """Return one version in full, with the others of its name. route: where its previews and files are."""
    marks = opened.names.list_tags(name=version.name)
    versions = opened.names.versions(version.name, _MAX_VERSIONS + 1)
    facts = artifact_facts("", version.ref, key_of_origin(version.origin, access))
    facts = facts.model_copy(update={"version": version.version})
    query = {"name": version.name, "version": version.version}
    return NamedArtifactPage(
        row=_row(version, marks, access),
        page=artifact_page(opened, facts, version.ref, route, query),
        versions=[
            _row(each, marks, access) for each in versions[:_MAX_VERSIONS] if access.may_read_origin(each.origin)
        ],
        more=len(versions) > _MAX_VERSIONS,
    )


def compare_versions(
    opened: OpenedStack, before: ArtifactVersion, after: ArtifactVersion, access: Access
) -> ArtifactComparison:
    """Return the differences between two versions, from their manifests."""
    found = diff_manifests(*(opened.manifest(each.ref) for each in (before, after)))
    marks = opened.names.list_tags(name=after.name)
    return ArtifactComparison(
        same=found.same,
        before=_row(before, marks, access),
        after=_row(after, marks, access),
        differences=[difference(change) for change in found.changes],
    )


def lineage_page(opened: OpenedStack, version: ArtifactVersion, access: Access) -> LineagePage:
    """Return the step runs that a version was made by, over all DAGs, and those that read it."""
    from airflow_zen.lineage.ancestry import find_relatives
    from airflow_zen.lineage.found_runs import FoundArtifact
    from airflow_zen.lineage.mlflow.encoding import short_digest

    error = ""
    try:
        relatives = find_relatives(version, opened.names, opened.stack.records, opened.mlflow)
    except LineageError as unavailable:
        error = f"Readers in other DAG runs are not shown: {unavailable}"
        relatives = find_relatives(version, opened.names, opened.stack.records, None)
    runs = [*relatives.upstream, *relatives.downstream]
    visible = [run for run in runs if access.may_read(run.dag_id)]
    nodes, edges = lineage_graph(visible, FoundArtifact(version.name, short_digest(version.ref.digest)))
    return LineagePage(nodes=nodes, edges=edges, hidden=len(runs) - len(visible), error=error)


def storage_page(opened: OpenedStack, access: Access) -> StoragePage:
    """Return the versions and bytes of each name, the largest first; of the first names, and of their newest versions."""
    names = opened.names
    visible = [each for each in names.newest_versions() if access.may_read_origin(each.origin)]
    newest = visible[:_MAX_NAMES]
    found = [*map_in_parallel(lambda each: names.versions(each.name, _MAX_VERSIONS + 1), newest)]
    longer = {each.name for each, versions in zip(newest, found, strict=True) if len(versions) > _MAX_VERSIONS}
    by_name = {
        each.name: [version for version in versions[:_MAX_VERSIONS] if access.may_read_origin(version.origin)]
        for each, versions in zip(newest, found, strict=True)
    }
    sizes = {version.ref.digest: version.ref.size for versions in by_name.values() for version in versions}
    rows = [_storage_row(name, versions, name in longer) for name, versions in by_name.items()]
    return StoragePage(
        artifacts=len(sizes),
        size=sum(sizes.values()),
        rows=sorted(rows, key=lambda row: -row.size),
        more=len(visible) > _MAX_NAMES,
        root=opened.stack.store.root,
    )


def _storage_row(name: str, versions: Sequence[ArtifactVersion], more: bool) -> StorageRow:
    sizes = {version.ref.digest: version.ref.size for version in versions}
    dag_id = versions[0].origin.partition("/")[0] if versions else ""
    return StorageRow(
        name=name,
        dag_id=dag_id,
        versions=len(versions),
        artifacts=len(sizes),
        size=sum(sizes.values()),
        more=more,
    )


def _row(version: ArtifactVersion, marks: Iterable[VersionTag], access: Access) -> CatalogueRow:
    return CatalogueRow(
        name=version.name,
        version=version.version,
        created=version.created,
        type=version.ref.type,
        shape=shorten(version.ref.shape, 300),
        size=version.ref.size,
        digest=version.ref.digest,
        tags=sorted({mark.tag for mark in marks if (mark.name, mark.version) == (version.name, version.version)}),
        metadata=bounded(version.metadata),
        is_model=is_mlflow_model(version.ref),
        producer=key_of_origin(version.origin, access),
    )
