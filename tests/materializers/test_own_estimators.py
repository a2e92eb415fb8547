"""Estimators with classes and functions of the user's own are stored like those of scikit-learn."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import math
import operator
import os
import pickle
import re
import subprocess
import sys
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from zipfile import ZipFile

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.interpolate
import scipy.stats
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import Birch
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import StackingRegressor, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

import airflow_zen
from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.registry import default_registry
from tests.materializers import own_estimators as own
from tests.materializers.path_values import LABELS, X, Y
from tests.materializers.round_trip import hash_files, make_directory
from tests.materializers.sameness import assert_same

REGISTRY = default_registry()
TEXTS = ["walking cats", "a talked dog", "dogs walked"] * 4
SCORER = make_scorer(own.minus_mean_error)

MODELS: dict[str, tuple[Callable[[], Any], Any]] = {
    "transformer": (lambda: own.Clipper().fit(X), X),
    "classifier": (lambda: own.Majority().fit(X, LABELS), X),
    "subclass": (lambda: own.LoggedRidge().fit(X, Y), X),
    "subclass with own arguments": (lambda: own.Wrapper(0.3).fit(X, LABELS), X),
    "function": (lambda: FunctionTransformer(own.halve).fit(X), X),
    "partial of a function": (lambda: FunctionTransformer(functools.partial(own.power, exponent=3)).fit(X), X),
    "inverse function": (lambda: TransformedTargetRegressor(Ridge(), func=own.halve, inverse_func=np.sqrt), None),
    "pipeline": (lambda: make_pipeline(own.Clipper(), FunctionTransformer(own.halve), Ridge()).fit(X, Y), X),
    "columns": (lambda: ColumnTransformer([("a", own.Clipper(), ["a"]), ("b", StandardScaler(), ["b"])]).fit(X), X),
    "union": (lambda: FeatureUnion([("clip", own.Clipper()), ("scale", StandardScaler())]).fit(X), X),
    "grid search": (
        lambda: GridSearchCV(make_pipeline(own.Clipper(), Ridge()), {"clipper__quantile": [0.1, 0.2]}, cv=2).fit(X, Y),
        X,
    ),
    "scorer": (lambda: GridSearchCV(Ridge(), {"alpha": [1, 2]}, scoring=SCORER, cv=2).fit(X, Y), X),
    "distributions": (
        lambda: RandomizedSearchCV(
            Ridge(), {"alpha": scipy.stats.loguniform(1, 9)}, n_iter=2, cv=2, random_state=0
        ).fit(X, Y),
        X,
    ),
    "voting": (
        lambda: VotingClassifier([("own", own.Majority()), ("their", LogisticRegression())]).fit(X, LABELS),
        X,
    ),
    "stacking": (
        lambda: StackingRegressor([("own", own.LoggedRidge()), ("their", Ridge())], cv=2).fit(X, Y),
        X,
    ),
    "metric": (lambda: KNeighborsRegressor(metric=own.euclid, n_neighbors=2).fit(X, Y), X),
    "kernel": (lambda: SVC(kernel=own.linear_kernel).fit(X, LABELS), X),
    "mixin only": (lambda: own.Bare().fit(X), X),
    "slots": (lambda: make_pipeline(own.Slotted(3), Ridge()).fit(X, Y), X),
    "values of every kind": (lambda: own.Holder(Ridge(2), own.Kind.EXACT).fit(X, Y), X),
    "own state": (lambda: own.Stateful(("cat", "dog")).fit(TEXTS), TEXTS),
    "dict of an own class": (lambda: own.Encoder().fit(TEXTS), [*TEXTS, "new"]),
    "tokenizer object": (lambda: CountVectorizer(tokenizer=own.Lemmatizer(("s", "ing", "ed"))).fit(TEXTS), TEXTS),
    "analyzer function": (lambda: TfidfVectorizer(preprocessor=own.shout, lowercase=False).fit(TEXTS), TEXTS),
    "method of a built-in type": (
        lambda: TfidfVectorizer(tokenizer=str.split, preprocessor=str.lower).fit(TEXTS),
        TEXTS,
    ),
    "function that remembers": (lambda: FunctionTransformer(own.cached_root), None),
    "birch": (lambda: Birch(threshold=0.05, n_clusters=None).fit(X), X),
}


def _outcome(model: Any, x: Any) -> Any:
    compute = model.predict if hasattr(model, "predict") else model.transform
    found = compute(x)
    return found.toarray() if hasattr(found, "toarray") else np.asarray(found)


def _round_trip(value: Any, directory: Path) -> Any:
    saved = REGISTRY.save(value, make_directory(directory, "artifact"))
    return REGISTRY.load(directory / "artifact", saved.encoding)


@pytest.mark.parametrize(("make", "x"), MODELS.values(), ids=MODELS.keys())
def test_own_estimator_comes_back(make: Callable[[], Any], x: Any, tmp_path: Path) -> None:
    """An own part comes back as its class, computes the same, and gives the same bytes again."""
    model = make()
    loaded = _round_trip(model, tmp_path)
    assert type(loaded) is type(model)
    REGISTRY.save(loaded, make_directory(tmp_path, "again"))
    assert hash_files(tmp_path / "artifact") == hash_files(tmp_path / "again")
    if x is not None:
        np.testing.assert_array_equal(_outcome(loaded, x), _outcome(model, x))


@pytest.mark.parametrize("name", ["pipeline", "values of every kind", "classifier", "columns"])
def test_mlflow_loads_an_own_estimator(name: str, tmp_path: Path) -> None:
    """mlflow.sklearn and mlflow.pyfunc load a model with own parts, wherever these can be imported."""
    make, x = MODELS[name]
    model = make()
    REGISTRY.save(model, tmp_path)
    loaded = mlflow.sklearn.load_model(str(tmp_path))
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(_outcome(loaded, x), _outcome(model, x))
    if hasattr(model, "predict"):
        np.testing.assert_array_equal(mlflow.pyfunc.load_model(str(tmp_path)).predict(x), _outcome(model, x))


def test_estimator_that_mlflow_cannot_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimator with slots is refused by mlflow.sklearn; `airflow_zen.load`, which the error names, loads it."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path))
    ref = airflow_zen.save(own.Slotted(3))
    (described,) = tmp_path.rglob("MLmodel")
    with pytest.raises(ArtifactRefused, match=r"Load the artifact with airflow_zen\.load\."):
        mlflow.sklearn.load_model(str(described.parent))
    assert airflow_zen.load(ref).factor == 3


def test_values_of_every_kind_come_back(tmp_path: Path) -> None:
    """Attributes keep their types; one object in two places is one object, also where it contains itself."""
    model = own.Holder(mode=own.Kind.EXACT).fit(X, Y)
    loaded = _round_trip(model, tmp_path)
    pd.testing.assert_frame_equal(loaded.frame_, model.frame_)
    pd.testing.assert_series_equal(loaded.series_, model.series_)
    for name in ("mode", "lookup_", "names_", "bounds_", "path_", "type_", "dtype_", "data_", "text_", "logger_"):
        assert getattr(loaded, name) == getattr(model, name)
        assert type(getattr(loaded, name)) is type(getattr(model, name))
    assert loaded.random_.randint(9**9) == model.random_.randint(9**9)
    assert loaded.generator_.integers(9**9) == model.generator_.integers(9**9)
    assert loaded.copies_[0] is loaded.copies_[1] is loaded.base_
    assert loaded.cycle_[0] is loaded
    assert loaded.method_.__self__ is loaded


def test_large_vocabulary_is_packed(tmp_path: Path) -> None:
    """The numbers of a vocabulary, which NumPy counts, are one array and not a text for each."""
    words = [f"word{at}é" for at in range(3000)]
    model = CountVectorizer(max_features=2900).fit(words)
    loaded = _round_trip(model, tmp_path)
    assert loaded.vocabulary_ == model.vocabulary_
    assert set(map(type, loaded.vocabulary_.values())) == set(map(type, model.vocabulary_.values()))
    with ZipFile(tmp_path / "artifact" / "model.skops") as file:
        assert len(file.read("model.json")) < 80_000


HELD: dict[str, Callable[[], Any]] = {
    "interpolation": lambda: scipy.interpolate.interp1d([1, 2, 3], [1, 4, 9]),
    "spline": lambda: scipy.interpolate.CubicSpline([1, 2, 3], [1, 4, 9]),
    "density": lambda: scipy.stats.gaussian_kde([1.0, 2.0, 4.0]),
    "getter": lambda: operator.itemgetter("a"),
    "functions of libraries": lambda: [np.median, np.log1p, np.linalg.norm, math.sqrt, len],
    "namespace": lambda: SimpleNamespace(a=1, b=[2.5]),
    "types": lambda: [int, np.float64, pd.DataFrame, StandardScaler],
    "polars frame": lambda: pl.DataFrame({"a": [1, None]}),
    "labels": lambda: pd.MultiIndex.from_product([[1, 2], ["a", "b"]]),
    "keys of every kind": lambda: {("a", 1): np.arange(3), None: [{4}], "\ud800": 1, "$": "x"},
    "numbers": lambda: [2**5000, float("nan"), -0.0, np.float32(1.5), np.str_("a"), np.datetime64("2024")],
    "arrays": lambda: [np.array(3.5), np.empty((3, 0)), np.asfortranarray(np.ones((50, 9))), np.ones(3, np.longdouble)],
    "objects in an array": lambda: np.array([[1, "a"], [None, 2.5]], dtype=object),
    "masked array": lambda: np.ma.array([1, 2], mask=[0, 1], fill_value=7),
    "containers": lambda: [deque([1], 3), defaultdict(list, {"a": [1]}), Counter("aab"), bytearray(b"x" * 300)],
}


@pytest.mark.parametrize("make", HELD.values(), ids=HELD.keys())
def test_attribute_comes_back_exactly(make: Callable[[], Any], tmp_path: Path) -> None:
    """An attribute of an own estimator comes back as it was, with the types of all it consists of."""
    held = make()
    loaded = _round_trip(Holding(held), tmp_path).held
    assert_same(held, loaded) if not hasattr(held, "resample") else assert_same(vars(held), vars(loaded))


class Holding(TransformerMixin, BaseEstimator):
    def __init__(self, held: Any = None) -> None:
        self.held = held


def _local_function() -> Any:
    def inside(x: Any) -> Any:
        return x

    return inside


def _local_estimator() -> Any:
    class Inside(BaseEstimator):
        pass

    return Inside()


REFUSED: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "lambda": (lambda _: make_pipeline(FunctionTransformer(lambda x: x)), "steps[0][1].func", "Define it with def"),
    "local function": (lambda _: FunctionTransformer(_local_function()), "func", "top level of a module"),
    "local estimator": (lambda _: make_pipeline(_local_estimator()), "steps[0][1]", "top level of a module"),
    "lock": (lambda _: Holding({"lock": threading.Lock()}), "held['lock']", "leave it out in __getstate__"),
    "open file": (lambda path: Holding([(path / "x").open("w")]), "held[0]", "leave it out in __getstate__"),
    "generator": (lambda _: Holding(x for x in [1]), "held", "arrays, built-in types or a dataclass"),
    "module": (lambda _: Holding(math), "held", "Import it in the method"),
    "pickle": (lambda _: Holding({"raw": pickle.dumps([1])}), "held['raw']", "pickle in bytes"),
    "function that loads files": (lambda _: FunctionTransformer(np.load), "func", "function of your own"),
    "function that runs commands": (lambda _: FunctionTransformer(os.system), "func", "function of your own"),
    "object of the standard library": (lambda _: Holding(argparse.Namespace(a=1)), "held", "arrays, built-in types"),
    "memory map": (lambda path: Holding(np.memmap(path / "m", "f8", "w+", shape=3)), "held", "numpy.asarray"),
}


@pytest.mark.parametrize(("make", "where", "remedy"), REFUSED.values(), ids=REFUSED.keys())
def test_refusal_names_the_attribute_and_a_way_out(
    make: Callable[[Path], Any], where: str, remedy: str, tmp_path: Path
) -> None:
    """What cannot come back is refused, with the attribute that holds it and what to do."""
    model = make(tmp_path)
    with pytest.raises(SaveRefused) as refusal:
        REGISTRY.save(model, make_directory(tmp_path, "artifact"))
    message = str(refusal.value)
    assert f"{type(model).__qualname__} is not stored, because of {where}: " in message
    assert remedy in message


@pytest.mark.ml
def test_way_out_of_a_net(tmp_path: Path) -> None:
    """The lines that the refusal of a net of skorch names give a net that predicts the same."""
    skorch = pytest.importorskip("skorch", reason="skorch is not installed: make test-ml")
    import torch

    x = np.arange(30, dtype="float32").reshape(10, 3)
    names = {
        "net": skorch.NeuralNetRegressor(torch.nn.Linear, module__in_features=3, module__out_features=1, verbose=0)
    }
    names["net"].fit(x, x[:, :1])
    predicted = names["net"].predict(x)
    with pytest.raises(SaveRefused) as refusal:
        REGISTRY.save(names["net"], make_directory(tmp_path, "net"))
    first, then = re.findall(r"PyTorch module: (.*?)\. Where it is used: (.*), with a net", str(refusal.value))[0]
    exec(first, names)
    directory = make_directory(tmp_path, "module")
    names["module"] = REGISTRY.load(directory, REGISTRY.save(names["module"], directory).encoding)
    names["net"] = skorch.NeuralNetRegressor(torch.nn.Linear, module__in_features=3, module__out_features=1, verbose=0)
    exec(then, names)
    np.testing.assert_array_equal(names["net"].predict(x), predicted)


DANGEROUS = [
    {"class": "subprocess:Popen", "state": {"args": "true"}},
    {"call": "subprocess:Popen", "arguments": ["true"]},
    {"call": "os:system", "arguments": ["true"]},
    {"call": "tempfile:_TemporaryFileCloser", "state": {"name": "x"}},
    {"call": "builtins:eval", "arguments": ["1"]},
    {"call": "tests.materializers.own_estimators:halve", "arguments": [2]},
    {"call": "numpy:load", "arguments": ["x"]},
    {"class": "airflow_zen.stack:Stack", "state": {}},
    {"class": "sklearn.datasets._openml:fetch_openml"},
    {"call": "numpy:memmap", "arguments": ["x"]},
    {"value": {"$": "function", "name": "os:system"}},
    {"value": {"$": "function", "name": "builtins:eval"}},
    {"value": {"$": "function", "name": "numpy:load"}},
    {"value": {"$": "class", "name": "subprocess:Popen"}},
    {"value": {"$": "method", "of": {"$": "object", "number": 0}, "name": "__init__"}},
    {"value": {"$": "bytes", "base64": "gASVAAAA"}},
    {"value": {"$": "array", "file": 0, "start": 5, "rows": 99}},
]


@pytest.mark.parametrize("entry", DANGEROUS, ids=str)
def test_what_a_file_names_is_checked(entry: dict[str, Any], tmp_path: Path) -> None:
    """A changed file cannot make the loader run, or even build, what no estimator consists of."""
    REGISTRY.save(Holding([np.arange(100.0)]), tmp_path)
    with ZipFile(tmp_path / "model.skops") as file:
        members = {name: file.read(name) for name in file.namelist()}
    document = json.loads(members["model.json"])
    document["objects"][0]["state"]["held"] = {"$": "object", "number": len(document["objects"])}
    document["objects"].append(entry)
    with ZipFile(tmp_path / "model.skops", "w") as file:
        for name, content in {**members, "model.json": json.dumps(document)}.items():
            file.writestr(name, content)
    with pytest.raises(ArtifactRefused):
        REGISTRY.load(tmp_path, "sklearn.mlflow@3")


SOURCE = """
import numpy as np
from dataclasses import dataclass
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

