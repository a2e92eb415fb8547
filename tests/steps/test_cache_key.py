"""Promises of `airflow_zen.steps.cache_key`."""

import importlib
import sys

import pandas as pd
import polars as pl
import pytest
from msgspec.structs import replace

from airflow_zen.fingerprint import combine_fingerprints
from airflow_zen.materializers.base import Materializer
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.cache_key import cache_key
from airflow_zen.steps.outputs import Output
from airflow_zen.steps.step import Step

RATE = 3
TABLE = pd.DataFrame({"a": [1, 2]})


def plain(x: int, names: list) -> Output(a=int, b=str):
    return x * RATE, names[0]


def with_table_constant() -> int:
    return len(TABLE)


def look(table) -> int:
    return 1


def key_of(function, stack, *args, **kwargs):
    return cache_key(Step(function, "any"), Arguments.bind(function, args, kwargs), stack)


def test_key_is_pinned(stack):
    """The same work has the same key in every release of this key version; otherwise every cache entry would miss."""
    found = key_of(plain, stack, 2, names=["n", (1, 2.0)])
    ingredients = {label: value for label, value in found.ingredients.items() if label != "python"}
    assert combine_fingerprints(ingredients) == "442a13c5ed481d00eaeb822a20499986bd8110ef0f353e438f40c5eeeefcaf52"
    assert set(found.ingredients) == {
        "function plain", "constant RATE", "parameter x", "parameter names", "output a", "output b", "python",
    }  # fmt: skip


def test_inputs_enter_by_digest(stack):
    """An artifact enters the key by its digest, at the path where it was passed."""
    ref = stack.save({"x": 1}).ref
    found = key_of(look, stack, [ref.to_wire()])
    assert found.ingredients["input table[0]"] == ref.digest


def test_only_another_view_is_an_ingredient(stack):
    """A declared type adds an ingredient only when it is another view of the artifact."""
    ref = stack.save(pd.DataFrame({"a": [1]})).ref.to_wire()
    views = []
    for declared in (None, pd.DataFrame, pl.DataFrame):
        look.__annotations__ = {"table": declared} if declared else {}
        views.append(key_of(look, stack, ref).ingredients.get("view table"))
    look.__annotations__ = {}
    assert views[:2] == [None, None]
    assert views[2].endswith("DataFrame")
    assert "polars" in views[2]


OWN_MODEL = """
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

def scale(x):
    return x * 2

class Constant(ClassifierMixin, BaseEstimator):
    def fit(self, x, y=None):
        self.classes_ = [0, 1]
        return self

    def predict(self, x):
        return offset(len(x))

def offset(value):
    return value + 1

def make():
    return {"model": make_pipeline(FunctionTransformer(scale), Constant()).fit([[1.0]])}
"""


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("offset(len(x))", "offset(len(x)) - 1", False),
        ("value + 1", "value + 2", False),
        ("x * 2", "x * 3", False),
        ("value + 1", "value + 1  # a comment", True),
    ],
)
def test_code_of_an_own_model_is_in_the_key_of_its_reader(old, new, is_same, stack, tmp_path, monkeypatch):
    """A step that reads a model runs again when a method of its class changes, or a function it reaches, however deep."""
    monkeypatch.syspath_prepend(tmp_path)
    keys, digests = [], []
    for at, text in enumerate((OWN_MODEL, OWN_MODEL.replace(old, new))):
        (tmp_path / "own_model.py").write_text(text + "#" * at)
        sys.modules.pop("own_model", None)
        ref = stack.save(importlib.import_module("own_model").make()).ref
        assert ref.code == ("own_model:Constant", "own_model:scale")
        keys.append(key_of(look, stack, ref.to_wire()).key)
        digests.append(ref.digest)
    sys.modules.pop("own_model")
    assert digests[0] == digests[1]
    assert (keys[0] == keys[1]) is is_same


