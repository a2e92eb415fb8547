"""The code of what an artifact or a constant is built of is in the key of the step that uses it."""

import importlib
import sys
from dataclasses import replace

import pytest
from msgspec import structs

from airflow_zen.errors import FingerprintError
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.cache_key import cache_key
from airflow_zen.steps.step import Step

HEADER = """
import enum, functools, math
from collections import defaultdict, namedtuple
from dataclasses import dataclass, field
from typing import NamedTuple
import helpers

"""
HELPERS = "def scale(x):\n    return x * 2\n"
POINT = "@dataclass(frozen=True)\nclass Point:\n    x: int = 1\n    def norm(self):\n        return self.x\n"
COLOUR = "class Colour(enum.Enum):\n    RED = 1\n    def label(self):\n        return self.name.lower()\n"

# The text of the project's module, a value of its classes, and an edit of one of them or of what it calls.
BUILT = {
    "dataclass": (POINT, "Point(1)", "return self.x", "return -self.x"),
    "helper of a dataclass": (POINT.replace("self.x\n", "helpers.scale(self.x)\n"), "Point(1)", "x * 2", "x * 3"),
    "list of dataclasses": (POINT, "[Point(1), Point(2)]", "return self.x", "return -self.x"),
    "set of dataclasses": (POINT, "{Point(1), Point(2)}", "return self.x", "return -self.x"),
    "keys of a dictionary": (POINT, "{Point(1): 2}", "return self.x", "return -self.x"),
    "dataclass in a dataclass": (POINT + "@dataclass\nclass Path:\n    points: list = field(default_factory=list)\n", "Path([Point(1)])", "return self.x", "return -self.x"),
    "subclass of what is declared": ("class Shape:\n    def area(self):\n        return 0\n" + POINT.replace("class Point", "class Point(Shape)"), "Point(1)", "return 0", "return 1"),
    "enum in a dictionary": (COLOUR, "{'c': Colour.RED}", "lower", "upper"),
    "named tuple": ("class Pair(NamedTuple):\n    a: int = 1\n    def both(self):\n        return self.a\n", "Pair(1)", "return self.a", "return -self.a"),
    "pydantic model": ("import pydantic\nclass Config(pydantic.BaseModel):\n    depth: int = 1\n    def double(self):\n        return self.depth * 2\n", "Config(depth=3)", "* 2", "* 3"),
    "factory of a dictionary": ("class Bag(list):\n    def total(self):\n        return sum(self)\n", "defaultdict(Bag)", "return sum", "return -sum"),
    "cells of a table": ("import pandas as pd\n" + COLOUR, "pd.DataFrame({'c': [Colour.RED]})", "lower", "upper"),
    "table in a dataclass": ("import pandas as pd\n" + POINT.replace("x: int = 1", "x: object = None"), "Point(pd.DataFrame({'a': [1]}))", "return self.x", "return [self.x]"),
    "elements of an array": ("import numpy as np\n" + COLOUR, "np.array([Colour.RED, 1], dtype=object)", "lower", "upper"),
    "estimator": ("from sklearn.base import BaseEstimator\nclass Model(BaseEstimator):\n    def predict(self, x):\n        return helpers.scale(x)\n", "Model()", "x * 2", "x * 3"),
    "function in an estimator": ("from sklearn.preprocessing import FunctionTransformer\ndef clip(x):\n    return x\n", "FunctionTransformer(clip)", "return x", "return -x"),
    "subclass of a library's estimator": ("from sklearn.linear_model import Ridge\nclass Own(Ridge):\n    def predict(self, x):\n        return 1\n", "Own()", "return 1", "return 2"),
}  # fmt: skip

PICKLED = {
    "instance": ("class A:\n    def go(self):\n        return 1\n", "A()", "return 1", "return 2"),
    "instance in a list": ("class A:\n    def go(self):\n        return 1\n", "[1, A()]", "return 1", "return 2"),
    "function": ("def go(x):\n    return helpers.scale(x)\n", "go", "x * 2", "x * 3"),
    "partial": ("def go(x, n):\n    return x\n", "functools.partial(go, n=1)", "return x", "return n"),
    "what a lambda calls": ("def go(x):\n    return x\n", "(lambda x: go(x))", "return x", "return -x"),
    "module that a lambda uses": ("", "(lambda x: helpers.scale(x))", "x * 2", "x * 3"),
    "bound method": ("class A:\n    def go(self):\n        return 1\n", "A().go", "return 1", "return 2"),
    "estimator with an open lock": ("import threading\nfrom sklearn.pipeline import make_pipeline\nfrom sklearn.base import BaseEstimator\nclass T(BaseEstimator):\n    def __init__(self):\n        self.f = lambda x: x\n    def transform(self, x):\n        return x\n", "make_pipeline(T())", "return x\n", "return -x\n"),
    "vectorized function": ("import numpy as np\ndef go(x):\n    return x\n", "np.vectorize(go)", "return x", "return -x"),
}  # fmt: skip

