"""Find, load, compare, tag, save, register and prune artifacts in notebooks and plain tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from airflow_zen.artifacts.diff import ArtifactDiff, diff_manifests
from airflow_zen.artifacts.folder import Manifest
from airflow_zen.artifacts.reader import ArtifactReader, RangeReader
from airflow_zen.artifacts.ref import (
    LATEST,
    ArtifactFile,
    ArtifactRef,
    ArtifactVersion,
    validate_artifact_name,
    validate_tag,
)
from airflow_zen.config.model_selectors import SelectorResolver
from airflow_zen.config.settings import Settings, open_stack, settings_of_uri, tracking_server
from airflow_zen.errors import ArtifactNotFound, ArtifactRefused, MaterializerNotFound, MetadataError, SettingsError
from airflow_zen.markup import format_count, html_table, text_table
from airflow_zen.models.model import Model
from airflow_zen.steps.conversion import load_for_process, process_directory
from airflow_zen.transports.base import key_of_url, map_in_parallel

if TYPE_CHECKING:
    from airflow_zen.lineage.found_runs import Relatives
    from airflow_zen.pruning.collect import PruneReport
    from airflow_zen.stack import Stack

T = TypeVar("T")

# The folders that airflow_zen itself writes under the root (docs/format.md).
_RESERVED_FOLDERS = frozenset(
    {
        *("artifacts", "previews", "names", "tags", "cache", "runs", "undelivered", "undelivered.turn", "refused"),
        *(
            "checkpoints",
            "ended",
            "suspended",
            "prune",
            "probe",
            "mlflow",
            "models",
            "runtimes",
            ".staging",
            "deployments",
        ),
    }
)


@dataclass(frozen=True)
class NamedArtifact:
    """One version of a named artifact.

    version: its label. created: seconds since the epoch. origin: the step run that made it. tags, metadata: those it was
    saved with. stack: the stack that contains it.
    """

    name: str
    version: str
    ref: ArtifactRef = field(repr=False)
    created: float = field(repr=False)
    origin: str = field(repr=False)
    tags: tuple[str, ...] = field(repr=False)
    metadata: Mapping[str, Any] = field(repr=False)
    _artifact_version: ArtifactVersion = field(repr=False, compare=False)
    _settings: Settings = field(repr=False, compare=False)
    stack: Stack = field(repr=False, compare=False)

    @classmethod
    def from_version(cls, found: ArtifactVersion, settings: Settings, stack: Stack) -> NamedArtifact:
        """Return a version that was found in a stack."""
        return cls(
            found.name,
            found.version,
            found.ref,
            found.created,
            found.origin,
            found.tags,
            found.metadata,
            found,
            settings,
            stack,
        )

    @overload
    def load(self, as_type: type[T]) -> T: ...

    @overload
    def load(self, as_type: Any = None) -> Any: ...

    def load(self, as_type: Any = None) -> Any:
        """Return its verified value, by default or as another type such as `pathlib.Path` or `polars.DataFrame`.

        Raises `InputError` where it cannot be loaded as `as_type`, `ArtifactNotFound`, `ArtifactCorrupt`.
        """
        return _load_value(self.stack, self.ref, as_type)

    def _repr_html_(self) -> str:
        facts = {"name": self.name, "version": self.version, "shape": self.ref.shape, "size": self.ref.size}
        facts |= {"made by": self.origin, "tags": ", ".join(self.tags), **self.metadata}
        return html_table(("fact", "value"), [fact for fact in facts.items() if fact[1] not in (None, "")])

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """What its materializer recorded: the shape, and the columns of a table with their statistics."""
        return self.manifest.summary

    @cached_property
    def manifest(self) -> Manifest:
        """Its manifest: encoding, type, sizes and hashes of files, versions of the libraries that wrote it."""
        return self.stack.store.manifest(self.ref)

    def versions(self, limit: int | None = None) -> NamedArtifacts:
        """Return all versions of its name, or the newest `limit`, newest first; one request for each."""
        found = self.stack.names.versions(self.name, limit)
        return NamedArtifacts(NamedArtifact.from_version(version, self._settings, self.stack) for version in found)

    def tag(self, *tags: str) -> None:
        """Tag this version. It can be found by the tag, and pruning keeps it."""
        for tag in tags:
            self.stack.names.tag(self.name, self.version, tag)

    def untag(self, *tags: str) -> None:
        """Remove tags from this version."""
        for tag in tags:
            self.stack.names.untag(self.name, self.version, tag)

    def lineage(self) -> Relatives:
        """Return the step runs upstream of this version, and those that read it.

        Upstream runs are found in the step run records. Downstream runs are found in its own DAG run, and in all DAGs
        if MLflow is configured.
        """
        from airflow_zen.lineage.ancestry import find_relatives

        server = tracking_server(self._settings)
        return find_relatives(self._artifact_version, self.stack.names, self.stack.records, server)

    def diff(self, other: NamedArtifact | str, rows: int = 0) -> ArtifactDiff:
        """Return the differences of another version, or of another artifact, from this one.

        Schema, row counts and column statistics are compared from the manifests alone. rows: also read both tables, and
        show that many rows that only one of them has.
        """
        if not isinstance(other, NamedArtifact):
            found = self.stack.names.get(self.name, other)
            other = NamedArtifact.from_version(found, self._settings, self.stack)
        result = diff_manifests(self.manifest, other.manifest)
        if not rows or result.same:
            return result
        from airflow_zen.materializers.arrow.tables import differing_rows

        before, after = ((one.source(), one.ref.encoding) for one in (self, other))
        return replace(result, rows=differing_rows(self.stack.materializers, before, after, rows))

    def source(self) -> ArtifactReader:
        """Return a reader of its files, which fetches each when it is needed."""
        return ArtifactReader(self.stack.store, self.ref, process_directory(self.stack))


class NamedArtifacts(list[NamedArtifact]):
    """A list of versions that notebooks show as a table."""

    _HEADER = ("name", "version", "shape", "size", "made by", "tags")

    def __str__(self) -> str:
        return text_table(self._HEADER, self._table())

    def _repr_html_(self) -> str:
        return html_table(self._HEADER, self._table())

    def _table(self) -> list[tuple[Any, ...]]:
        return [(one.name, one.version, one.ref.shape, one.ref.size, one.origin, ", ".join(one.tags)) for one in self]


@overload
def load(ref: ArtifactRef | Mapping[str, Any] | Model, as_type: type[T], stack: str | None = None) -> T: ...


@overload
def load(ref: ArtifactRef | Mapping[str, Any] | Model, as_type: Any = None, stack: str | None = None) -> Any: ...


def load(ref: ArtifactRef | Mapping[str, Any] | Model, as_type: Any = None, stack: str | None = None) -> Any:
    """Return the value of an artifact.

    ref: the ref, its form in XCom, `Artifact("name").latest()`, or `Model("name@champion")`. as_type: the type to
    load it as, such as `pathlib.Path` or `polars.DataFrame`. stack: the stack that contains it, by default the active
    one.

    Raises `ArtifactRefused` for anything but a ref of the stack's artifact root, `InputError` where it cannot be loaded
    as `as_type`, `ArtifactNotFound`, `ArtifactCorrupt`.
    """
    settings, opened_stack = _open_named_stack(stack)
    if not isinstance(ref, ArtifactRef | Mapping | Model):
        raise ArtifactRefused(f"airflow_zen.load takes a ref, or its form in XCom, got {ref!r}.")
    selectors = SelectorResolver(settings, opened_stack)
    if isinstance(ref, Model) or selectors.is_selector(ref):
        ref = selectors.resolve(ref)
    elif not isinstance(ref, ArtifactRef):
        ref = ArtifactRef.from_wire(ref)
    # The store itself refuses a ref of no stack.
    owner = None if ref.uri.startswith(f"{settings.artifact_root}/") else settings_of_uri(ref.uri)
    if owner is not None:
        raise ArtifactRefused(
            f"Artifact {ref.digest[:12]} is in stack {owner.stack!r} ({owner.artifact_root}), not in stack "
            f"{settings.stack!r} ({settings.artifact_root}). Load it with airflow_zen.load(ref, stack={owner.stack!r})."
        )
    return _load_value(opened_stack, ref, as_type)


def save(value: Any, name: str = "", stack: str | None = None) -> ArtifactRef:
    """Store a value as an artifact of a stack, as `@ml_step` does with its outputs, and return the ref."""
    return _open_named_stack(stack)[1].save(value, name).ref


def artifact(name: str, version: str | datetime = LATEST, stack: str | None = None) -> NamedArtifact:
    """Find a version of a named artifact: `airflow_zen.artifact("flight_delay/train").load()`.

    version: "latest", a label, the beginning of a digest, a tag, or a date or time (the newest version at or before
    it). stack: the stack that contains it, by default the active one. Raises `ArtifactNotFound`.
    """
    settings, opened_stack = _open_named_stack(stack)
    return NamedArtifact.from_version(opened_stack.names.get(name, version), settings, opened_stack)


def artifacts(prefix: str = "", tag: str = "", stack: str | None = None) -> NamedArtifacts:
    """Return the newest version of each name that begins with `prefix`, or all versions that have a tag."""
    settings, opened_stack = _open_named_stack(stack)
    names = opened_stack.names
    found = names.tagged_versions(tag) if tag else names.newest_versions(prefix)
    matching = (one for one in found if one.name.startswith(prefix))
    return NamedArtifacts(NamedArtifact.from_version(one, settings, opened_stack) for one in matching)


def save_artifact(
    value: Any, name: str, tags: Iterable[str] = (), metadata: Mapping[str, Any] | None = None, stack: str | None = None
) -> NamedArtifact:
    """Store a value as the newest version of a name; where its content is the newest already, only add the tags.

    metadata: facts in JSON types. Raises `ArtifactNameError`, `MetadataError`, `MaterializerNotFound`, `SaveRefused`.
    """
    return _add_version(lambda opened_stack: opened_stack.save(value, name).ref, name, tags, metadata, stack)


def register_artifact(
    uri: str, name: str, tags: Iterable[str] = (), metadata: Mapping[str, Any] | None = None, stack: str | None = None
) -> NamedArtifact:
    """Make data that is already under the artifact root the newest version of a name, without copying it.

    uri: the address of a file or a folder. It is read once to hash it; each load verifies the hashes. A parquet file
    loads as a table, anything else as `pathlib.Path`. Pruning never deletes it, because its owner is someone else.

    Raises `SettingsError` for an address outside the root, `ArtifactNotFound`, `ArtifactNameError`, `MetadataError`.
    """
    return _add_version(lambda opened_stack: register_files(opened_stack, uri, name), name, tags, metadata, stack)


def prune(
    older_than: str | None = None,
    keep_last: int | None = None,
    grace: str = "1d",
    expire_mlflow_runs: bool = False,
    dry_run: bool = False,
    stack: str | None = None,
) -> PruneReport:
    """Delete unreferenced artifacts from the artifact root, as `airflow zen artifacts prune` does.

    An unreferenced artifact is marked first, and deleted by a prune that runs `grace` later.

    older_than: also expire DAG runs, cache entries and versions of this age (`"90d"`). keep_last: keep this many of the
    newest versions of each name. expire_mlflow_runs: delete DAG runs of that age in MLflow too.

    Raises `SettingsError` for an invalid duration, `PruneBusy` while another prune runs, and `LineageError` when MLflow
    is unavailable.
    """
    from airflow_zen.pruning.collect import prune_stack
    from airflow_zen.pruning.retention import Retention

    retention = Retention.parse(older_than, keep_last, grace, expire_mlflow_runs)
    return prune_stack(open_stack(Settings.read(stack)), retention, dry_run=dry_run)


def register_files(stack: Stack, uri: str, name: str) -> ArtifactRef:
    """Hash the files at `uri` once, and store a manifest that refers to them.

    A parquet file becomes a table; any other file, and a folder, becomes a `pathlib.Path`. Raises `SettingsError` for
    an address outside the root or in a reserved folder, and `ArtifactNotFound`.
    """
    key = key_of_url(stack.store.root, uri.rstrip("/"))
    if key.split("/")[0] in _RESERVED_FOLDERS:
        raise SettingsError(f"{uri!r} is in a folder that airflow_zen writes itself. Move the data to another folder.")
    keys = list(stack.store.transport.list(key))
    if not keys and key.endswith(".parquet"):
        return _register_table(stack, key, name)
    base = key.rpartition("/")[2]
    keys_by_path = {f"files/{base}{below.removeprefix(key)}": below for below in keys} or {f"files/{base}": key}
    files = _describe_files(stack, keys_by_path, uri)
    shape = format_count(len(files), "file")
    summary = {"shape": shape, "size": sum(file.size for file in files)}
    manifest = Manifest("python.path@1", "pathlib.PosixPath", files, summary=summary, at=keys_by_path)
    return stack.store.register(manifest, name)


def _add_version(
    store: Callable[[Stack], ArtifactRef],
    name: str,
    tags: Iterable[str],
    metadata: Mapping[str, Any] | None,
    stack: str | None,
) -> NamedArtifact:
    """Store content and add it as a version of a name; everything else is validated before."""
    settings, opened_stack = _open_named_stack(stack)
    validate_artifact_name(name)
    tags = [validate_tag(tag) for tag in tags]
    try:
        facts = json.loads(json.dumps(dict(metadata or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise MetadataError(
            f"metadata={metadata!r} is not JSON: {error}. Use texts, numbers, lists and dicts."
        ) from error
    recorded = opened_stack.names.add(name, store(opened_stack), opened_stack.clock(), tags=tags, metadata=facts)
    return NamedArtifact.from_version(opened_stack.names.get(name, recorded.version), settings, opened_stack)


def _load_value(stack: Stack, ref: ArtifactRef, as_type: Any) -> Any:
    """Load a value; if it needs a module of the DAG folder, name the line that makes the module importable."""
    try:
        return load_for_process(stack, ref, as_type)
    except MaterializerNotFound as error:
        missing = error.__cause__.name if isinstance(error.__cause__, ModuleNotFoundError) else None
        folder = _folder_of_module(missing or "")
        if not folder:
            raise
        line = f"import sys; sys.path.insert(0, {folder!r})"
        raise MaterializerNotFound(f"{error} Airflow's DAG folder has it. Run this line first: {line}") from error


def _folder_of_module(name: str) -> str:
    """Return the folder of Airflow's DAG folder that has to be on the path to import a module; empty if there is none."""
    try:
        from airflow.configuration import conf
    except ImportError:
        # The code of a step runs where Airflow is not installed.
        return ""

    dags, path = Path(conf.get("core", "dags_folder", fallback="")), name.replace(".", "/")
    if not name or not dags.is_dir():
        return ""
    # The error names the package where that cannot be found.
    found = [*sorted(dags.rglob(f"{path}.py")), *sorted(dags.rglob(path))]
    return str(found[0].with_suffix("")).removesuffix(f"/{path}") if found else ""


def _open_named_stack(stack: str | None) -> tuple[Settings, Stack]:
    settings = Settings.read(stack)
    return settings, open_stack(settings, lineage=False)


def _register_table(stack: Stack, key: str, name: str) -> ArtifactRef:
    from airflow_zen.materializers.arrow.parquet_reader import summarize_parquet

    uri, keys_by_path = f"{stack.store.root}/{key}", {"table.parquet": key}
    files = _describe_files(stack, keys_by_path, uri)
    summary = summarize_parquet(RangeReader(stack.store.transport, key, files[0]), uri)
    manifest = Manifest("pyarrow.parquet@1", "pyarrow.Table", files, summary=summary, at=keys_by_path)
    return stack.store.register(manifest, name)


def _describe_files(stack: Stack, keys_by_path: Mapping[str, str], uri: str) -> tuple[ArtifactFile, ...]:
    try:
        found = [*map_in_parallel(stack.store.transport.checksum, keys_by_path.values())]
    except ArtifactNotFound as error:
        raise ArtifactNotFound(f"There is nothing at {uri!r}. Use the address of a file, or of a folder.") from error
    return tuple(ArtifactFile(path, size, text) for path, (size, text) in zip(keys_by_path, found, strict=True))
