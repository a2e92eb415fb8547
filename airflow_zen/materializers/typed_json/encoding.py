"""Encode values as typed JSON and decode them; the values inside that are stored in files beside it."""

from __future__ import annotations

import json
import math
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin

import msgspec

from airflow_zen.artifacts.reader import ArtifactReader
from airflow_zen.errors import ArtifactRefused, LocatedError, MaterializerNotFound, SaveRefused
from airflow_zen.materializers.annotations import element_type, strip_annotation
from airflow_zen.materializers.catalog import GENERAL_ADVICE, alternative
from airflow_zen.materializers.files import is_large_bytes
from airflow_zen.materializers.typed_json.codec import (
    BUILTIN_CODECS,
    JSON_EXCEPTION_CODECS,
    PYTHON_CODECS,
    TAG,
    Codec,
    Json,
    record_codec,
)
from airflow_zen.materializers.user_defined import is_project_package
from airflow_zen.type_names import base_names, resolve_class, type_name

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry

MAX_DEPTH = 100
_CANONICAL_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_MAX_DECIMAL_BITS = 4096
_MIN_DECIMAL, _MAX_DECIMAL = 1e-4, 1e16
_MAX_ITEMS = 256
_TAG_BYTES = f'"{TAG}":'.encode()
_MAX_KEY_LENGTH = 60
_PACKAGE = "airflow_zen.materializers"
# Modules with the codecs of a library's values, imported when such a value appears.
_MODULE_OF_LIBRARY = {
    "numpy": f"{_PACKAGE}.numpy.scalars",
    "pandas": f"{_PACKAGE}.pandas.scalars",
    "pendulum": f"{_PACKAGE}.typed_json.pendulum",
}


class Encoder:
    """Write a value as JSON from which exactly its types come back; raise `SaveRefused` if that is not possible.

    A value that is not JSON (a DataFrame inside a dict) is saved by `parts`.
    """

    def __init__(self, parts: NestedValues) -> None:
        self._parts = parts
        self._ancestors: dict[int, Any] = {}

    def encode(self, value: Any) -> Json:
        """Write one value, and all below it; raises `SaveRefused`."""
        kind = type(value)
        is_json = _IS_JSON_SCALAR.get(kind)
        if is_json is not None:
            codec = None if is_json(value) else JSON_EXCEPTION_CODECS[kind]
            return {TAG: codec.tag, **codec.encode(value, self)} if codec else value
        if id(value) in self._ancestors:
            raise SaveRefused(f"A {kind.__qualname__} contains itself. Leave that reference out.")
        if len(self._ancestors) >= MAX_DEPTH:
            raise SaveRefused(f"A value is nested more than {MAX_DEPTH} levels deep. Flatten it.")
        self._ancestors[id(value)] = value
        try:
            return self._encode_composite(value, kind)
        except LocatedError as error:
            self.add_place(error, value)
            raise
        finally:
            del self._ancestors[id(value)]

    def add_place(self, error: LocatedError, value: Any) -> None:
        """Prepend to the place of an error what the value around `value` calls it."""
        around = [held for held in self._ancestors.values() if held is not value]
        error.nest(_name_in(around[-1], value) if around else "")

    def encode_unordered(self, values: Any) -> list[Json]:
        """Write the elements of a set in the order of their JSON text, which does not depend on hash seeds."""
        nested = Encoder(InlineOnly(self._parts.registry, "a set", "Keep the values in a list."))
        nested._ancestors = self._ancestors
        return sorted((nested.encode(value) for value in values), key=canonical_json)

    def unsupported_error(self, value: Any, remedy: str) -> SaveRefused:
        """Return the error for a value that would not come back exactly; `remedy` is a full sentence."""
        return SaveRefused(f"A value of type {type_name(type(value))} is not stored: {remedy}")

    def _encode_composite(self, value: Any, kind: type) -> Json:
        if self._parts.prefers_files and preferred_encoding(value):
            return {TAG: "part", **self._parts.save(value)}
        if kind is list:
            return list(value) if is_plain_json(value) else [self.encode(item) for item in value]
        if kind is dict and TAG not in value and all(type(key) is str and is_utf8(key) for key in value):
            return {key: self.encode(item) for key, item in value.items()}
        codec = codec_for_value(value)
        if codec is None and self._parts.registry.for_type(kind).encoding != "python.json@1":
            return {TAG: "part", **self._parts.save(value)}
        codec = codec or record_codec(kind)
        if codec is None:
            remedy = (
                f"only its base type is known, and coming back as that would change it. Convert it. {GENERAL_ADVICE}"
            )
            raise self.unsupported_error(value, alternative(base_names(kind)) or remedy)
        return {TAG: codec.tag, **codec.encode(value, self)}


