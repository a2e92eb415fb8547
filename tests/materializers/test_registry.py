"""Who saves what, who reads what, and how a deployment adds its own."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.linear_model import Ridge

from airflow_zen.artifacts.hashing import file_hash
from airflow_zen.errors import AlreadyExists, ArtifactRefused, MaterializerNotFound, SaveRefused
from airflow_zen.materializers import catalog
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.registry import default_registry
from tests.materializers import records as r

HEAVY = (
    "numpy", "pandas", "polars", "pyarrow", "sklearn", "skops", "pydantic", "cloudpickle", "mlflow", "airflow",
    "scipy", "xgboost", "lightgbm", "catboost", "onnx", "PIL", "plotly", "xarray", "geopandas", "torch", "tensorflow",
    "keras", "transformers", "datasets", "matplotlib",
)  # fmt: skip


class PlainMaterializer(Materializer):
    types = ("tests.materializers.records.Plain",)
    encoding = "plain.text@1"
    libraries = ("pytest", "no-such-distribution")

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        (directory / "a.txt").write_text(str(value.a))
        return {"shape": "one"}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        return r.Plain(int((directory / "a.txt").read_text()))


class OtherPlainMaterializer(PlainMaterializer):
    encoding = "plain.other@1"


class Row(TypedDict):
    a: int


class SubPlain(r.Plain):
    pass


class NeedsMissing(PlainMaterializer):
    types = ("tests.materializers.records.MyInt",)
    encoding = "missing.text@1"
    extra = "lightgbm"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        import no_such_library  # noqa: F401

        return {}


@pytest.mark.parametrize(
    ("cls", "encoding"),
    [
        (int, "python.json@1"),
        (type(None), "python.json@1"),
        (r.Color, "python.json@1"),
        (r.Name, "python.json@1"),
        (r.Point, "python.json@1"),
        (r.Params, "python.json@1"),
        (r.Settings, "python.json@1"),
        (np.float32, "python.json@1"),
        (pd.Timestamp, "python.json@1"),
        (type(Path()), "python.path@1"),
        (np.ndarray, "numpy.npy@1"),
        (np.ma.MaskedArray, "numpy.npy@1"),
        (pd.DataFrame, "pandas.parquet@1"),
        (pd.DatetimeIndex, "pandas.parquet@1"),
        (pa.Table, "pyarrow.parquet@1"),
        (pl.Series, "polars.parquet@1"),
        (Ridge, "sklearn.mlflow@3"),
    ],
)
def test_type_has_its_materializer(cls: type, encoding: str) -> None:
    """A type is saved by the materializer of its nearest base."""
    assert default_registry().for_type(cls).encoding == encoding


def test_older_spelling_of_a_type_is_found() -> None:
    """A class that its library moved is found by its public name, so pandas 2 and pandas 3 agree."""
    moved = type("DataFrame", (), {"__module__": "pandas.core.frame"})
    assert _found_as(moved, "pandas", "DataFrame") == "pandas.DataFrame"


def test_unknown_type_is_an_error_with_the_remedy() -> None:
    """A type nobody saves is refused by name, never pickled by itself."""
    with pytest.raises(MaterializerNotFound, match=r"tests\.materializers\.records\.Plain.*allow_pickle") as refusal:
        default_registry().for_type(r.Plain)
    assert isinstance(refusal.value, TypeError)


def test_newer_encoding_names_what_to_install() -> None:
    """An artifact of a newer layout says which layouts this release reads, and what to install."""
    with pytest.raises(MaterializerNotFound, match=r"reads pandas\.parquet@1, not 'pandas\.parquet@2'.*newer"):
        default_registry().for_encoding("pandas.parquet@2")


def test_unknown_encoding_names_the_remedy() -> None:
    """An artifact that an own materializer wrote says that it has to be registered."""
    with pytest.raises(MaterializerNotFound, match="No materializer reads 'mine@1'. Register"):
        default_registry().for_encoding("mine@1")


def test_missing_library_names_the_extra(tmp_path: Path) -> None:
    """A materializer whose library is not installed says what to install."""
    registry = default_registry().register(NeedsMissing)
    with pytest.raises(MaterializerNotFound, match=r"needs no_such_library.*airflow-provider-zen\[lightgbm\]"):
        registry.save(r.MyInt(1), tmp_path)


def test_registered_materializer_saves_and_loads(tmp_path: Path) -> None:
    """A deployment's own materializer serves its type and subclasses, and its encoding."""
    registry = default_registry().register(PlainMaterializer)
    saved = registry.save(SubPlain(3), tmp_path)
    assert (saved.encoding, saved.type) == ("plain.text@1", "tests.materializers.test_registry.SubPlain")
    assert saved.libraries == {"pytest": version("pytest")}
    assert registry.load(tmp_path, "plain.text@1").a == 3


