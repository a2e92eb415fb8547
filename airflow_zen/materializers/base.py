"""What a materializer is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from airflow_zen.errors import ArtifactRefused, MaterializerDefinitionError, SaveRefused
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from airflow_zen.artifacts.reader import ArtifactReader
    from airflow_zen.materializers.annotations import View
    from airflow_zen.materializers.registry import MaterializerRegistry


_ENCODING = re.compile(r"[^@\s]+@[0-9]+")


class SavedBatches(msgspec.Struct, frozen=True):
    """What `save_batches` wrote: by which materializer, as the value of which type, and its summary."""

    materializer: Materializer
    type: type
    summary: Mapping[str, Any]


class Materializer:
    """Save and load one family of types as plain local files; know nothing of storage.

    Class attributes declare it without importing its library:

    `types`        the classes it saves, or their dotted names, e.g. `"pandas.DataFrame"`; a subclass
                   without an entry of its own is saved by its nearest base's materializer.
    `encoding`     the label of the layout it writes, `"library.format@version"`.
    `reads`        the other encodings it can load: older ones of its own, and those of sister libraries
                   whose artifacts it can show as its own type (a view).
    `views`        dotted names of types as which `load` gives its own files, beside `types`.
    `lazy_types`   those of `types` that read their files later, and only what is asked of them.
    `is_table`     True when `load_view` gives columns and batches of its values.
    `libraries`    distributions whose versions belong into the manifest.
    `gives_paths`  True when a value of it is the files themselves, and not the store's own.
    `own_folder`   True when a value keeps to its folder, and its library writes there: a folder of the step's own.
    `inline`       True when its files are small JSON text that may live in the manifest.
    `extra`        the extra of airflow-provider-zen that installs its library, where there is one.
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
        """Refuse where it is written what would only be missed when a value comes."""
        super().__init_subclass__(**options)
        if isinstance(cls.types, str):
            raise MaterializerDefinitionError(f"{cls.__qualname__}.types is a tuple: write ({cls.types!r},).")
        for name in cls.type_names():
            if "." not in name:
                raise MaterializerDefinitionError(
                    f"{cls.__qualname__}.types are classes, or their dotted names such as 'pandas.DataFrame', got {name!r}."
                )
        if not _ENCODING.fullmatch(getattr(cls, "encoding", "none.yet@0")):
            raise MaterializerDefinitionError(
                f"{cls.__qualname__}.encoding is a label such as 'library.format@1', got {cls.encoding!r}."
            )

    def __init__(self, registry: MaterializerRegistry) -> None:
        self.registry = registry

    def for_value(self, value: Any) -> Materializer:
        """Choose who saves this very value: itself, or a sister whose layout keeps it better."""
        return self

    @classmethod
    def type_names(cls) -> tuple[str, ...]:
        """Give the dotted names of the classes it saves."""
        return tuple(type_name(held) if isinstance(held, type) else held for held in cls.types)

    @classmethod
    def can_read(cls, encoding: str) -> bool:
        """Tell whether `load` understands an encoding."""
        return encoding == cls.encoding or encoding in cls.reads

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `value` into the empty `directory`; return its summary.

        The same value must give the same bytes in every process. The summary is JSON: `shape` is a
        short text for people; tables add `rows`, and `columns` as a list of `{"name", "type"}`. `hashes`, which no
        manifest shows, may give the `file_hash` of files by their path in `directory`, where writing found it out.
        Raises `SaveRefused` when `value` would not come back exactly.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no method save.")

    def stored_type(self, value: Any) -> type:
        """Give the type that `value` has once it is stored: its own, but for plans and streams."""
        return type(value)

    def save_batches(self, batches: Iterator[Any], directory: Path) -> SavedBatches:
        """Write values that together make one of this family, holding one at a time; at least one is given.

        Raises `SaveRefused` when they do not belong together.
        """
        raise SaveRefused(
            f"No materializer saves an iterator of what {self.encoding} stores; only tables are written batch by batch. "
            "Return one value, or a list of them."
        )

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the value of `encoding` back from `directory`, as `wanted` when the caller declared a type."""
        raise NotImplementedError(f"{type(self).__qualname__} has no method load.")

    def load_from(self, source: ArtifactReader, encoding: str, wanted: type | None = None) -> Any:
        """Read the value of `encoding` from where it lies; by default `load` it from the directory of its files.

        For families that read a large remote file while it arrives.
        """
        return self.load(source.directory(), encoding, wanted)

    @property
    def has_preview(self) -> bool:
        """Tell whether it shows values, which costs a look into the store."""
        return type(self).preview is not Materializer.preview

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Give small files that show `value` to people, by name (`preview.html`, `preview.png`); none by default.

        Called after the value is stored, with what `save` said of it; must not change it. Whatever comes from the
        value is escaped by `airflow_zen.materializers.previews`, whose pages run no script.
        """
        return {}

    def load_view(self, source: ArtifactReader, encoding: str, view: View) -> Any:
        """Read some columns, batches, or a lazy value; called for views that are partial or of a lazy type.

        Raises `ArtifactRefused` for a view that this family has not.
        """
        raise ArtifactRefused(f"{encoding} is not read as {view}: only tables have columns and batches.")


def is_materializer(found: Any) -> bool:
    """Tell whether something is a class that can save: a subclass of `Materializer` that says its encoding."""
    return isinstance(found, type) and issubclass(found, Materializer) and hasattr(found, "encoding")


class SavedValue(msgspec.Struct, frozen=True):
    """What `save` wrote: everything a manifest says beside the files themselves.

    `type` is the dotted name of the value's type, `libraries` the version of each distribution that
    wrote it, `inline` whether its files are JSON text that may live in the manifest, `hashes` the hashes of
    files that were hashed while they were written.
    """

    encoding: str
    type: str
    summary: Mapping[str, Any]
    libraries: Mapping[str, str]
    inline: bool
    hashes: Mapping[str, str] = msgspec.field(default_factory=dict)


@cache
def installed_version(distribution: str) -> str:
    """Give the version of a distribution; `""` where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


MaterializerEntry = str | type[Materializer]


def entry_name(entry: MaterializerEntry) -> str:
    """Name an entry as `module:Class`."""
    return entry if isinstance(entry, str) else f"{entry.__module__}:{entry.__qualname__}"


def load_entry(entry: str) -> type[Materializer]:
    """Import the class that `module:Class` names."""
    module, _, name = entry.partition(":")
    cls: type[Materializer] = getattr(import_module(module), name)
    return cls