class Decoder:
    """Read what `Encoder` wrote.

    `load_part` returns the value behind a reference to files beside the JSON, as the type that the consumer declared for
    it. `wanted` is the type that the consumer declared for the whole; classes are looked up in it first. While a codec
    runs, `declared` is the type that the consumer declared for the value it reads.
    """

    imports_libraries = False
    """Whether the classes of libraries that an artifact names are imported where they are not loaded."""

    def __init__(self, load_part: Callable[[Mapping[str, Json], Any], Any], wanted: Any = None) -> None:
        self.declared: Any = None
        self._load_part = load_part
        self.wanted = wanted

    def decode(self, node: Json, declared: Any = None) -> Any:
        """Read one node, and all below it, as the type that the consumer `declared` for it."""
        if isinstance(node, list):
            return self._decode_items(node, declared)
        if not isinstance(node, dict):
            return node
        tag = node.get(TAG)
        if tag is None:
            inner = element_type(declared)
            return {key: self.decode(item, inner) for key, item in node.items()}
        if tag == "part":
            return self._load_part(node, strip_annotation(declared))
        outer, self.declared = self.declared, declared
        try:
            return _codec_for_tag(tag).decode(node, self)
        finally:
            self.declared = outer

    def resolve_class(self, reference: str, kind: str, is_kind: Callable[[type], bool]) -> type:
        """Return a class after a check that it is a `kind`, so that an artifact cannot name just any callable.

        No module of Python or of a library is imported for it: those that DAG files use are loaded already.
        """
        package = reference.partition(".")[0].partition(":")[0]
        if not self.imports_libraries and package not in sys.modules and not is_project_package(package):
            raise ArtifactRefused(
                f"{reference} is needed to load this artifact, and {package!r} is a library that this process has not "
                f"imported. Import it in the DAG file, or annotate the parameter with the type."
            )
        cls = resolve_class(reference, self.wanted)
        if not is_kind(cls):
            raise ArtifactRefused(f"{reference} is not a {kind} here, and the artifact says it is one.")
        return cls

    def _decode_items(self, nodes: list[Json], declared: Any) -> list[Any]:
        if declared is None:
            return list(map(self.decode, nodes))
        if get_origin(strip_annotation(declared)) is tuple:
            return [self.decode(node, element_type(declared, at)) for at, node in enumerate(nodes)]
        inner = element_type(declared)
        return [self.decode(node, inner) for node in nodes]


class NestedValues:
    """Save values under `parts/<n>/` of an artifact, each by its own materializer.

    `saved` lists what has been saved so far, as `{"path", "encoding", "type"}`, with `shape` if it is known; `hashes` are
    those of files that were hashed while they were written.
    """

    prefers_files = True
    """Whether values of `preferred_encoding` are stored as files, although they could be JSON."""

    def __init__(self, registry: MaterializerRegistry, directory: Path) -> None:
        self.registry = registry
        self.saved: list[dict[str, Any]] = []
        self.hashes: dict[str, str] = {}
        self._directory = directory

    def save(self, value: Any) -> Mapping[str, str]:
        """Save one value, and return the reference to it; raises `SaveRefused` for a query plan or a stream."""
        if not isinstance(value, self.registry.for_type(type(value)).stored_type(value)):
            raise SaveRefused(
                f"A {type_name(type(value))} inside another value is not stored, because it would come back as its result. "
                "Collect it first, or return it as an output of its own."
            )
        path = f"parts/{len(self.saved)}"
        (self._directory / path).mkdir(parents=True)
        saved = self.registry.save(value, self._directory / path)
        self.hashes |= {f"{path}/{name}": known for name, known in saved.hashes.items()}
        reference = {"path": path, "encoding": saved.encoding, "type": saved.type}
        self.saved.append({**reference, **{name: saved.summary[name] for name in ("shape",) if name in saved.summary}})
        return reference


class InlineOnly(NestedValues):
    """Refuse nested files in a `location` that has none, such as a set or a cell of a table."""

    prefers_files = False

    def __init__(self, registry: MaterializerRegistry, location: str, remedy: str) -> None:
        super().__init__(registry, Path())
        self._location, self._remedy = location, remedy

    def save(self, value: Any) -> Mapping[str, str]:
        """Raise `SaveRefused`."""
        raise SaveRefused(f"A {type_name(type(value))} in {self._location} is not stored. {self._remedy}")


def preferred_encoding(value: Any) -> str:
    """Return the encoding of a value that could be JSON but is stored as one file: large bytes, a dict of tensors; else ""."""
    if is_large_bytes(value):
        return "python.bytes@1"
    if "torch" not in sys.modules or type(value) not in (dict, OrderedDict) or not value:
        return ""
    named_tensors = (type(key) is str and "torch.Tensor" in base_names(type(item)) for key, item in value.items())
    return "torch.state@1" if all(named_tensors) else ""


class DirectoryReader(ArtifactReader):
    """Read one local directory as if it were an artifact of its own."""

    def __init__(self, directory: Path) -> None:
        self._local_directory = directory

    def stream(self, name: str) -> None:
        """Return None: no file is downloaded."""

    def object_store_url(self, name: str) -> None:
        """Return None: the file is local."""


def canonical_json(node: Json) -> str:
    """Write JSON as the one text that this encoding uses for it."""
    return _CANONICAL_ENCODER.encode(node)