def test_registered_type_inside_a_container_is_a_part(tmp_path: Path) -> None:
    """A dict of a registered type is one artifact, whose libraries are those of its parts too."""
    registry = default_registry().register(PlainMaterializer)
    saved = registry.save({"p": r.Plain(4)}, tmp_path)
    assert saved.libraries == {"pytest": version("pytest")}
    assert not saved.inline
    assert registry.load(tmp_path, saved.encoding)["p"].a == 4


def test_registering_leaves_the_old_registry_alone() -> None:
    """A registry is immutable: registering gives another one."""
    registry = default_registry()
    registry.register(PlainMaterializer)
    with pytest.raises(MaterializerNotFound):
        registry.for_type(r.Plain)
    with pytest.raises(AttributeError):
        registry.allow_pickle = True  # type: ignore[misc]


def test_two_materializers_for_one_type_are_an_error() -> None:
    """A type that is taken is replaced only where that is asked for."""
    registry = default_registry().register(PlainMaterializer)
    with pytest.raises(AlreadyExists, match=r"beside tests\.materializers\.records\.Plain of .*replace=True"):
        registry.register(OtherPlainMaterializer)
    assert registry.register(OtherPlainMaterializer, replace=True).for_type(r.Plain).encoding == "plain.other@1"


def test_declared_type_chooses_the_materializer(tmp_path: Path) -> None:
    """A value is saved by its declared type where that has a materializer, else by its own."""
    registry = default_registry().register(PlainMaterializer)
    assert registry.save(SubPlain(1), tmp_path, declared=r.Plain).encoding == "plain.text@1"
    assert registry.save(1, _new(tmp_path, "a"), declared=object).encoding == "python.json@1"
    assert registry.save(1, _new(tmp_path, "b"), declared=str).encoding == "python.json@1"
    assert registry.save({"a": 1}, _new(tmp_path, "c"), declared=Row).encoding == "python.json@1"


def test_path_shows_the_files_of_any_artifact(tmp_path: Path) -> None:
    """Asking for a Path gives the directory of an artifact's files."""
    registry = default_registry()
    saved = registry.save(pd.DataFrame({"a": [1]}), tmp_path)
    assert registry.load(tmp_path, saved.encoding, Path) == tmp_path
    assert registry.for_encoding("sklearn.mlflow@3", Path).encoding == "python.path@1"


def test_wanted_type_without_that_view_changes_nothing(tmp_path: Path) -> None:
    """Asking for a type that cannot show an artifact gives the value that was saved."""
    saved = default_registry().save(np.arange(3), tmp_path)
    assert type(default_registry().load(tmp_path, saved.encoding, pd.DataFrame)) is np.ndarray


def test_manifest_facts_of_a_frame(tmp_path: Path) -> None:
    """What is saved carries its public type name, its shape and columns, and the versions that wrote it."""
    saved = default_registry().save(pd.DataFrame({"a": [1, 2], 3: ["x", "y"]}), tmp_path)
    assert saved.type == "pandas.DataFrame"
    assert saved.summary == {
        "shape": "2 rows × 2 columns",
        "rows": 2,
        "columns": [
            {"name": "a", "type": "int64", "nulls": 0, "min": 1, "max": 2, "mean": 1.5, "distinct": 2},
            {"name": "3", "type": "str", "nulls": 0, "min": "x", "max": "y", "distinct": 2},
        ],
    }
    assert saved.libraries == {name: version(name) for name in ("numpy", "pandas", "pyarrow")}


def test_summary_of_a_wide_frame_is_bounded(tmp_path: Path) -> None:
    """Of a frame of 700 columns the summary lists 500 and counts the rest."""
    summary = default_registry().save(pd.DataFrame(np.zeros((1, 700))), tmp_path).summary
    assert len(summary["columns"]) == 500
    assert summary["columns_not_listed"] == 200


def test_small_values_are_inline_and_those_with_parts_are_not(tmp_path: Path) -> None:
    """Only JSON text may live in a manifest."""
    registry = default_registry()
    assert registry.save({"a": 1}, _new(tmp_path, "a")).inline
    assert not registry.save({"a": np.arange(5000)}, _new(tmp_path, "b")).inline
    assert not registry.save(np.arange(3), _new(tmp_path, "c")).inline


def test_pickle_is_the_last_resort_where_it_is_allowed(tmp_path: Path) -> None:
    """With allow_pickle a value that nothing else keeps exactly is pickled, whole or in its place."""
    registry = default_registry(allow_pickle=True)
    assert registry.save({"a": 1}, _new(tmp_path, "a"), declared=object).encoding == "python.json@1"
    assert registry.save(r.MyDict(a=1), _new(tmp_path, "b")).encoding == "cloudpickle@1"
    assert type(registry.load(tmp_path / "b", "cloudpickle@1")) is r.MyDict
    saved = registry.save({"p": r.Plain(5)}, _new(tmp_path, "c"))
    assert saved.encoding == "python.json@1"
    assert "cloudpickle" in saved.libraries
    assert registry.load(tmp_path / "c", saved.encoding)["p"].a == 5


