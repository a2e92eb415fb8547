"""`Stack`: the collaborators of a run, as one record that is passed and never global."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
from msgspec.structs import replace

from airflow_zen.artifacts.named_artifacts import VersionIndex
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.errors import ArtifactCorrupt, SaveRefused, ZenError
from airflow_zen.lineage.recorder import LineageRecorder, NullRecorder
from airflow_zen.materializers.annotations import View, contains_path, strip_annotation
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.catalog import GENERAL_ADVICE
from airflow_zen.materializers.registry import MaterializerRegistry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.redaction import Redactor
from airflow_zen.type_names import type_name

# Of these the materializers return exactly what was saved. A model may have parts beside what is saved of it.
_TABLES_AND_ARRAYS = ("pandas.", "numpy.", "polars.", "pyarrow.")


class SavedArtifact(msgspec.Struct, frozen=True):
    """A value in the store: its ref, and the summary of its materializer."""

    ref: ArtifactRef
    summary: Mapping[str, Any]


class HeldValues:
    """Hold an output of the step that was computed last, for one step after it.

    No code of a user runs between the save of an output and its use by the next computed step, so the value is what is
    stored. It is given away once: a step may change it in place, and every later one loads what is stored. Of several
    outputs, which may share memory, only the largest is held.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[str, Any] = {}

    def keep(self, values: Mapping[str, Any], refs: Mapping[str, ArtifactRef]) -> None:
        """Hold the outputs of a computed step in place of what was held."""
        names = [name for name in refs if name in values and _is_exact(values[name], refs[name])]
        largest = max(names, key=lambda name: refs[name].size, default=None)
        with self._lock:
            self._values = {} if largest is None else {refs[largest].digest: values[largest]}

    def holds(self, ref: ArtifactRef) -> bool:
        """Whether the value of a ref is held."""
        return ref.digest in self._values

    def take(self, ref: ArtifactRef, view: View) -> Any:
        """Return the value of a ref, and hold it no longer; None where it is not held, or wanted as another type."""
        with self._lock:
            value = self._values.get(ref.digest)
            is_wanted = view.cls in (None, type(value)) and not view.columns and not view.batches
            return self._values.pop(ref.digest) if value is not None and is_wanted else None


def _is_exact(value: Any, ref: ArtifactRef) -> bool:
    return ref.encoding.startswith(_TABLES_AND_ARRAYS) and type_name(type(value)) == ref.type


