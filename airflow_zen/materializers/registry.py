"""Choose the materializer of a value, a type or an encoding; save and load through it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from dataclasses import replace as dc_replace
from functools import cached_property
from io import IOBase
from itertools import chain
from pathlib import Path
from typing import Any

from airflow_zen.artifacts.source import ArtifactSource
from airflow_zen.errors import AlreadyExists, MaterializerNotFound, SaveRefused
from airflow_zen.materializers import catalogue
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.defined import DefinedMaterializers, defined
from airflow_zen.materializers.entries import Entry, entry_name, imported
from airflow_zen.materializers.explained import needing, viewed, viewing
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.registered import decorated, from_distributions
from airflow_zen.materializers.saved import Saved
from airflow_zen.materializers.versions import installed
from airflow_zen.materializers.views import View


@dataclass(frozen=True)
class MaterializerRegistry:
    """Know one materializer for each type and each encoding; immutable, passed, never global.

    `types` and `encodings` map a dotted type name, and an encoding, to a materializer class or to the
    `"module:Class"` that is imported when it is first needed. `offered` gives those of other
    distributions, `defined` those that a project has only written; they are asked, in this order, only about a type
    or an encoding that is not among these.
    """

    types: Mapping[str, Entry] = field(repr=False)
    encodings: Mapping[str, Entry] = field(repr=False)
    allow_pickle: bool = False
    offered: Callable[[], tuple[type[Materializer], ...]] = tuple
    defined: Callable[[], DefinedMaterializers] = DefinedMaterializers

    def save(
        self, value: Any, directory: Path, declared: type | None = None, by: type[Materializer] | None = None
    ) -> Saved:
        """Write a value into the empty `directory` by its declared type, or else by its own; or `by` a materializer.

        Tables that an iterator gives one by one are written as one, with one in memory at a time.

        Raises `MaterializerNotFound` for a type nobody saves, `SaveRefused` for a value that would not
        come back exactly. Where pickles are allowed, such a value is pickled instead.
        """
        if by is None and _is_stream(value) and self._known(type(value)) is None:
            return self._save_batches(value, directory)
        materializer = (self._build(by) if by else self._for_declared(value, declared)).for_value(value)
        try:
            summary = _save(materializer, value, directory)
        except SaveRefused:
            if not self.allow_pickle or materializer.encoding == "cloudpickle@1":
                raise
            _empty(directory)
            materializer = self.for_encoding("cloudpickle@1")
            summary = _save(materializer, value, directory)
        return self._saved(materializer, materializer.stored_type(value), summary, directory)

    def load(self, directory: Path, encoding: str, wanted: Any = None) -> Any:
        """Read the value of `encoding` back, as `wanted` where its materializer has that view.

        `directory` must live as long as the value. `wanted=pathlib.Path` gives the files themselves.
        """
        materializer = self.for_encoding(encoding, wanted if isinstance(wanted, type) else None)
        with needing(materializer), viewing(materializer, encoding, wanted):
            return materializer.load(directory, encoding, wanted)

    def load_from(self, source: ArtifactSource, encoding: str, wanted: Any = None) -> Any:
        """Read the value of `encoding` from its store, as `load` does from a directory; its files are fetched as needed."""
        materializer = self.for_encoding(encoding, wanted if isinstance(wanted, type) else None)
        with needing(materializer), viewing(materializer, encoding, wanted):
            return materializer.load_from(source, encoding, wanted)

    def shows(
        self, value: Any, encoding: str, summary: Mapping[str, Any], by: type[Materializer] | None = None
    ) -> bool:
        """Tell whether there can be a preview of a value that was stored under `encoding`."""
        return self._shown_by(value, encoding, summary, by) is not None

    def preview(
        self, value: Any, encoding: str, summary: Mapping[str, Any], by: type[Materializer] | None = None
    ) -> Mapping[str, bytes | str]:
        """Show a value that was stored under `encoding`; nothing where nobody shows its like."""
        materializer = self._shown_by(value, encoding, summary, by)
        if materializer is None:
            return {}
        with needing(materializer):
            return materializer.preview(value, summary)

    def load_view(self, source: ArtifactSource, encoding: str, view: View) -> Any:
        """Read what a view asks for, and no more, through the materializer of its class."""
        materializer = self.for_encoding(encoding, view.cls)
        with needing(materializer), viewing(materializer, encoding, view):
            found = materializer.load_view(source, encoding, view)
        return viewed(found, materializer, encoding, view) if view.batches else found

    def reads_part(self, encoding: str, view: View) -> bool:
        """Tell whether a view is of less than the whole value at once; `Iterable[T]` of what is no table is not."""
        if view.columns or (view.batches and self.for_encoding(encoding).is_table):
            return True
        found = self._known(view.cls) if view.cls is not None and not view.batches else None
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
        found = self._known(cls)
        if found is not None:
            return found
        if self.allow_pickle:
            return self._build(catalogue.PICKLE)
        raise MaterializerNotFound(
            f"No materializer saves {type_name(cls)}. {catalogue.remedy(type_name(base) for base in cls.__mro__)} Otherwise register one for it, or set "
            f"[zen] allow_pickle = True."
        )

    def for_encoding(self, encoding: str, wanted: type | None = None) -> Materializer:
        """Find who reads an encoding: the materializer of `wanted` if it has that view, else its own.

        Raises `MaterializerNotFound` for an encoding that is unknown, or newer than this release.
        """
        view = self._known(wanted) if wanted is not None else None
        if view is not None and view.can_read(encoding):
            return view
        if encoding in self.encodings:
            return self._build(self.encodings[encoding])
        if encoding in self._with_offered.encodings:
            return self._build(self._with_offered.encodings[encoding])
        written = self.defined().for_encoding(encoding)
        if written is not None:
            return self._build(written)
        raise MaterializerNotFound(self._why_unknown(encoding))

    def register(self, materializer: type[Materializer], replace: bool = False) -> MaterializerRegistry:
        """Give a registry that also knows `materializer`.

        Raises `AlreadyExists` when another one has its encoding or one of its types, unless `replace`.
        """
        types = dict.fromkeys(materializer.type_names(), materializer)
        encodings = {materializer.encoding: materializer}
        taken = {**self._taken(self.types, types), **self._taken(self.encodings, encodings)}
        if taken and not replace:
            whose = ", ".join(f"{name} of {entry_name(entry)}" for name, entry in sorted(taken.items()))
            raise AlreadyExists(
                f"{entry_name(materializer)} cannot be registered beside {whose}. Give it another encoding and types "
                f"of its own, pass replace=True to take their place, or name it on the outputs that it is for: "
                f"Annotated[T, Artifact(materializer={materializer.__qualname__})]."
            )
        return self._also(types, encodings)

    def reading(self, materializers: Iterable[type[Materializer]]) -> MaterializerRegistry:
        """Give a registry that also reads the encodings of `materializers`, and saves what it saved before."""
        return self._also({}, {cls.encoding: cls for cls in materializers})

    def _also(self, types: Mapping[str, Entry], encodings: Mapping[str, Entry]) -> MaterializerRegistry:
        return dc_replace(self, types={**self.types, **types}, encodings={**self.encodings, **encodings})

    @staticmethod
    def _taken(known: Mapping[str, Entry], wanted: Mapping[str, Entry]) -> dict[str, Entry]:
        return {name: known[name] for name in wanted if name in known and known[name] is not wanted[name]}

    @cached_property
    def _with_offered(self) -> MaterializerRegistry:
        """Know the materializers of other distributions too; raises `AlreadyExists` where two want the same."""
        whole = self
        for materializer in self.offered():
            whole = whole.register(materializer)
        return whole

    def _save_batches(self, batches: Iterator[Any], directory: Path) -> Saved:
        """Write what an iterator gives below one another, by the materializer of its first element."""
        first = next(batches, None)
        if first is None:
            raise SaveRefused(
                "The iterator gave nothing, so nobody knows what it is an iterator of. Yield at least one table, if need "
                "be an empty one."
            )
        writer = self.for_type(type(first))
        with needing(writer):
            saved = writer.save_batches(chain([first], batches), directory)
        return self._saved(saved.materializer, saved.type, saved.summary, directory)

    def _saved(self, materializer: Materializer, cls: type, summary: Mapping[str, Any], directory: Path) -> Saved:
        try:
            json.dumps(summary)
        except (TypeError, ValueError) as error:
            raise SaveRefused(
                f"The summary that {type(materializer).__qualname__}.save returned is not JSON: {error}. Return texts, "
                "numbers, lists and dicts of Python's own."
            ) from error
        return Saved(
            encoding=materializer.encoding,
            type=type_name(cls),
            summary={name: fact for name, fact in summary.items() if name != "hashes"},
            libraries=self._versions(materializer, summary),
            hashes=summary.get("hashes", {}),
            inline=materializer.inline and all(path.is_file() for path in directory.iterdir()),
        )

    def _shown_by(
        self, value: Any, encoding: str, summary: Mapping[str, Any], by: type[Materializer] | None
    ) -> Materializer | None:
        """Find who shows a value: the materializer of its type, the one that stored it, or one that only shows.

        What has none is shown by its members, where some of them are files of their own: a value that is one small
        object costs no look into the store.
        """
        known = [self._build(by)] if by else [self._known(type(value)), self.for_encoding(encoding)]
        only_show = (catalogue.SHOWN.get(type_name(base)) for base in type(value).__mro__)
        candidates = chain(known, (self._build(entry) for entry in only_show if entry))
        shown = next((found for found in candidates if found and found.has_preview), None)
        if shown is None and encoding == "python.json@1" and summary.get("parts"):
            return self._build(catalogue.MEMBERS)
        return shown

    def _for_declared(self, value: Any, declared: type | None) -> Materializer:
        found = self._known(declared) if declared in type(value).__mro__ else None
        return found or self.for_type(type(value))

    def _known(self, cls: type) -> Materializer | None:
        if type_name(cls) in self.types:
            return self._build(self.types[type_name(cls)])
        types, defined = self._with_offered.types, self.defined()
        for base in cls.__mro__:
            entry = types.get(type_name(base)) or defined.for_type(type_name(base))
            if entry is not None:
                return self._build(entry)
        return self._build(catalogue.TREE) if is_dataclass(cls) else None

    def _build(self, entry: Entry) -> Materializer:
        return imported(entry)(self) if isinstance(entry, str) else entry(self)

    def _why_unknown(self, encoding: str) -> str:
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

    def _versions(self, materializer: Materializer, summary: Mapping[str, Any]) -> dict[str, str]:
        """Look up the distributions that wrote an artifact and its parts."""
        parts = [self.for_encoding(part["encoding"]) for part in summary.get("parts", ())]
        names = {name for writer in (materializer, *parts) for name in writer.libraries}
        return {name: installed(name) for name in sorted(names) if installed(name)}


def default_registry(allow_pickle: bool = False) -> MaterializerRegistry:
    """Build the registry of everything this package saves, and of what the project adds to it.

    `allow_pickle` adds cloudpickle as the last resort. Raises `AlreadyExists` where two materializers want the
    same type or encoding.
    """
    registry = MaterializerRegistry(catalogue.TYPES, catalogue.ENCODINGS, allow_pickle, from_distributions, defined)
    for materializer, replace in decorated():
        registry = registry.register(materializer, replace)
    return registry


def _is_stream(value: Any) -> bool:
    return isinstance(value, Iterator) and not isinstance(value, IOBase)


def _save(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    with needing(materializer):
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


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