def test_pickle_is_not_loaded_where_it_is_not_allowed(tmp_path: Path) -> None:
    """A pickle that lies in the store is not opened unless the deployment says so."""
    default_registry(allow_pickle=True).save(r.Plain(1), tmp_path)
    with pytest.raises(ArtifactRefused, match=r"\[zen\] allow_pickle"):
        default_registry().load(tmp_path, "cloudpickle@1")


def test_pickle_of_another_python_is_refused(tmp_path: Path) -> None:
    """A pickle is not read by another Python than the one that wrote it."""
    registry = default_registry(allow_pickle=True)
    registry.save(r.Plain(1), tmp_path)
    (tmp_path / "python.json").write_text('{"python": "3.8"}')
    with pytest.raises(ArtifactRefused, match=r"written by Python 3\.8"):
        registry.load(tmp_path, "cloudpickle@1")


def test_what_cannot_even_be_pickled_is_refused(tmp_path: Path) -> None:
    """A value that holds a lock is refused, also where pickles are allowed; the file that its library wrote is stored."""
    registry = default_registry(allow_pickle=True)
    with pytest.raises(SaveRefused, match="cannot be pickled either.*return the pathlib.Path of the file"):
        registry.save([threading.Lock()], _new(tmp_path, "refused"))
    with closing(sqlite3.connect(tmp_path / "rows.db")) as rows:
        rows.execute("create table t as select 7 as n")
        rows.commit()
        with pytest.raises(SaveRefused, match="A Connection cannot be pickled either"):
            registry.save(rows, tmp_path / "refused")
    saved = registry.save(tmp_path / "rows.db", _new(tmp_path, "stored"))
    with closing(sqlite3.connect(registry.load(tmp_path / "stored", saved.encoding))) as rows:
        assert rows.execute("select n from t").fetchall() == [(7,)]


def test_registry_imports_no_library() -> None:
    """Importing and building the registry, and saving a dict, imports none of the libraries it serves."""
    code = (
        "import sys, tempfile, pathlib\n"
        "from airflow_zen.materializers.registry import default_registry\n"
        "registry = default_registry()\n"
        "registry.save({'a': (1, 2)}, pathlib.Path(tempfile.mkdtemp()))\n"
        "[registry.for_encoding(encoding) for encoding in registry.encodings]\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("entry", sorted({*catalog.TYPES.values(), *catalog.ENCODINGS.values()}))
def test_catalog_agrees_with_the_classes(entry: str) -> None:
    """The catalog and the materializers declare the same types and encodings."""
    module, _, name = entry.partition(":")
    cls = getattr(import_module(module), name)
    assert catalog.ENCODINGS[cls.encoding] == entry
    assert set(cls.types) == {key for key, value in catalog.TYPES.items() if value == entry}
    assert set(cls.reads) <= set(catalog.ENCODINGS)


def test_wanted_class_is_used_before_any_other(tmp_path: Path) -> None:
    """A record comes back as the class the consumer declared, if it has the saved one's name."""
    registry = default_registry()
    saved = registry.save(r.Params(2), tmp_path)
    twin = dataclass(type("Params", (), {"__annotations__": r.Params.__annotations__, "__module__": r.__name__}))
    assert type(registry.load(tmp_path, saved.encoding, twin)) is twin
    assert type(registry.load(tmp_path, saved.encoding)) is r.Params


def _new(parent: Path, name: str) -> Path:
    directory = parent / name
    directory.mkdir()
    return directory


def _found_as(cls: type, module: str, name: str) -> str:
    from airflow_zen.type_names import type_name

    original = getattr(sys.modules[module], name)
    setattr(sys.modules[module], name, cls)
    try:
        return type_name(cls)
    finally:
        setattr(sys.modules[module], name, original)


def test_files_of_members_are_hashed_while_they_are_written(tmp_path: Path) -> None:
    """The hashes of tables and records inside a value, at any depth, are known when it is written, and right."""
    frame = pd.DataFrame({"a": [1], "b": pd.Categorical([(1,)])})
    value = {"table": frame, "deeper": [r.Params(1), {"arrow": pa.table({"a": [2]}), "labels": (frame,)}]}
    saved = default_registry().save(value, tmp_path)
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert saved.hashes == {name: file_hash(tmp_path / name) for name in files}
    assert sum(name.endswith(".parquet") for name in files) == 3
    assert "hashes" not in saved.summary