READERS = ("value", "value: object", "value: list", "value: 'Any'", "*value", "**value")


def read(value):
    return value


def key_of(function, stack, **kwargs):
    return cache_key(Step(function, "any"), Arguments.bind(function, (), kwargs), stack).key


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return what imports the module `own` with a text and the module `helpers` that it uses."""
    monkeypatch.syspath_prepend(tmp_path)
    versions = iter(range(100))

    def load(text, helpers):
        for name, content in {"own": HEADER + text, "helpers": helpers}.items():
            # Another length for each version: a compiled file is known by length and time.
            (tmp_path / f"{name}.py").write_text(content + "#" * next(versions))
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("own")

    yield load
    for name in ("own", "helpers"):
        sys.modules.pop(name, None)


def versions_of(text, old, new):
    """Return both modules before the edit, after a comment, and after the edit."""
    assert old in text + HELPERS
    yield text, HELPERS
    yield text + "# a comment\n", HELPERS + "# a comment\n"
    yield text.replace(old, new), HELPERS.replace(old, new)


def with_pickles(stack):
    return structs.replace(stack, materializers=structs.replace(stack.materializers, allow_pickle=True))


@pytest.mark.parametrize(("text", "value", "old", "new"), BUILT.values(), ids=BUILT)
def test_artifact(text, value, old, new, stack, project):
    """A step that reads an artifact runs again when the code of a class in it changes, whatever its parameter declares."""
    keys = []
    for own, helpers in versions_of(f"{text}\ndef make():\n    return {value}\n", old, new):
        ref = stack.save(project(own, helpers).make()).ref
        keys.append(key_of(read, stack, value=ref.to_wire()))
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(("text", "value", "old", "new"), PICKLED.values(), ids=PICKLED)
def test_pickled_artifact(text, value, old, new, stack, project):
    """A pickle only names code: a step that reads it runs again when that code changes."""
    stack, keys = with_pickles(stack), []
    for own, helpers in versions_of(f"{text}\ndef make():\n    return {value}\n", old, new):
        ref = stack.save(project(own, helpers).make()).ref
        assert ref.code
        # The bytes may change with a comment that moves a lambda; here only the code counts.
        keys.append(key_of(read, stack, value=replace(ref, digest="0" * 64, files=()).to_wire()))
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("allow_pickle", [False, True])
@pytest.mark.parametrize(
    ("text", "value", "old", "new"), [*BUILT.values(), *PICKLED.values()], ids=[*BUILT, *(f"pickled {name}" for name in PICKLED)]
)  # fmt: skip
def test_constant(text, value, old, new, allow_pickle, stack, project):
    """The same holds for a constant that the code reads, where pickles are allowed too."""
    stack, keys = with_pickles(stack) if allow_pickle else stack, []
    for own, helpers in versions_of(f"{text}\nK = {value}\ndef step():\n    return K\n", old, new):
        keys.append(key_of(project(own, helpers).step, stack))
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("reader", READERS)
def test_reader_without_the_type(reader, stack, project):
    """It does not matter how a reader's parameter is declared."""
    keys = []
    for own, helpers in versions_of(
        f"{POINT}\ndef step({reader}):\n    return value\n", "return self.x", "return -self.x"
    ):
        module = project(own, helpers)
        ref = stack.save(module.Point(1)).ref.to_wire()
        arguments = Arguments.bind(module.step, *(((ref,), {}) if reader[:2] == "*v" else ((), {"value": ref})))
        keys.append(cache_key(Step(module.step, "any"), arguments, stack).key)
    assert keys[0] == keys[1] != keys[2]


def test_class_that_is_gone(stack, project):
    """A step whose input is built of a class that is not found is not cached, and the reason names it."""
    ref = stack.save(project(POINT, HELPERS).Point(1)).ref
    project("", HELPERS)
    with pytest.raises(FingerprintError, match="'value' is built of own:Point, whose code is not found"):
        key_of(read, stack, value=ref.to_wire())


def test_value_without_own_classes_names_no_code(stack):
    """A ref of values of libraries names no code."""
    assert stack.save({"a": [1, 2.0]}).ref.code == ()
