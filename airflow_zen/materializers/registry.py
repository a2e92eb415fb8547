"""The registry: choose the materializer of a value, a type or an encoding; save and load through it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import is_dataclass
from errno import EINVAL
from functools import cached_property, partial, reduce
from io import IOBase
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from airflow_zen.errors import (
    AlreadyExists,
    ArtifactCorrupt,
    ArtifactRefused,
    MaterializerNotFound,
    SaveRefused,
    ZenError,
)
from airflow_zen.materializers import catalog, user_defined
from airflow_zen.materializers.base import (
    Materializer,
    MaterializerEntry,
    SavedValue,
    entry_name,
    installed_version,
    load_entry,
    transform_batches,
)
from airflow_zen.materializers.user_defined import project_code
from airflow_zen.type_names import StandIn, base_names, named_definitions, record_definition, type_name

if TYPE_CHECKING:
    from airflow_zen.artifacts.reader import ArtifactReader
    from airflow_zen.materializers.annotations import View

Entries = Mapping[str, MaterializerEntry]

_PICKLE, _TYPED_JSON, _ESTIMATOR = "cloudpickle@1", "python.json@1", "sklearn.mlflow@3"
_MAX_ERROR_LENGTH = 300


class MaterializerRegistry(msgspec.Struct, frozen=True, dict=True):
    """Map each type and each encoding to one materializer; immutable, passed, never global.

    `types` and `encodings` map a dotted type name, and an encoding, to a materializer class or to the
    `"module:Class"` that is imported when it is first needed. `from_entry_points` returns the materializers of other
    distributions; they are asked only about a type or an encoding that is not among these.
    """

    types: Entries
    encodings: Entries
    allow_pickle: bool = False
    from_entry_points: Callable[[], tuple[type[Materializer], ...]] = tuple

    def save(
        self, value: Any, directory: Path, declared: type | None = None, by: type[Materializer] | None = None
    ) -> SavedValue:
        """Write a value into the empty `directory` by its declared type, or else by its own; or `by` a materializer.

        Tables that an iterator yields are written as one table, with one in memory at a time.

        Raises `MaterializerNotFound` for a type that no materializer saves, `SaveRefused` for a value that would not
        come back exactly. If pickles are allowed, such a value is pickled instead.
        """
        is_iterator = isinstance(value, Iterator) and not isinstance(value, IOBase)
        if by is None and is_iterator and self._find_by_type(type(value), for_saving=True) is None:
            return self._save_batches(value, directory)
        cls = declared if declared in type(value).__mro__ and self._find_by_type(declared) else type(value)
        materializer = (self._instantiate(by) if by else self.for_type(cls)).for_value(value)
        with named_definitions() as named:
            try:
                summary = _save_summary(materializer, value, directory)
            except SaveRefused:
                if not self.allow_pickle or materializer.encoding == _PICKLE:
                    raise
                for path in directory.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                materializer = self.for_encoding(_PICKLE)
                summary = _save_summary(materializer, value, directory)
            record_definition(type(value))
        return self._saved_value(materializer, materializer.stored_type(value), summary, directory, named)

    def load(self, source: Path | ArtifactReader, encoding: str, wanted: Any = None) -> Any:
        """Read the value of `encoding` from a directory or its store, as `wanted` if its materializer has that view.

        A directory must live as long as the value. `wanted=pathlib.Path` returns the files themselves.
        """
        materializer = self.for_encoding(encoding, wanted if isinstance(wanted, type) else None)
        with _read_errors(materializer, encoding, wanted, source):
            if isinstance(source, Path):
                return materializer.load(source, encoding, wanted)
            return materializer.load_from(source, encoding, wanted)

    def load_view(self, source: ArtifactReader, encoding: str, view: View) -> Any:
        """Read the part of an artifact that a view requests, through the materializer of its class."""
        materializer = self.for_encoding(encoding, view.cls)
        errors = partial(_read_errors, materializer, encoding, view, source)
        with errors():
            found = materializer.load_view(source, encoding, view)
        return transform_batches(found, lambda parts, _: _guard_batches(parts, errors)) if view.batches else found

    def is_partial_view(self, encoding: str, view: View) -> bool:
        """Whether a view is less than the whole value at once; `Iterable[T]` of a value that is no table is not."""
        if view.columns or (view.batches and self.for_encoding(encoding).is_table):
            return True
        if view.cls is None or view.batches:
            return False
        found, names = self._find_by_type(view.cls), base_names(view.cls)
        return found is not None and found.can_read(encoding) and not set(found.lazy_types).isdisjoint(names)

    def is_view(self, encoding: str, wanted: type) -> bool:
        """Whether `wanted` is another type than the one that was saved under `encoding`."""
        own = self.for_encoding(encoding)
        return type_name(wanted) in own.views or self.for_encoding(encoding, wanted).encoding != own.encoding

    def can_read(self, encoding: str) -> bool:
        """Whether what is stored under an encoding can be loaded."""
        if encoding == _PICKLE:
            return self.allow_pickle
        if encoding not in self.encodings:
            with suppress(MaterializerNotFound):
                return bool(self.for_encoding(encoding))
        return encoding in self.encodings

    def custom_encoding(self, cls: type | None) -> str | None:
        """Return the encoding of the project's or another distribution's materializer for a type.

        Empty if there is none; None for a stand-in whose class has to be imported to determine it.
        """
        entry = self._find_entry(cls) if cls else None
        if entry is None and isinstance(cls, StandIn) and not self._has_only_built_in_types:
            return None
        return "" if entry is None or isinstance(entry, str) else entry.encoding

    def can_preview(
        self, value: Any, encoding: str, summary: Mapping[str, Any], by: type[Materializer] | None = None
    ) -> bool:
        """Whether there can be a preview of a value that was stored under `encoding`."""
        return self._previewer_of(value, encoding, summary, by) is not None

    def preview(
        self, value: Any, encoding: str, summary: Mapping[str, Any], by: type[Materializer] | None = None
    ) -> Mapping[str, bytes | str]:
        """Return the preview files of a value that was stored under `encoding`; none if no materializer makes any."""
        materializer = self._previewer_of(value, encoding, summary, by)
        if materializer is None:
            return {}
        with _missing_library_errors(materializer):
            return materializer.preview(value, summary)

    def for_type(self, cls: type) -> Materializer:
        """Return the materializer of a type, by its nearest base that has one.

        Dataclasses, and estimators that only follow scikit-learn's API, are recognized as such. Raises `MaterializerNotFound`.
        """
        if found := self._find_by_type(cls, for_saving=True):
            return found
        if self.allow_pickle:
            return self._instantiate(catalog.ENCODINGS[_PICKLE])
        advice = " ".join(filter(None, (catalog.alternative(base_names(cls)), catalog.GENERAL_ADVICE)))
        raise MaterializerNotFound(f"No materializer saves {type_name(cls)}. {advice}")

    def for_encoding(self, encoding: str, wanted: type | None = None) -> Materializer:
        """Return the materializer that reads an encoding: that of `wanted` if it has that view, else the encoding's own.

        Raises `MaterializerNotFound` for an encoding that is unknown, or newer than this release.
        """
        view = self._find_by_type(wanted) if wanted is not None else None
        if view and view.can_read(encoding):
            return view
        entry = self.encodings.get(encoding) or self._with_entry_points.encodings.get(encoding)
        if entry is None:
            # A materializer of the project may list it in `reads`, or be registered since.
            known = [entry for entry in self._with_entry_points.encodings.values() if not isinstance(entry, str)]
            readers = chain(known, (found for found, _ in user_defined.registered_materializers()))
            entry = next((found for found in readers if found.can_read(encoding)), None)
        if entry is None:
            raise MaterializerNotFound(self._unknown_encoding_message(encoding))
        return self._instantiate(entry)

    def register(self, materializer: type[Materializer], replace: bool = False) -> MaterializerRegistry:
        """Return a registry that also knows `materializer`.

        Raises `AlreadyExists` when another one has its encoding or one of its types, unless `replace`.
        """
        types = {**self.types, **dict.fromkeys(materializer.type_names(), materializer)}
        encodings = {**self.encodings, materializer.encoding: materializer}
        known, declared = {**self.types, **self.encodings}, (*materializer.type_names(), materializer.encoding)
        taken = [name for name in sorted(declared) if known.get(name, materializer) is not materializer]
        if taken and not replace:
            whose = ", ".join(f"{name} of {entry_name(known[name])}" for name in taken)
            raise AlreadyExists(
                f"{entry_name(materializer)} cannot be registered beside {whose}. Give it another encoding and types "
                f"of its own, pass replace=True to take their place, or name it on the outputs that it is for: "
                f"Annotated[T, Artifact(materializer={materializer.__qualname__})]."
            )
        return structs.replace(self, types=types, encodings=encodings)

    def with_materializers(self, materializers: Iterable[type[Materializer]]) -> MaterializerRegistry:
        """Return a registry that also reads the encodings of `materializers`; it saves each type as before."""
        return structs.replace(self, encodings={**self.encodings, **{cls.encoding: cls for cls in materializers}})

    @cached_property
    def _with_entry_points(self) -> MaterializerRegistry:
        """This registry and the materializers of other distributions; raises `AlreadyExists` for a conflict."""
        return reduce(MaterializerRegistry.register, self.from_entry_points(), self)

    def _save_batches(self, batches: Iterator[Any], directory: Path) -> SavedValue:
        """Write what an iterator yields as one table, by the materializer of its first element."""
        first = next(batches, None)
        if first is None:
            raise SaveRefused(
                "The iterator yielded nothing, so the type of its elements is unknown. Yield at least one table, which may "
                "be empty."
            )
        writer = self.for_type(type(first))
        with _missing_library_errors(writer), named_definitions() as named:
            saved = writer.save_batches(chain([first], batches), directory)
        return self._saved_value(saved.materializer, saved.type, saved.summary, directory, named)

    def _saved_value(
        self, materializer: Materializer, cls: type, summary: Mapping[str, Any], directory: Path, named: Iterable[Any]
    ) -> SavedValue:
        try:
            json.dumps(summary)
        except (TypeError, ValueError) as error:
            raise SaveRefused(
                f"The summary that {type(materializer).__qualname__}.save returned is not JSON: {error}. Return texts, "
                "numbers, lists and dicts of Python's own."
            ) from error
        parts = [self.for_encoding(part["encoding"]) for part in summary.get("parts", ())]
        code = project_code(named)
        summary = {**summary, **({"code": code} if code else {})}
        names = {name for writer in (materializer, *parts) for name in writer.libraries}
        return SavedValue(
            encoding=materializer.encoding,
            type=type_name(cls),
            summary={name: fact for name, fact in summary.items() if name != "hashes"},
            libraries={name: installed_version(name) for name in sorted(names) if installed_version(name)},
            hashes=summary.get("hashes", {}),
            inline=materializer.inline and all(path.is_file() for path in directory.iterdir()),
        )

    def _previewer_of(
        self, value: Any, encoding: str, summary: Mapping[str, Any], by: type[Materializer] | None
    ) -> Materializer | None:
        """Return the materializer that makes the preview: by the value's type, by its encoding, or for previews only.

        A container without a preview of its own is shown by its members that are stored as files. A value that is one
        small JSON object is not read again.
        """
        known = [self._instantiate(by)] if by else [self._find_by_type(type(value)), self.for_encoding(encoding)]
        preview_only = map(catalog.PREVIEW_ONLY.get, base_names(type(value)))
        candidates = chain(known, (self._instantiate(entry) for entry in preview_only if entry))
        found = next((candidate for candidate in candidates if candidate and candidate.has_preview), None)
        if found is None and encoding == _TYPED_JSON and summary.get("parts"):
            return self._instantiate(catalog.MEMBERS_PREVIEW)
        return found

    def _find_by_type(self, cls: type, *, for_saving: bool = False) -> Materializer | None:
        """Return the materializer of a type's nearest base that has one; None if there is none.

        Raises `MaterializerNotFound`, if it is `for_saving`, when an unregistered materializer declares that base.
        """
        entry = self._find_entry(cls, for_saving=for_saving)
        return self._instantiate(entry) if entry else None

    def _find_entry(self, cls: type, *, for_saving: bool = False) -> MaterializerEntry | None:
        entry = self.types.get(type_name(cls))
        if entry is None:
            types = self._all_types
            others = user_defined.project_materializers() if for_saving else ()
            declaring = [other for other in others if "types" in vars(other)]
            unregistered = {name: other for other in declaring for name in other.type_names() if name not in types}
            nearest = next((name for name in base_names(cls) if name in types or name in unregistered), "")
            if nearest in unregistered:
                hint = user_defined.unregistered_hint(unregistered[nearest])
                raise MaterializerNotFound(f"No materializer saves {type_name(cls)}. {hint}")
            entry = types.get(nearest) or _entry_by_kind(cls)
        return entry

    @property
    def _all_types(self) -> Entries:
        # A step may import the module of a materializer only when it runs, after its registry was made.
        late = {name: found for found, _ in user_defined.registered_materializers() for name in found.type_names()}
        return {**late, **self._with_entry_points.types}

    @property
    def _has_only_built_in_types(self) -> bool:
        return all(isinstance(entry, str) for entry in self._all_types.values())

    def _instantiate(self, entry: MaterializerEntry) -> Materializer:
        return load_entry(entry)(self)

    def _unknown_encoding_message(self, encoding: str) -> str:
        family = encoding.rpartition("@")[0]
        known = sorted(known for known in self.encodings if known.rpartition("@")[0] == family)
        if known:
            return (
                f"This airflow_zen reads {', '.join(known)}, not {encoding!r}. Install the airflow-provider-zen that "
                f"wrote it, or a newer one."
            )
        readers = (found for found in user_defined.project_materializers() if found.can_read(encoding))
        remedy = (
            "Register the one that wrote it with @register_materializer, or name it on the parameter: "
            "Annotated[T, Artifact(materializer=…)]."
        )
        return f"No materializer reads {encoding!r}. {next(map(user_defined.unregistered_hint, readers), remedy)}"


def default_registry(allow_pickle: bool = False) -> MaterializerRegistry:
    """Return the registry of the built-in materializers and of those that the project registered.

    `allow_pickle` adds cloudpickle as the last resort. Raises `AlreadyExists` if two materializers declare the
    same type or encoding.
    """
    registry = MaterializerRegistry(
        catalog.TYPES, catalog.ENCODINGS, allow_pickle, user_defined.entry_point_materializers
    )
    for materializer, replace in user_defined.registered_materializers():
        registry = registry.register(materializer, replace)
    return registry


def _save_summary(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    with _missing_library_errors(materializer):
        try:
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


def _entry_by_kind(cls: type) -> MaterializerEntry | None:
    """Return the materializer of a class without a known base: an estimator by scikit-learn's API, or a dataclass."""
    follows_api = catalog.ESTIMATOR_METHODS.intersection(dir(cls)) and hasattr(cls, "fit")
    if follows_api and not catalog.alternative(base_names(cls)):  # such as Lightning's Trainer
        return catalog.ENCODINGS[_ESTIMATOR]
    return catalog.ENCODINGS[_TYPED_JSON] if is_dataclass(cls) else None