def test_a_table_constant_is_known_by_content(stack, monkeypatch):
    """A DataFrame that the code reads as a constant enters the key by its content."""
    before = key_of(with_table_constant, stack)
    monkeypatch.setitem(globals(), "TABLE", pd.DataFrame({"a": [1, 2]}))
    assert key_of(with_table_constant, stack).key == before.key
    monkeypatch.setitem(globals(), "TABLE", pd.DataFrame({"a": [1, 3]}))
    assert key_of(with_table_constant, stack).key != before.key


def test_the_type_of_a_declared_output_is_an_ingredient(stack):
    """Another declared type has a different key; the encoding of a built-in materializer is not in it."""
    assert key_of(plain, stack, 1, [1]).ingredients["output a"] == "builtins.int"


class Point:
    pass


def point() -> Point: ...


def test_the_encoding_of_a_registered_materializer_is_an_ingredient(stack):
    """A step has another key once the project registers a materializer for what it returns."""

    class PointMaterializer(Materializer):
        types = (Point,)
        encoding = "point.text@1"

    registered = replace(stack, materializers=stack.materializers.register(PointMaterializer))
    output = f"{__name__}.Point"
    assert key_of(point, stack).ingredients["output output"] == output
    assert key_of(point, registered).ingredients["output output"] == f"{output} point.text@1"


IMPORTS = """
from __future__ import annotations
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated
from airflow_zen import Artifact, Columns, Output

if TYPE_CHECKING:
    import pandas as pd
    import sklearn.ensemble
    from pathlib import Path
    from polars import DataFrame as Table
    from sklearn.linear_model import LinearRegression

def model(frame: pd.DataFrame) -> LinearRegression: ...
def models(frame: pd.DataFrame) -> Output(best=sklearn.ensemble.RandomForestRegressor, rest=dict[str, pd.DataFrame]): ...
def named(frame: pd.DataFrame | None) -> Annotated[pd.DataFrame, Artifact("features")]: ...
def batches(frame: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]: ...
def other_library(frame: Table) -> Table | None: ...
def some_columns(frame: Annotated[pd.DataFrame, Columns("a")]) -> list[Table]: ...
def files(frame: Path) -> Path: ...
"""


@pytest.mark.parametrize("name", ["model", "models", "named", "batches", "other_library", "some_columns", "files"])
def test_types_imported_for_type_checkers_only_have_the_key_of_imported_ones(name, stack, tmp_path, monkeypatch):
    """A step has one key whether its file imports the libraries of its types, or only type checkers do."""
    monkeypatch.syspath_prepend(tmp_path)
    ref = stack.save(pd.DataFrame({"a": [1]})).ref.to_wire()
    found = []
    for text in (IMPORTS, IMPORTS.replace("if TYPE_CHECKING", "if True")):
        (tmp_path / "imports.py").write_text(text + "#" * len(found))
        sys.modules.pop("imports", None)
        found.append(key_of(getattr(importlib.import_module("imports"), name), stack, ref).ingredients)
    sys.modules.pop("imports")
    assert found[0] == found[1]
    assert ("distribution pandas" in found[0]) is (name not in ("other_library", "files"))


def test_a_class_that_is_not_imported_may_have_a_registered_materializer(stack, tmp_path, monkeypatch):
    """The class is imported where only its bases tell whether the project's materializer saves it."""
    monkeypatch.syspath_prepend(tmp_path)

    class ModelMaterializer(Materializer):
        types = ("sklearn.linear_model._base.LinearModel",)
        encoding = "linear.text@1"

    (tmp_path / "imports.py").write_text(IMPORTS)
    model = importlib.import_module("imports").model
    sys.modules.pop("imports")
    registered = replace(stack, materializers=stack.materializers.register(ModelMaterializer))
    ref = stack.save(pd.DataFrame({"a": [1]})).ref.to_wire()
    output = key_of(model, registered, ref).ingredients["output output"]
    assert output == "sklearn.linear_model.LinearRegression linear.text@1"


def login(user: str, password: str) -> str:
    return user


def test_secrets_are_not_among_the_texts(stack):
    """The texts of a key contain no parameter with the name of a secret."""
    found = key_of(login, stack, "ann", "hunter2")
    assert found.sources["parameter user"] == '"ann"'
    assert "hunter2" not in f"{found!r} {found.sources}"