class Stack(msgspec.Struct, frozen=True):
    """The artifact store, the materializers, the step cache, the records of runs, and the lineage recorder.

    `previews` is the default for outputs without a setting of their own. `redactor` removes secrets from what is
    recorded. `clock` returns seconds since the epoch, `environment` holds the process's environment variables.
    `held` are values of this process that `load` returns once without loading them, where it has any.
    `storage_environment` are those with which another process opens the same artifact root; they hold credentials.
    """

    store: ArtifactStore
    materializers: MaterializerRegistry
    cache: StepCache
    records: StepRunRecords
    lineage: LineageRecorder = msgspec.field(default_factory=NullRecorder)
    previews: bool = True
    redactor: Redactor = msgspec.field(default_factory=Redactor)
    clock: Callable[[], float] = time.time
    environment: Mapping[str, str] = msgspec.field(default_factory=lambda: os.environ)
    storage_environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    held: HeldValues | None = None

    def __repr__(self) -> str:
        return f"Stack({self.store.root!r})"

    @property
    def names(self) -> VersionIndex:
        """The versions of named artifacts."""
        return VersionIndex(self.store)

    def save(
        self, value: Any, name: str = "", declared: type | None = None, by: type[Materializer] | None = None
    ) -> SavedArtifact:
        """Store a value as an artifact, with the materializer of its declared type, else of its own type.

        `by` is a materializer that is used instead. The tables of an iterator become one artifact, and are written
        while it is iterated. Raises `MaterializerNotFound` for a type without a materializer, `SaveRefused` for a
        value that would not be loaded exactly as it was.
        """
        with self.store.upload_directory() as directory:
            try:
                saved = self.materializers.save(value, directory, declared, by)
            except ZenError:
                raise
            except Exception as error:
                # An iterator runs the user's code, whose errors are raised as they are.
                if isinstance(value, Iterator):
                    raise
                raise SaveRefused(
                    f"{type(value).__qualname__} {name!r} could not be saved: {error}. {GENERAL_ADVICE}"
                ) from error
            ref = self.store.put(
                directory,
                encoding=saved.encoding,
                type_name=saved.type,
                libraries=saved.libraries,
                summary=saved.summary,
                hashes=saved.hashes,
                inline=saved.inline,
                name=name,
            )
        return SavedArtifact(ref, saved.summary)

    def can_preview(self, value: Any, saved: SavedArtifact, by: type[Materializer] | None = None) -> bool:
        """Whether there can be a preview of a value."""
        return self.materializers.can_preview(value, saved.ref.encoding, saved.summary, by)

    def preview(
        self, value: Any, saved: SavedArtifact, by: type[Materializer] | None = None
    ) -> Mapping[str, bytes | str]:
        """Return small files that show a stored value, by name.

        Of an iterator, a stream, or a lazy table or dataset, which would have to be computed again, the first stored rows
        are shown.
        """
        from airflow_zen.artifacts.reader import ArtifactReader

        ref, materializers = saved.ref, self.materializers
        if type_name(type(value)) == ref.type:
            return materializers.preview(value, ref.encoding, saved.summary, by)
        with self.scratch_directory() as directory:
            reader = ArtifactReader(self.store, ref, directory)
            if materializers.for_encoding(ref.encoding).is_table:
                stored = next(iter(materializers.load_view(reader, ref.encoding, View(batches=True))))
            else:
                stored = materializers.load(reader, ref.encoding)
            return materializers.preview(stored, ref.encoding, saved.summary, by)

    @contextmanager
    def scratch_directory(self) -> Iterator[Path]:
        """Yield an empty directory to load artifacts into, which is removed after the block."""
        directory = self.store.temporary_directory()
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def with_materializers(self, materializers: Iterable[type[Materializer]]) -> Stack:
        """Return a stack that also reads the encodings of `materializers`."""
        return replace(self, materializers=self.materializers.with_materializers(materializers))

    def load(self, ref: ArtifactRef, into: Path, wanted: Any = None) -> Any:
        """Return the verified value of a ref, as `wanted` when the caller declares a type.

        `into` is an empty directory that must live as long as the value. `ArtifactRef` returns the ref itself,
        `pathlib.Path` the artifact's files, and a table type of another library that view. `Iterator[T]`, `Columns`
        and lazy types read only what is needed, when it is needed.
        """
        from airflow_zen.artifacts.reader import ArtifactReader

        wanted = strip_annotation(wanted)
        view = View.of(wanted)
        if view.cls is ArtifactRef:
            return ref
        if self.held is not None and (value := self.held.take(ref, view)) is not None:
            return value
        if self.materializers.is_partial_view(ref.encoding, view):
            return self.materializers.load_view(ArtifactReader(self.store, ref, into), ref.encoding, view)
        # Paths that user code gets must not be the store's own.
        returns_paths = contains_path(wanted) or self.materializers.for_encoding(ref.encoding).gives_paths
        if returns_paths or (self.store.is_local and self._needs_own_directory(ref)):
            return self.materializers.load(self.store.get(ref, into, private=True), ref.encoding, wanted)
        reader = ArtifactReader(self.store, ref, into)
        try:
            return self.materializers.load(reader, ref.encoding, wanted)
        except ArtifactCorrupt:
            if not reader.has_streamed:
                raise
        # A download of the whole file tells whether it is damaged in the store, or was on its way.
        return self.materializers.load(ArtifactReader(self.store, ref, into, streams=False), ref.encoding, wanted)

    def absent(self, refs: Iterable[ArtifactRef]) -> list[ArtifactRef]:
        """Return the refs whose values this process does not hold."""
        return [ref for ref in refs if self.held is None or not self.held.holds(ref)]

    def _needs_own_directory(self, ref: ArtifactRef) -> bool:
        """Whether a value, or a part of it, is a folder that user code or its library may write into.

        A remote artifact is always downloaded into its own directory.
        """
        if ref.inline or not ref.encoding.startswith("python.json@"):
            return self.materializers.for_encoding(ref.encoding).own_folder
        if len(ref.files) == 1:
            return False
        manifest = self.store.manifest(ref)
        if any("/files/" in file.path for file in manifest.files):
            return True
        parts = [self.materializers.for_encoding(part["encoding"]) for part in manifest.summary.get("parts", ())]
        return any(part.gives_paths or part.own_folder for part in parts)
