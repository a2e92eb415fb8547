"""The base class of materializers, and the records of what they write."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import msgspec

from airflow_zen.errors import ArtifactRefused, MaterializerDefinitionError, SaveRefused
from airflow_zen.materializers.catalog import GENERAL_ADVICE
from airflow_zen.type_names import base_names, module_name, type_name

if TYPE_CHECKING:
    from airflow_zen.artifacts.reader import ArtifactReader
    from airflow_zen.materializers.annotations import View
    from airflow_zen.materializers.registry import MaterializerRegistry

_ENCODING = re.compile(r"[^@\s]+@[0-9]+")

T = TypeVar("T")


class SavedBatches(msgspec.Struct, frozen=True):
    """The result of `save_batches`: the materializer that loads it, the type of the loaded value, and its summary."""

    materializer: Materializer
    type: type
    summary: Mapping[str, Any]


class StoredBatches(Iterator[T], Generic[T]):
    """Iterate over the batches of a stored table, from the first one or from that of a given row.

    `starts`: the number of the first row of each batch. `read` iterates over the batches from one on, by its position.
    """

    def __init__(self, starts: Sequence[int], read: Callable[[int], Iterator[T]]) -> None:
        self._starts = starts
        self._read = read
        self._batches: Iterator[T] | None = None

    def __next__(self) -> T:
        """Return the next batch; nothing is read before the first call."""
        if self._batches is None:
            self._batches = self._read(0)
        return next(self._batches)

    def skip_to(self, row: int) -> int:
        """Continue with the batch that has a row, without reading those before; return the number of its first row."""
        at = max(0, bisect_right(self._starts, row) - 1)
        self._batches = self._read(at)
        return self._starts[at]

    def transform(self, function: Callable[[Iterator[T], int], Iterator[Any]]) -> StoredBatches[Any]:
        """Return batches that `function` makes of these, and of the number of the first row."""
        return StoredBatches(self._starts, lambda at: function(self._read(at), self._starts[at]))


def transform_batches(batches: Iterator[Any], function: Callable[[Iterator[Any], int], Iterator[Any]]) -> Iterator[Any]:
    """Return what `StoredBatches.transform` does, for any iterator over batches."""
    return batches.transform(function) if isinstance(batches, StoredBatches) else function(batches, 0)


class SavedValue(msgspec.Struct, frozen=True):
    """The result of `MaterializerRegistry.save`: the facts of a manifest, without its files.

    `type` is the dotted name of the value's type, `libraries` the version of each distribution that wrote it. `inline`:
    whether its files are JSON text that may be part of the manifest. `hashes` are the hashes of files that were hashed
    while they were written.
    """

    encoding: str
    type: str
    summary: Mapping[str, Any]
    libraries: Mapping[str, str]
    inline: bool
    hashes: Mapping[str, str] = msgspec.field(default_factory=dict)


class Materializer:
    """Save one family of types as plain local files, and load it; a materializer knows nothing of storage.

    Class attributes declare what it does, so that its library is not imported to find it:

    `types`        the classes it saves, or their dotted names, e.g. `"pandas.DataFrame"`. A subclass
                   without an entry of its own is saved by the materializer of its nearest base.
    `encoding`     the label of the layout it writes, `"library.format@version"`.
    `reads`        the other encodings it can load: its own older ones, and those of other libraries
                   whose artifacts it can load as its own type (a view).
    `views`        dotted names of other types that `load` can return for its own files.
    `lazy_types`   those of `types` that read only the requested part of their files, and only when it is requested.
    `is_table`     True when `load_view` supports columns and batches.
    `libraries`    distributions whose versions are recorded in the manifest.
    `gives_paths`  True when a loaded value is a path of files, which must not be the store's own files.
    `own_folder`   True when the library of a loaded value writes into its folder, so that each step needs a copy.
    `inline`       True when its files are small JSON text that may be part of the manifest.
    `extra`        the extra of airflow-provider-zen that installs its library, if there is one.
    """

    types: ClassVar[tuple[str | type, ...]] = ()
    encoding: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    views: ClassVar[tuple[str, ...]] = ()
    lazy_types: ClassVar[tuple[str, ...]] = ()
    is_table: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()
    gives_paths: ClassVar[bool] = False
    own_folder: ClassVar[bool] = False
    inline: ClassVar[bool] = False
    extra: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        """Raise `MaterializerDefinitionError` for attributes that would never match a value or an artifact."""
        super().__init_subclass__(**options)
        name = cls.__qualname__
        if isinstance(cls.types, str):
            raise MaterializerDefinitionError(f"{name}.types is a tuple: write ({cls.types!r},).")
        for held in cls.type_names():
            if "." not in held:
                raise MaterializerDefinitionError(
                    f"{name}.types are classes, or their dotted names such as 'pandas.DataFrame', got {held!r}."
                )
        if not _ENCODING.fullmatch(getattr(cls, "encoding", "none.yet@0")):
            raise MaterializerDefinitionError(
                f"{name}.encoding is a label such as 'library.format@1', got {cls.encoding!r}."
            )

    def __init__(self, registry: MaterializerRegistry) -> None:
        self.registry = registry

    def for_value(self, value: Any) -> Materializer:
        """Return the materializer that saves this value: itself, or another one whose layout suits the value better."""
        return self

    @classmethod
    def type_names(cls) -> tuple[str, ...]:
        """Return the dotted names of the classes it saves."""
        return tuple(map(_type_name_of, cls.types))

    @classmethod
    def can_read(cls, encoding: str) -> bool:
        """Whether `load` reads an encoding."""
        return encoding == cls.encoding or encoding in cls.reads

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `value` into the empty `directory`; return its summary.

        The same value must give the same bytes in every process. The summary is JSON. `shape` is a
        short text for people; tables add `rows`, and `columns` as a list of `{"name", "type"}`. `hashes` may hold the
        `file_hash` of files by their path in `directory`, if writing computed it; it is not part of the manifest.
        Raises `SaveRefused` when `value` would not come back exactly.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no method save.")

    def stored_type(self, value: Any) -> type:
        """Return the type that `value` has after it is stored: its own, except for query plans and streams."""
        return type(value)

    def save_batches(self, batches: Iterator[Any], directory: Path) -> SavedBatches:
        """Write at least one table as one table, with one of them in memory at a time.

        Raises `SaveRefused` when their columns differ.
        """
        raise SaveRefused(
            f"No materializer saves an iterator of what {self.encoding} stores; only tables are written batch by batch. "
            "Return one value, or a list of them."
        )

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the value of `encoding` from `directory`, as `wanted` when the caller declared a type."""
        raise NotImplementedError(f"{type(self).__qualname__} has no method load.")

    def load_from(self, source: ArtifactReader, encoding: str, wanted: type | None = None) -> Any:
        """Read the value of `encoding` from its store; by default `load` it after all its files were fetched.

        Overridden by families that read a large remote file while it is downloaded.
        """
        return self.load(source.directory(), encoding, wanted)

    @property
    def has_preview(self) -> bool:
        """Whether it makes previews."""
        return type(self).preview is not Materializer.preview

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Return small files that show `value` to people, by name (`preview.html`, `preview.png`); none by default.

        Called after the value is stored, with the summary that `save` returned; it must not change the value. The
        functions of `airflow_zen.materializers.previews` escape what comes from the value, and make pages without scripts.
        """
        return {}

    def load_view(self, source: ArtifactReader, encoding: str, view: View) -> Any:
        """Read some columns, batches, or a lazy value; called for views that are partial or of a lazy type.

        Raises `ArtifactRefused` for a view that this family does not have.
        """
        raise ArtifactRefused(f"{encoding} is not read as {view}: only tables have columns and batches.")


def is_materializer(found: Any) -> bool:
    """Whether something is a subclass of `Materializer` that declares its encoding."""
    return isinstance(found, type) and issubclass(found, Materializer) and hasattr(found, "encoding")


def require_exact_type(value: Any, *types: str | type) -> None:
    """Raise `SaveRefused` for an instance of a subclass of `types`, which would come back as its base class."""
    if type(value) not in types and type_name(type(value)) not in types:
        base = next((name for name in base_names(type(value)) if name in map(_type_name_of, types)), "its base class")
        raise SaveRefused(
            f"{type_name(type(value))} is a subclass that would come back as {base}. Return an instance of that class. "
            f"{GENERAL_ADVICE}"
        )


def _type_name_of(held: str | type) -> str:
    return held if isinstance(held, str) else type_name(held)


@cache
def installed_version(distribution: str) -> str:
    """Return the version of a distribution; `""` when it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


MaterializerEntry = str | type[Materializer]
"""A class, or its `module:Class` as long as it is not imported."""


def entry_name(entry: MaterializerEntry) -> str:
    """Return an entry as `module:Class`."""
    return entry if isinstance(entry, str) else f"{module_name(entry)}:{entry.__qualname__}"


def load_entry(entry: MaterializerEntry) -> type[Materializer]:
    """Return the class of an entry; import it if necessary."""
    if not isinstance(entry, str):
        return entry
    module, _, name = entry.partition(":")
    cls: type[Materializer] = getattr(import_module(module), name)
    return cls
