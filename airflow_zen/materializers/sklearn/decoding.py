"""Estimators from typed JSON and arrays; the class of each object is checked before any of its code runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import sklearn
from sklearn.base import BaseEstimator

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.registry import MaterializerRegistry, default_registry
from airflow_zen.materializers.sklearn.archive import VERSION_ATTRIBUTE, EstimatorArchive
from airflow_zen.materializers.sklearn.codecs import CODECS, refuse_pickle
from airflow_zen.materializers.sklearn.trust import is_reconstructor, load_class, load_function, untrusted_names
from airflow_zen.materializers.typed_json import part_loader
from airflow_zen.materializers.typed_json.codec import TAG, Json
from airflow_zen.materializers.typed_json.encoding import Decoder

# Deeper objects, such as the leaves of Birch, each of which knows the next, get their state after the others.
_MAX_NESTED_OBJECTS = 50
# Its __setstate__ does nothing, for the sake of old pickles.
_BUNCH = "sklearn.utils._bunch:Bunch"
_MISSING = object()


def read_estimator(registry: MaterializerRegistry, file: Path, wanted: type | None = None) -> Any:
    """Read the file of an estimator, which `write_estimator` wrote, or skops.

    Raises `ArtifactRefused` for classes and functions that are not trusted here, whatever `MLmodel` trusts.
    """
    with file.open("rb") as opened:
        archive = EstimatorArchive.open(opened)
        return _read_skops(file) if archive is None else _read_archive(registry, archive, wanted)


class StoredEstimator:
    """The object in the skops file: mlflow loads that file, and the object becomes the estimator."""

    def __setstate__(self, contents: Sequence[bytes]) -> None:
        """Become the estimator of the files' contents; raises `ArtifactRefused` where its class does not allow that."""
        archive = EstimatorArchive.of_contents(contents)
        try:
            _read_archive(default_registry(), archive, shell=self)
        except TypeError as error:
            raise ArtifactRefused(
                f"mlflow cannot load this estimator: {error}. Load the artifact with airflow_zen.load."
            ) from error


def _read_archive(
    registry: MaterializerRegistry, archive: EstimatorArchive, wanted: Any = None, shell: Any = None
) -> Any:
    """Return the estimator of an archive, which `shell` becomes if it is given."""
    with TemporaryDirectory(prefix="estimator-") as directory:
        archive.extract("parts/", Path(directory))
        load_part = part_loader(registry, Path(directory))
        return EstimatorDecoder(archive, load_part, wanted, shell).decode_estimator()


def _read_skops(file: Path) -> Any:
    """Read a file that skops wrote, of `sklearn.mlflow@1` or `lightgbm.mlflow@1`."""
    found = _skops_io().get_untrusted_types(file=file)
    if untrusted := untrusted_names(found):
        raise ArtifactRefused(
            f"{file.name} contains {', '.join(untrusted)}, which are not loaded. Save the model again with parts of "
            f"scikit-learn, NumPy and SciPy only."
        )
    return _skops_io().load(file, trusted=found)


@cache
def _skops_io() -> Any:
    # skops asks every loaded module for the names of SciPy's ufuncs, and Airflow's deprecated names answer with warnings.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import skops.io
    return skops.io


