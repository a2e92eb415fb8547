"""Named artifacts in notebooks and plain tasks: find, load, compare, tag, save."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload

from airflow_zen.artifacts.diff import ArtifactDiff, diff_manifests
from airflow_zen.artifacts.manifest import Manifest
from airflow_zen.artifacts.reader import ArtifactReader, RangeReader
from airflow_zen.artifacts.version import LATEST, ArtifactVersion, validate_artifact_name, validate_tag
from airflow_zen.config.settings import Settings, open_stack, tracking_server
from airflow_zen.errors import ArtifactNotFound, MetadataError, SettingsError
from airflow_zen.steps.materialize import load_for_process, process_directory
from airflow_zen.transports.base import key_of_url

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactFile, ArtifactRef
    from airflow_zen.lineage.ancestry import Relatives
    from airflow_zen.stack import Stack


T = TypeVar("T")


@dataclass(frozen=True)
class NamedArtifact:
    """One version of a named artifact.

    `version` is its label, `created` seconds since the epoch, `origin` the step run that made it, `tags` and `metadata`
    what it was saved with. `stack` is where it lies.
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
        """Speak of a version that was found in a stack."""
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
    def load(self, as_type: None = None) -> Any: ...

    def load(self, as_type: Any = None) -> Any:
        """Give its value, verified; `as_type` asks for another view, such as `pathlib.Path` or `polars.DataFrame`.

        Raises `InputError` where it is no `as_type`, `ArtifactNotFound`, `ArtifactCorrupt`.
        """
        return load_for_process(self.stack, self.ref, as_type)

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """What was found out while it was saved: shape, and of tables rows and columns with their statistics."""
        return self.manifest.summary

    @cached_property
    def manifest(self) -> Manifest:
        """What lies beside its files: encoding, type, sizes and hashes, libraries that wrote it."""
        return self.stack.store.manifest(self.ref)

    def versions(self, limit: int | None = None) -> list[NamedArtifact]:
        """Give all versions of its name, or the newest `limit`, newest first; a request for each."""
        found = self.stack.names.versions(self.name, limit)
        return [NamedArtifact.from_version(version, self._settings, self.stack) for version in found]

    def tag(self, *tags: str) -> None:
        """Tag this version, so that it is found by the tag and kept by pruning."""
        for tag in tags:
            self.stack.names.tag(self.name, self.version, tag)

    def untag(self, *tags: str) -> None:
        """Take tags away."""
        for tag in tags:
            self.stack.names.untag(self.name, self.version, tag)

    def lineage(self) -> Relatives:
        """Give the step runs that it was made by and from, and those that read it.

        Upstream as the step run records tell; downstream in its own DAG run, and in all DAGs where MLflow is
        configured.
        """
        from airflow_zen.lineage.ancestry import find_relatives

        return find_relatives(
            self._artifact_version, self.stack.names, self.stack.records, tracking_server(self._settings)
        )

    def diff(self, other: NamedArtifact | str, rows: int = 0) -> ArtifactDiff:
        """Compare another version, or another artifact, with this one as what was before.

        From the manifests alone: schema, row counts, statistics of columns. `rows` asks for that many rows that only
        one of two tables has, for which both are read.
        """
        if not isinstance(other, NamedArtifact):
            found = self.stack.names.get(self.name, other)
            other = NamedArtifact.from_version(found, self._settings, self.stack)
        result = diff_manifests(self.manifest, other.manifest)
        if not rows or result.same:
            return result
        from airflow_zen.materializers.arrow.views import differing_rows

        before, after = ((one.source(), one.ref.encoding) for one in (self, other))
        return replace(result, rows=differing_rows(self.stack.materializers, before, after, rows))

    def source(self) -> ArtifactReader:
        """Give its files, to be fetched when they are asked for."""
        return ArtifactReader(self.stack.store, self.ref, process_directory(self.stack))


def artifact(name: str, version: str | datetime = LATEST, stack: str | None = None) -> NamedArtifact:
    """Find a version of a named artifact: `airflow_zen.artifact("flight_delay/train").load()`.

    `version` is "latest", a version's label, the beginning of a digest, a tag, or a date or time: the newest at or
    before it. `stack` names the stack it lies in, else the active one is meant. Raises `ArtifactNotFound`.
    """
    settings, opened_stack = _open_named_stack(stack)
    return NamedArtifact.from_version(opened_stack.names.get(name, version), settings, opened_stack)


def artifacts(prefix: str = "", tag: str = "", stack: str | None = None) -> list[NamedArtifact]:
    """Give the newest version of each name that begins with `prefix`, or all versions that have a tag."""
    settings, opened_stack = _open_named_stack(stack)
    found = opened_stack.names.tagged_versions(tag) if tag else opened_stack.names.newest_versions(prefix)
    return [
        NamedArtifact.from_version(version, settings, opened_stack)
        for version in found
        if version.name.startswith(prefix)
    ]


