"""Choose the materializer of a value, a type or an encoding; save and load through it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from dataclasses import replace as dc_replace
from functools import cached_property
from io import IOBase
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import AlreadyExists, ArtifactRefused, MaterializerNotFound, SaveRefused, ZenError
from airflow_zen.materializers import catalog
from airflow_zen.materializers.base import (
    Materializer,
    MaterializerEntry,
    SavedValue,
    entry_name,
    installed_version,
    load_entry,
)
from airflow_zen.materializers.user_defined import (
    SubclassMaterializers,
    entry_point_materializers,
    registered_materializers,
    subclass_materializers,
)
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from airflow_zen.artifacts.reader import ArtifactReader
    from airflow_zen.materializers.annotations import View


@dataclass(frozen=True)
class MaterializerRegistry:
    """Know one materializer for each type and each encoding; immutable, passed, never global.

    `types` and `encodings` map a dotted type name, and an encoding, to a materializer class or to the
    `"module:Class"` that is imported when it is first needed. `from_entry_points` gives those of other
    distributions, `from_subclasses` those that a project has only written; they are asked, in this order, only about a type
    or an encoding that is not among these.
    """

    types: Mapping[str, MaterializerEntry] = field(repr=False)
    encodings: Mapping[str, MaterializerEntry] = field(repr=False)
    allow_pickle: bool = False
    from_entry_points: Callable[[], tuple[type[Materializer], ...]] = tuple
    from_subclasses: Callable[[], SubclassMaterializers] = SubclassMaterializers

    def save(
        self, value: Any, directory: Path, declared: type | None = None, by: type[Materializer] | None = None
    ) -> SavedValue:
        """Write a value into the empty `directory` by its declared type, or else by its own; or `by` a materializer.

        Tables that an iterator gives one by one are written as one, with one in memory at a time.

        Raises `MaterializerNotFound` for a type nobody saves, `SaveRefused` for a value that would not
        come back exactly. Where pickles are allowed, such a value is pickled instead.
        """
        if by is None and _is_iterator(value) and self._find_by_type(type(value)) is None:
            return self._save_batches(value, directory)
        materializer = (self._instantiate(by) if by else self._for_declared(value, declared)).for_value(value)
        try:
            summary = _save_summary(materializer, value, directory)
        except SaveRefused:
            if not self.allow_pickle or materializer.encoding == "cloudpickle@1":
                raise
            _clear_directory(directory)
            materializer = self.for_encoding("cloudpickle@1")
            summary = _save_summary(materializer, value, directory)
        return self._saved_value(materializer, materializer.stored_type(value), summary, directory)

    def load(self, directory: Path, encoding: str, wanted: Any = None) -> Any:
        """Read the value of `encoding` back, as `wanted` where its materializer has that view.

        `directory` must live as long as the value. `wanted=pathlib.Path` gives the files themselves.
        """
        materializer = self.for_encoding(encoding, wanted if isinstance(wanted, type) else None)
        with missing_library_errors(materializer), conversion_errors(materializer, encoding, wanted):
            return materializer.load(directory, encoding, wanted)

    def load_from(self, source: ArtifactReader, encoding: str, wanted: Any = None) -> Any:
        """Read the value of `encoding` from its store, as `load` does from a directory; its files are fetched as needed."""
        materializer = self.for_encoding(encoding, wanted if isinstance(wanted, type) else None)
        with missing_library_errors(materializer), conversion_errors(materializer, encoding, wanted):
            return materializer.load_from(source, encoding, wanted)

    def can_preview(
        self, value: Any, encoding: str, summary: Mapping[str, Any], by: type[Materializer] | None = None
    ) -> bool:
        """Tell whether there can be a preview of a value that was stored under `encoding`."""
        return self._previewer_of(value, encoding, summary, by) is not None

    def preview(
        self, value: Any, encoding: str, summary: Mapping[str, Any], by: type[Materializer] | None = None
    ) -> Mapping[str, bytes | str]:
        """Show a value that was stored under `encoding`; nothing where nobody shows its like."""
        materializer = self._previewer_of(value, encoding, summary, by)
        if materializer is None:
            return {}
        with missing_library_errors(materializer):
            return materializer.preview(value, summary)

    def load_view(self, source: ArtifactReader, encoding: str, view: View) -> Any:
        """Read what a view asks for, and no more, through the materializer of its class."""
        materializer = self.for_encoding(encoding, view.cls)
        with missing_library_errors(materializer), conversion_errors(materializer, encoding, view):
            found = materializer.load_view(source, encoding, view)
        return iterate_with_conversion_errors(found, materializer, encoding, view) if view.batches else found

    def is_partial_view(self, encoding: str, view: View) -> bool:
        """Tell whether a view is of less than the whole value at once; `Iterable[T]` of what is no table is not."""
        if view.columns or (view.batches and self.for_encoding(encoding).is_table):
            return True
        found = self._find_by_type(view.cls) if view.cls is not None and not view.batches else None
        names = {type_name(base) for base in view.cls.__mro__} if view.cls else set()
        return found is not None and found.can_read(encoding) and not names.isdisjoint(found.lazy_types)

    def is_view(self, encoding: str, wanted: type) -> bool:
        """Tell whether asking for `wanted` gives another type than the one that was saved under `encoding`."""
        own = self.for_encoding(encoding)
        return type_name(wanted) in own.views or self.for_encoding(encoding, wanted).encoding != own.encoding

    def for_type(self, cls: type) -> Materializer:
        """Find the materializer of a type, by its nearest base that has one.

        Dataclasses have no base in common and are recognised as such. Raises `MaterializerNotFound`.
        """
        found = self._find_by_type(cls)
        if found is not None:
            return found
        if self.allow_pickle:
            return self._instantiate(catalog.PICKLE)
        raise MaterializerNotFound(
            f"No materializer saves {type_name(cls)}. {catalog.suggest_alternative(type_name(base) for base in cls.__mro__)} Otherwise register one for it, or set "
            f"[zen] allow_pickle = True."
        )

    def for_encoding(self, encoding: str, wanted: type | None = None) -> Materializer:
        """Find who reads an encoding: the materializer of `wanted` if it has that view, else its own.

        Raises `MaterializerNotFound` for an encoding that is unknown, or newer than this release.
        """
        view = self._find_by_type(wanted) if wanted is not None else None
        if view is not None and view.can_read(encoding):
            return view
        if encoding in self.encodings:
            return self._instantiate(self.encodings[encoding])
        if encoding in self._with_entry_points.encodings:
            return self._instantiate(self._with_entry_points.encodings[encoding])
        written = self.from_subclasses().for_encoding(encoding)
        if written is not None:
            return self._instantiate(written)
        raise MaterializerNotFound(self._unknown_encoding_message(encoding))

    def register(self, materializer: type[Materializer], replace: bool = False) -> MaterializerRegistry:
        """Give a registry that also knows `materializer`.

        Raises `AlreadyExists` when another one has its encoding or one of its types, unless `replace`.
        """
        types = dict.fromkeys(materializer.type_names(), materializer)
        encodings = {materializer.encoding: materializer}
        taken = {**self._conflicts(self.types, types), **self._conflicts(self.encodings, encodings)}
        if taken and not replace:
            whose = ", ".join(f"{name} of {entry_name(entry)}" for name, entry in sorted(taken.items()))
            raise AlreadyExists(
                f"{entry_name(materializer)} cannot be registered beside {whose}. Give it another encoding and types "
                f"of its own, pass replace=True to take their place, or name it on the outputs that it is for: "
                f"Annotated[T, Artifact(materializer={materializer.__qualname__})]."
            )
        return self._extended(types, encodings)

    def with_materializers(self, materializers: Iterable[type[Materializer]]) -> MaterializerRegistry:
        """Give a registry that also reads the encodings of `materializers`, and saves what it saved before."""
        return self._extended({}, {cls.encoding: cls for cls in materializers})

    def _extended(
        self, types: Mapping[str, MaterializerEntry], encodings: Mapping[str, MaterializerEntry]
    ) -> MaterializerRegistry:
        return dc_replace(self, types={**self.types, **types}, encodings={**self.encodings, **encodings})

    @staticmethod
    def _conflicts(
        known: Mapping[str, MaterializerEntry], wanted: Mapping[str, MaterializerEntry]
    ) -> dict[str, MaterializerEntry]:
        return {name: known[name] for name in wanted if name in known and known[name] is not wanted[name]}

    @cached_property
    def _with_entry_points(self) -> MaterializerRegistry:
        """Know the materializers of other distributions too; raises `AlreadyExists` where two want the same."""
        whole = self
        for materializer in self.from_entry_points():
            whole = whole.register(materializer)
        return whole

    def _save_batches(self, batches: Iterator[Any], directory: Path) -> SavedValue:
        """Write what an iterator gives below one another, by the materializer of its first element."""
        first = next(batches, None)
        if first is None:
            raise SaveRefused(
                "The iterator gave nothing, so nobody knows what it is an iterator of. Yield at least one table, if need "
                "be an empty one."
            )
        writer = self.for_type(type(first))
        with missing_library_errors(writer):
            saved = writer.save_batches(chain([first], batches), directory)
        return self._saved_value(saved.materializer, saved.type, saved.summary, directory)

    def _saved_value(
        self, materializer: Materializer, cls: type, summary: Mapping[str, Any], directory: Path
    ) -> SavedValue:
        try:
            json.dumps(summary)
        except (TypeError, ValueError) as error:
            raise SaveRefused(
                f"The summary that {type(materializer).__qualname__}.save returned is not JSON: {error}. Return texts, "
                "numbers, lists and dicts of Python's own."
            ) from error
        return SavedValue(
            encoding=materializer.encoding,
            type=type_name(cls),
            summary={name: fact for name, fact in summary.items() if name != "hashes"},
            libraries=self._library_versions(materializer, summary),
            hashes=summary.get("hashes", {}),
            inline=materializer.inline and all(path.is_file() for path in directory.iterdir()),
        )

    def _previewer_of(
        self, value: Any, encoding: str, summary: Mapping[str, Any], by: type[Materializer] | None
    ) -> Materializer | None:
        """Find who shows a value: the materializer of its type, the one that stored it, or one that only shows.

        What has none is shown by its members, where some of them are files of their own: a value that is one small
        object costs no look into the store.
        """
        known = [self._instantiate(by)] if by else [self._find_by_type(type(value)), self.for_encoding(encoding)]
        only_show = (catalog.PREVIEW_ONLY.get(type_name(base)) for base in type(value).__mro__)
        candidates = chain(known, (self._instantiate(entry) for entry in only_show if entry))
        shown = next((found for found in candidates if found and found.has_preview), None)
        if shown is None and encoding == "python.json@1" and summary.get("parts"):
            return self._instantiate(catalog.MEMBERS_PREVIEW)
        return shown

    def _for_declared(self, value: Any, declared: type | None) -> Materializer:
        found = self._find_by_type(declared) if declared in type(value).__mro__ else None
        return found or self.for_type(type(value))

    def _find_by_type(self, cls: type) -> Materializer | None:
        if type_name(cls) in self.types:
            return self._instantiate(self.types[type_name(cls)])
        types, subclasses = self._with_entry_points.types, self.from_subclasses()
        for base in cls.__mro__:
            entry = types.get(type_name(base)) or subclasses.for_type(type_name(base))
            if entry is not None:
                return self._instantiate(entry)
        return self._instantiate(catalog.TYPED_JSON) if is_dataclass(cls) else None

    def _instantiate(self, entry: MaterializerEntry) -> Materializer:
        return load_entry(entry)(self) if isinstance(entry, str) else entry(self)

    def _unknown_encoding_message(self, encoding: str) -> str:
        family = encoding.rpartition("@")[0]
        known = sorted(known for known in self.encodings if known.rpartition("@")[0] == family)
        if known:
            return (
                f"This airflow_zen reads {', '.join(known)}, not {encoding!r}. Install the airflow-provider-zen that "
                f"wrote it, or a newer one."
            )
        return (
            f"No materializer reads {encoding!r}. Register the one that wrote it with @register_materializer, or name it on the "
            f"parameter: Annotated[T, Artifact(materializer=…)]."
        )

    def _library_versions(self, materializer: Materializer, summary: Mapping[str, Any]) -> dict[str, str]:
        """Look up the distributions that wrote an artifact and its parts."""
        parts = [self.for_encoding(part["encoding"]) for part in summary.get("parts", ())]
        names = {name for writer in (materializer, *parts) for name in writer.libraries}
        return {name: installed_version(name) for name in sorted(names) if installed_version(name)}


def default_registry(allow_pickle: bool = False) -> MaterializerRegistry:
    """Build the registry of everything this package saves, and of what the project adds to it.

    `allow_pickle` adds cloudpickle as the last resort. Raises `AlreadyExists` where two materializers want the
    same type or encoding.
    """
    registry = MaterializerRegistry(
        catalog.TYPES, catalog.ENCODINGS, allow_pickle, entry_point_materializers, subclass_materializers
    )
    for materializer, replace in registered_materializers():
        registry = registry.register(materializer, replace)
    return registry


def _is_iterator(value: Any) -> bool:
    return isinstance(value, Iterator) and not isinstance(value, IOBase)


def _save_summary(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    with missing_library_errors(materializer):
        try:
            # Who has nothing to say of a value may return nothing.
            summary = materializer.save(value, directory) or {}
        except RecursionError as error:
            raise SaveRefused(
                f"A {type_name(type(value))} is nested too deep, or contains itself. Flatten it, or leave that reference out."
            ) from error
    if not isinstance(summary, Mapping):
        raise SaveRefused(
            f"{type(materializer).__qualname__}.save returned {summary!r}, which is no summary. Return a dict, or nothing."
        )
    return summary


def _clear_directory(directory: Path) -> None:
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


_MAX_ERROR_LENGTH = 300


@contextmanager
def missing_library_errors(materializer: Materializer) -> Iterator[None]:
    """Turn the absence of a library into an error that names what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = f"airflow-provider-zen[{materializer.extra}]" if materializer.extra else error.name
        raise MaterializerNotFound(
            f"{materializer.encoding} needs {error.name}, which is not installed here. Install {package}."
        ) from error


@contextmanager
def conversion_errors(materializer: Materializer, encoding: str, wanted: Any) -> Iterator[None]:
    """Say of what one library stored that it has no form as another's value, where that fails to be made of it."""
    try:
        yield
    except (ZenError, ImportError, MemoryError, OSError):
        raise
    except Exception as error:
        if materializer.encoding == encoding:
            raise
        name = type_name(wanted) if isinstance(wanted, type) else wanted
        raise ArtifactRefused(
            f"What is stored as {encoding} has no form as {name}: {_shorten_error(error)}. Ask for what was saved, or for no type, and "
            "convert it there."
        ) from error


def _shorten_error(error: Exception) -> str:
    """Cut a text that may list all columns of a table."""
    text = str(error).strip().rstrip(".")
    return text if len(text) <= _MAX_ERROR_LENGTH else f"{text[:_MAX_ERROR_LENGTH]}…"


def iterate_with_conversion_errors(
    parts: Iterator[Any], materializer: Materializer, encoding: str, view: View
) -> Iterator[Any]:
    """Go through the parts of a view, each made as `conversion_errors` has it."""
    parts = iter(parts)
    while True:
        with conversion_errors(materializer, encoding, view):
            try:
                part = next(parts)
            except StopIteration:
                return
        yield part