@contextmanager
def _missing_library_errors(materializer: Materializer) -> Iterator[None]:
    """Translate a missing library into an error that names the package to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = f"airflow-provider-zen[{materializer.extra}]" if materializer.extra else error.name
        raise MaterializerNotFound(
            f"{materializer.encoding} needs {error.name}, which is not installed here. Install {package}."
        ) from error


@contextmanager
def _read_errors(
    materializer: Materializer, encoding: str, wanted: Any, source: Path | ArtifactReader
) -> Iterator[None]:
    """Raise `ArtifactCorrupt` for files that cannot be read, `ArtifactRefused` for a value without a form as `wanted`."""
    try:
        with _missing_library_errors(materializer):
            yield
    except (ZenError, ImportError, MemoryError):
        raise
    except Exception as error:
        # Libraries raise OSError without a number for files that they cannot read.
        if isinstance(error, OSError) and error.errno not in (None, EINVAL):
            raise
        # The text may list all columns of a table.
        reason = shorten(str(error), _MAX_ERROR_LENGTH, placeholder="…").rstrip(".")
        if materializer.encoding == encoding:
            raise ArtifactCorrupt(
                f"{source} is stored as {encoding}, and cannot be read: {type(error).__name__}: {reason}. Read it with the "
                "versions of libraries that its manifest.json lists, or run the step that made it again."
            ) from error
        name = type_name(wanted) if isinstance(wanted, type) else wanted
        raise ArtifactRefused(
            f"An artifact stored as {encoding} cannot be loaded as {name}: {reason}. Load it as the saved type, or "
            "without a type, and convert it."
        ) from error


def _guard_batches(batches: Iterator[Any], errors: Callable[[], AbstractContextManager[None]]) -> Iterator[Any]:
    with errors():
        yield from batches