def save_artifact(
    value: Any,
    name: str,
    tags: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    stack: str | None = None,
) -> NamedArtifact:
    """Store a value as the newest version of a name; content that is the newest already makes none, but gets the tags.

    `metadata` are facts, as JSON. Raises `ArtifactNameError`, `MaterializerNotFound`, `SaveRefused`.
    """
    settings, opened_stack = _open_named_stack(stack)
    name, tags = validate_artifact_name(name), [validate_tag(tag) for tag in tags]
    facts = _to_json_metadata(metadata)
    return _add_version(opened_stack.save(value, name).ref, name, tags, facts, opened_stack, settings)


def register_artifact(
    uri: str,
    name: str,
    tags: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    stack: str | None = None,
) -> NamedArtifact:
    """Make data that lies under the artifact root already the newest version of a name, without a copy.

    `uri` is the address of a file or a folder. It is read through once, for its hashes; each load holds it to them.
    A parquet file loads as a table, anything else as `pathlib.Path`. It stays its owner's: pruning never deletes it.
    Raises `SettingsError` for an address outside the root, `ArtifactNotFound`, `ArtifactNameError`.
    """
    settings, opened_stack = _open_named_stack(stack)
    name, tags = validate_artifact_name(name), [validate_tag(tag) for tag in tags]
    facts = _to_json_metadata(metadata)
    return _add_version(register_files(opened_stack, uri, name), name, tags, facts, opened_stack, settings)


def _add_version(
    ref: ArtifactRef, name: str, tags: list[str], metadata: Mapping[str, Any], opened_stack: Stack, settings: Settings
) -> NamedArtifact:
    recorded = opened_stack.names.add(name, ref, opened_stack.clock(), tags=tags, metadata=metadata)
    return NamedArtifact.from_version(opened_stack.names.get(name, recorded.version), settings, opened_stack)


def _open_named_stack(stack: str | None) -> tuple[Settings, Stack]:
    settings = Settings.read(stack)
    return settings, open_stack(settings, lineage=False)


def _to_json_metadata(metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    try:
        facts: Mapping[str, Any] = json.loads(json.dumps(dict(metadata or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise MetadataError(
            f"metadata={metadata!r} is no JSON: {error}. Give texts, numbers, lists and dicts."
        ) from error
    return facts


# What the root keeps itself (docs/format.md), and changes or deletes as it likes.
_RESERVED_FOLDERS = frozenset(
    {
        *("artifacts", "previews", "names", "tags", "cache", "runs", "undelivered", "undelivered.turn", "refused"),
        *("ended", "prune", "probe", "mlflow", ".staging"),
    }
)


def register_files(stack: Stack, uri: str, name: str) -> ArtifactRef:
    """Hash what lies at `uri` once, and commit a manifest that says where it lies.

    A parquet file becomes a table as pyarrow reads it; any other file, and a folder, a `pathlib.Path`. Raises
    `SettingsError` for an address outside the root, or in a folder that the root keeps itself; `ArtifactNotFound`.
    """
    key = key_of_url(stack.store.root, uri.rstrip("/"))
    if key.split("/")[0] in _RESERVED_FOLDERS:
        raise SettingsError(f"{uri!r} lies in a folder that the artifact root keeps itself. Put the data beside it.")
    keys = list(stack.store.transport.list(key))
    if not keys and key.endswith(".parquet"):
        return _register_table(stack, key, name)
    base = key.rpartition("/")[2]
    keys_by_path = {f"files/{base}{key_below.removeprefix(key)}": key_below for key_below in keys} or {
        f"files/{base}": key
    }
    files = _describe_files(stack, keys_by_path, uri)
    shape = f"{len(files)} {'file' if len(files) == 1 else 'files'}"
    summary = {"shape": shape, "size": sum(file.size for file in files)}
    return stack.store.register(
        Manifest("python.path@1", "pathlib.PosixPath", files, summary=summary, at=keys_by_path), name
    )


def _register_table(stack: Stack, key: str, name: str) -> ArtifactRef:
    from airflow_zen.materializers.arrow.parquet_reader import summarize_parquet

    uri, keys_by_path = f"{stack.store.root}/{key}", {"table.parquet": key}
    files = _describe_files(stack, keys_by_path, uri)
    summary = summarize_parquet(RangeReader(stack.store.transport, key, files[0]), uri)
    return stack.store.register(
        Manifest("pyarrow.parquet@1", "pyarrow.Table", files, summary=summary, at=keys_by_path), name
    )


def _describe_files(stack: Stack, keys_by_path: Mapping[str, str], uri: Any) -> tuple[ArtifactFile, ...]:
    try:
        return stack.store.hash_stored_files(keys_by_path)
    except ArtifactNotFound as error:
        raise ArtifactNotFound(
            f"Nothing lies at {uri!r}. Write the address of a file, or of a folder with files."
        ) from error