class EstimatorDecoder(Decoder):
    """Read what `EstimatorEncoder` wrote. `shell` is an existing object that becomes the estimator."""

    imports_libraries = True

    def __init__(
        self,
        archive: EstimatorArchive,
        load_part: Callable[[Mapping[str, Json], Any], Any],
        wanted: Any = None,
        shell: Any = None,
    ) -> None:
        super().__init__(load_part, wanted)
        self._archive, self._shell = archive, shell
        self._entries: list[Json] = archive.document["objects"]
        self._objects: dict[int, Any] = {}
        self._classes: dict[str, type] = {}
        self._pending: list[tuple[Any, Json]] = []
        self._depth = 0

    def decode_estimator(self) -> Any:
        """Return the estimator; raises `ArtifactRefused` for a class or function that is not trusted."""
        estimator = self.decode(self._archive.document["root"])
        while self._pending:
            self._set_state(*self._pending.pop())
        return estimator

    def decode(self, node: Json, declared: Any = None) -> Any:
        """Read one value."""
        if not isinstance(node, dict):
            return node if not isinstance(node, list) else [self.decode(item) for item in node]
        tag = node.get(TAG)
        if tag is None:
            return {name: self.decode(item) if isinstance(item, dict | list) else item for name, item in node.items()}
        if tag == "object":
            return self._build(node["number"])
        read = _READERS.get(tag)
        if read is not None:
            return read(self, node)
        codec = CODECS.get(tag)
        return codec.decode(node, self) if codec else super().decode(node)

    def _build(self, number: int) -> Any:
        found = self._objects.get(number, _MISSING)
        if found is not _MISSING:
            return found
        entry = self._entries[number]
        self._depth += 1
        try:
            return (
                self._build_container(number, entry["value"]) if "value" in entry else self._build_object(number, entry)
            )
        finally:
            self._depth -= 1

    def _build_container(self, number: int, node: Json) -> Any:
        """Return a list, dict or array that several places hold; a list and a dict may contain themselves."""
        kind = node.get(TAG, "dict")
        empty: Any = {"list": list, "dict": dict}.get(kind, lambda: None)()
        if empty is None:
            self._objects[number] = value = self.decode(node)
            return value
        self._objects[number] = empty
        (empty.extend if kind == "list" else empty.update)(self.decode(node))
        return empty

    def _build_object(self, number: int, entry: Mapping[str, Json]) -> Any:
        arguments = self._list(entry["arguments"]) if "arguments" in entry else []
        if "class" in entry:
            cls = self._class(entry["class"])
            value = self._become(cls) if number == 0 and self._shell is not None else cls.__new__(cls, *arguments)
        else:
            value = self._maker(entry["call"])(*arguments)
        self._objects[number] = value
        if self._depth > _MAX_NESTED_OBJECTS:
            self._pending.append((value, entry))
        else:
            self._set_state(value, entry)
        return value

    def _become(self, cls: type) -> Any:
        self._shell.__class__ = cls
        return self._shell

    def _class(self, name: str) -> type:
        if name not in self._classes:
            self._classes[name] = load_class(name, self.wanted)
        return self._classes[name]

    def _maker(self, name: str) -> Any:
        if name.rpartition(":")[2].startswith(("__", "newObj")):
            function = load_function(name, self.wanted)
            if is_reconstructor(function):
                return function
        return self._class(name)

    def _set_state(self, value: Any, entry: Mapping[str, Json]) -> None:
        if "items" in entry:
            value.extend(self._list(entry["items"]))
        for key, item in entry.get("pairs", ()):
            value[self.decode(key)] = self.decode(item)
        if "state" not in entry:
            return
        state = self.decode(entry["state"])
        if hasattr(value, "__setstate__") and entry.get("class") != _BUNCH:
            if isinstance(value, BaseEstimator) and type(value).__module__.startswith("sklearn."):
                state.setdefault(VERSION_ATTRIBUTE, sklearn.__version__)
            value.__setstate__(state)
            return
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        vars(value).update(attributes or {})
        for name, item in (slots or {}).items():
            setattr(value, name, item)

    def _list(self, node: Json) -> list[Any]:
        """Return the items of a list, which are numbers of one dtype in an array, or nodes."""
        if isinstance(node, dict):
            return list(self._archive.array(node["of"]))
        return [self.decode(item) if isinstance(item, dict | list) else item for item in node]

    def read_dict(self, node: Mapping[str, Json]) -> dict[Any, Any]:
        """Return a dict of any keys, or of text and NumPy numbers of one dtype."""
        if "keys" in node:
            return dict(zip(node["keys"], self._archive.array(node["scalars"]), strict=True))
        return {self.decode(key): self.decode(item) for key, item in node["pairs"]}

    def read_objects(self, node: Mapping[str, Json]) -> Any:
        """Return an array of Python objects."""
        items = self._list(node["items"])
        array = np.empty(len(items), dtype=object)
        for at, item in enumerate(items):
            array[at] = item
        return array.reshape(node["shape"], order=node["order"])

    def read_masked(self, node: Mapping[str, Json]) -> Any:
        """Return a masked array."""
        mask = np.ma.nomask if node["mask"] is None else self.decode(node["mask"])
        array: Any = np.ma.MaskedArray(self.decode(node["data"]), mask=mask, hard_mask=node["hard"])
        array._fill_value = self.decode(node["fill"])  # noqa: SLF001 - the argument would be converted
        return array

    def read_bytes(self, kind: type, node: Mapping[str, Json]) -> Any:
        """Return bytes; raises `ArtifactRefused` for a pickle."""
        data = kind(self._archive.array(node["in"]).tobytes()) if "in" in node else super().decode(node)
        refuse_pickle(data, ArtifactRefused)
        return data

    def read_array(self, node: Mapping[str, Json]) -> Any:
        """Return a numeric array."""
        return self._archive.array(node)

    def read_list(self, node: Mapping[str, Json]) -> list[Any]:
        """Return a list."""
        return self._list(node["items"])

    def read_tuple(self, node: Mapping[str, Json]) -> tuple[Any, ...]:
        """Return a tuple."""
        return tuple(self._list(node["items"]))


_READERS: Mapping[str, Callable[[EstimatorDecoder, Mapping[str, Json]], Any]] = {
    "array": EstimatorDecoder.read_array,
    "bytearray": lambda decoder, node: decoder.read_bytes(bytearray, node),
    "bytes": lambda decoder, node: decoder.read_bytes(bytes, node),
    "dict": EstimatorDecoder.read_dict,
    "list": EstimatorDecoder.read_list,
    "masked": EstimatorDecoder.read_masked,
    "objects": EstimatorDecoder.read_objects,
    "tuple": EstimatorDecoder.read_tuple,
}