@dataclass
class Limits:
    low: float

class Adder(TransformerMixin, BaseEstimator):
    def fit(self, x, y=None):
        self.limits_ = Limits(1.5)
        return self
    def transform(self, x):
        return x + self.limits_.low

class Unsaved(Adder):
    def fit(self, x, y=None):
        self.f = lambda x: x
        return self

def double(x):
    return x * 2

def make():
    return make_pipeline(Adder(), FunctionTransformer(double)).fit(np.array([[1.0]]))
"""


def _dag_module(path: Path) -> ModuleType:
    """Load a DAG file as Airflow does, under a name with the hash of its path."""
    path.parent.mkdir()
    path.write_text(SOURCE)
    name = f"unusual_prefix_{'ab' * 20}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def _forget_modules() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.endswith("_flights_own")]:
        del sys.modules[name]


@pytest.mark.usefixtures("_forget_modules")
def test_classes_of_a_dag_file_are_found_again(tmp_path: Path) -> None:
    """Classes and functions of a DAG file are those of the file of that name on another machine."""
    there = _dag_module(tmp_path / "there" / "flights_own.py")
    saved = REGISTRY.save(there.make(), make_directory(tmp_path, "artifact"))
    with ZipFile(tmp_path / "artifact" / "model.skops") as file:
        assert b"unusual_prefix" not in file.read("model.json")
    del sys.modules[there.__name__]
    here = _dag_module(tmp_path / "here" / "flights_own.py")
    loaded = REGISTRY.load(tmp_path / "artifact", saved.encoding)
    assert type(loaded[0]) is here.Adder
    assert loaded[1].func is here.double
    assert loaded.transform(np.array([[1.0]])) == 5.0


@pytest.mark.usefixtures("_forget_modules")
def test_errors_name_the_module_of_the_user(tmp_path: Path) -> None:
    """An error names the DAG file, not what Airflow calls its module."""
    there = _dag_module(tmp_path / "there" / "flights_own.py")
    model = there.Unsaved().fit([[1.0]])
    with pytest.raises(SaveRefused, match=r"Unsaved is not stored, because of f: it is a lambda") as refusal:
        REGISTRY.save(model, make_directory(tmp_path, "artifact"))
    assert "unusual_prefix" not in str(refusal.value)
    there.double.__qualname__ = "gone"
    with pytest.raises(SaveRefused, match=r"flights_own\.gone cannot be found again") as refusal:
        REGISTRY.save(there.make(), make_directory(tmp_path, "other"))
    assert "unusual_prefix" not in str(refusal.value)


_FRESH = """
import sys, time
from pathlib import Path
import sklearn.pipeline, sklearn.linear_model, sklearn.preprocessing, sklearn.ensemble
from airflow_zen.materializers.registry import default_registry
before = {name for name in sys.modules if name.partition(".")[0] in ("sklearn", "scipy", "torch", "skops")}
model = sklearn.linear_model.Ridge().fit([[1.0], [2.0]], [1.0, 2.0])
saved = default_registry().save(model, Path(sys.argv[1]))
default_registry().load(Path(sys.argv[1]), saved.encoding)
added = {name for name in sys.modules if name.partition(".")[0] in ("sklearn", "scipy", "torch", "skops")} - before
print(sorted(added))
"""


def test_no_module_of_scikit_learn_is_imported_for_an_estimator(tmp_path: Path) -> None:
    """Saving and loading the first estimator of a process imports no skops, and nothing more of scikit-learn."""
    ran = subprocess.run([sys.executable, "-c", _FRESH, str(tmp_path)], check=True, capture_output=True, text=True)
    assert ran.stdout.strip().splitlines()[-1] == "[]"
