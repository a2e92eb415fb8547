"""Promises of `airflow_zen.steps.cache_key`."""

import importlib
import sys

import pandas as pd
import polars as pl
import pytest

from airflow_zen.fingerprint import combine_fingerprints
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
    assert combine_fingerprints(ingredients) == "45cb7608006bebc718ed54175cb9a1c95e97fe2f53b7cb80da5afc904e18549d"
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


def test_type_and_encoding_of_a_declared_output_are_an_ingredient(stack):
    """Another declared type, or another encoding, has a different key."""
    assert key_of(plain, stack, 1, [1]).ingredients["output a"] == "builtins.int python.json@1"


def login(user: str, password: str) -> str:
    return user


def test_secrets_are_not_among_the_texts(stack):
    """The texts of a key contain no parameter with the name of a secret."""
    found = key_of(login, stack, "ann", "hunter2")
    assert found.sources["parameter user"] == '"ann"'
    assert "hunter2" not in repr(found)