def plain_json(value: Any) -> bytes | None:
    """Return the canonical JSON of a value that needs no tags, as UTF-8; None for any other, which an `Encoder` writes.

    Measured on a dict of 1,000 floats, of which most of the time is the decimal text: json takes 0.5 ms, msgspec 0.05.
    """
    if type(value) is list and len(value) > _MAX_ITEMS:
        # So one small float does not decide for all.
        parts = [plain_json(value[at : at + _MAX_ITEMS]) for at in range(0, len(value), _MAX_ITEMS)]
        texts = [part[1:-1] for part in parts if part is not None]
        return b"[%s]" % b",".join(texts) if len(texts) == len(parts) else None
    if (floats := _json_floats(value)) is None:
        return None
    # The digits of a float are the shortest that give it back; where there is an exponent, msgspec writes it otherwise.
    usual = all(_MIN_DECIMAL <= abs(number) < _MAX_DECIMAL or not number for number in floats)
    try:
        text = msgspec.json.encode(value) if usual else canonical_json(value).encode()
    except ValueError:  # nan, an infinity, or text that UTF-8 does not have
        return None
    return text if _TAG_BYTES not in text else None


def _json_floats(value: Any) -> list[float] | None:
    """Return the floats in a value; None unless it and all that it holds are of JSON's types.

    All values of one depth are looked at together, in passes at C speed.
    """
    level, floats = [value], list[float]()
    for _ in range(MAX_DEPTH):
        kinds = set(map(type, level))
        if not kinds <= _JSON_TYPES:
            return None
        if int in kinds and not _are_short([item for item in level if type(item) is int]):
            return None
        if float in kinds:
            floats += [item for item in level if type(item) is float]
        if not kinds & {list, dict}:
            return floats
        dicts = [item for item in level if type(item) is dict]
        if not set(map(type, chain.from_iterable(dicts))) <= {str}:
            return None
        lists = [item for item in level if type(item) is list]
        level = [*chain.from_iterable(map(dict.values, dicts)), *chain.from_iterable(lists)]
    return None


def _are_short(numbers: list[int]) -> bool:
    """Whether JSON has all of the integers as numbers of 64 bits."""
    return min(numbers) >= -(1 << 63) and max(numbers) < 1 << 63


def codec_for_value(value: Any) -> Codec | None:
    """Return the codec of a built-in value or a library's scalar; None for every other value."""
    if codec := BUILTIN_CODECS.get(type(value)):
        return codec
    libraries = (base.__module__.partition(".")[0] for base in type(value).__mro__)
    module = next((_MODULE_OF_LIBRARY[name] for name in libraries if name in _MODULE_OF_LIBRARY), None)
    found: Codec | None = import_module(module).library_codec(value) if module else None
    return found


@cache
def _codec_for_tag(tag: str) -> Codec:
    """Return the codec of a tag, such as `tuple` or `numpy.scalar`; raises `MaterializerNotFound`."""
    module = _MODULE_OF_LIBRARY.get(tag.partition(".")[0])
    codec = next((it for it in (import_module(module).CODECS if module else PYTHON_CODECS) if it.tag == tag), None)
    if codec is None:
        raise MaterializerNotFound(
            f"python.json@1 has a value tagged {tag!r}, which this airflow_zen does not read. Install a newer one."
        )
    return codec


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can encode a text; it cannot encode lone surrogates."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


_JSON_TYPES = frozenset({type(None), bool, int, float, str, list, dict})
_IS_JSON_SCALAR: dict[type, Callable[[Any], bool]] = {
    type(None): lambda _: True,
    bool: lambda _: True,
    int: lambda value: value.bit_length() <= _MAX_DECIMAL_BITS,
    float: math.isfinite,
    str: is_utf8,
}


def _name_in(holder: Any, value: Any) -> str:
    """Return what a container or a record calls a value that it holds: `['key']`, `[0]` or `.attribute`."""
    if isinstance(holder, Mapping):
        keys = (
            f", key {_short(key)}" if key is value else f"[{_short(key)}]"
            for key, held in holder.items()
            if held is value or key is value
        )
        return next(keys, "").removeprefix(", ")
    if hasattr(holder, "_fields"):
        return next((f".{name}" for name in holder._fields if getattr(holder, name) is value), "")
    if isinstance(holder, list | tuple | deque):
        return next((f"[{at}]" for at, held in enumerate(holder) if held is value), "")
    attributes = getattr(holder, "__dict__", {})
    return next((f".{name}" for name, held in attributes.items() if held is value), "")


def _short(key: Any) -> str:
    return repr(key) if len(repr(key)) <= _MAX_KEY_LENGTH else f"{repr(key)[:_MAX_KEY_LENGTH]}…"


def is_plain_json(values: list[Any]) -> bool:
    """Whether a long list is JSON as it is; determined in a few passes at C speed."""
    kinds = set(map(type, values))
    if len(kinds) != 1:
        return not kinds
    kind = kinds.pop()
    if kind is str:
        return all(map(str.isascii, values))
    if kind is float:
        return all(map(math.isfinite, values))
    return kind is bool or (kind is int and _are_short(values))
