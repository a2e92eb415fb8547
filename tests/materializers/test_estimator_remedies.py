"""What a refusal of an estimator tells a user to do, done: the estimator is then stored, and computes the same."""

from __future__ import annotations

import argparse
import functools
import math
import operator
import pickle
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import lightgbm
import numpy as np
import pytest
import scipy.stats
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tests.materializers.own_estimators import Clipper, halve, power
from tests.materializers.remedies import Remedy

X = np.linspace(1.0, 4.0, 12).reshape(6, 2)
Y = X[:, 0] * 2
HALVE = np.frompyfunc(halve, 1, 1)


def halve_all(x: Any) -> Any:
    return HALVE(x).astype(float)


def load_file(path: Any) -> Any:
    return np.load(path)


def squared_error(labels: Any, predictions: Any) -> Any:
    return predictions - labels, np.ones_like(labels)


@dataclass
class Options:
    depth: int


class Holding(TransformerMixin, BaseEstimator):
    """An estimator that holds anything."""

    def __init__(self, held: Any = None) -> None:
        self.held = held

    def transform(self, x: Any) -> Any:
        return x


class Opening(Holding):
    """An estimator that opens what it needs where it uses it, and leaves it out of its state."""

    def transform(self, x: Any) -> Any:
        import math as needed

        self.opened = [threading.Lock(), Path(__file__).open(), socket.socket()]  # noqa: SIM115 - closed below
        with self.opened[0]:
            found = x * needed.pi + len(self.opened[1].readline())
        for each in self.opened[1:]:
            each.close()
        return found

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: item for name, item in state.items() if name != "opened"}


class Halving(Holding):
    def halve(self) -> Any:
        return self.held / 2


def _made(value: Any) -> Any:
    return Reduced(value)


class Reduced:
    """An object that is made by a function of its own."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return _made, (self.value,)


class WithState:
    """The same object with a state."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __getstate__(self) -> dict[str, Any]:
        return {"value": self.value}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


class Silent:
    """An object that is only a name."""

    table = np.arange(3.0)

    def __reduce__(self) -> str:
        return "SILENT"


SILENT = Silent()


class Feed(socket.socket):
    """A connection of the project's own."""


class Own(scipy.stats.rv_continuous):
    """A distribution that is not one of SciPy's."""

    def _pdf(self, x: Any) -> Any:
        return 0 * x + 1


def _used_opening() -> Opening:
    opening = Opening(2)
    opening.transform(X)
    return opening


def _search(values: Any) -> Any:
    return RandomizedSearchCV(Ridge(), {"alpha": values}, n_iter=2, cv=2, random_state=0)


def _local_estimator() -> Any:
    class Inside(Clipper):
        pass

    return Inside().fit(X)


def _local_function() -> Any:
    def inside(x: Any) -> Any:
        return halve(x)

    return inside


def _noted_partial() -> Any:
    function = functools.partial(power, exponent=3)
    function.note = "cube"  # type: ignore[attr-defined]
    return function


def _boosted(objective: Any) -> Any:
    options = {"n_estimators": 3, "n_jobs": 1, "verbose": -1, "min_data_in_bin": 1, "min_child_samples": 1}
    return lightgbm.LGBMRegressor(objective=objective, **options).fit(X, Y)


def _alike(loaded: Any, refused: Any) -> bool:
    return np.array_equal(loaded.transform(X), refused.transform(X))


def _opens(loaded: Any, _: Any) -> bool:
    return "opened" not in vars(loaded) and np.array_equal(loaded.transform(X), Opening(2).transform(X))


_OPEN = "Open it in the method that uses it, and leave it out in __getstate__"
_DEFINE = "defined with def at the top of a module"
_ARRAYS = "Keep what it computed in arrays"

REMEDIES: dict[str, Remedy] = {
    "lambda": Remedy(
        lambda: make_pipeline(FunctionTransformer(lambda x: x / 2)).fit(X),
        "steps[0][1].func: it is a lambda, which has no name to find it by. Define it with def at the top of a module",
        lambda _: make_pipeline(FunctionTransformer(halve)).fit(X),
        _alike,
    ),
    "local function": Remedy(
        lambda: FunctionTransformer(_local_function()),
        "top level of a module",
        lambda _: FunctionTransformer(halve),
        _alike,
    ),
    "local estimator": Remedy(_local_estimator, "top level of a module", lambda _: Clipper().fit(X), _alike),
    "function that loads files": Remedy(
        lambda: Holding(np.load),
        f"Call it in a function of your own, {_DEFINE}",
        lambda _: Holding(load_file),
        lambda loaded, _: loaded.held is load_file,
    ),
    "ufunc of the project": Remedy(
        lambda: FunctionTransformer(HALVE),
        "Call it in a function of your own, defined with def",
        lambda _: FunctionTransformer(halve_all),
        lambda loaded, refused: np.array_equal(loaded.transform(X), refused.transform(X).astype(float)),
    ),
    "lock": Remedy(lambda: Holding(threading.Lock()), _OPEN, lambda _: _used_opening(), _opens),
    "open file": Remedy(
        lambda: Holding(Path(__file__).open()),  # noqa: SIM115 - a file that stays open is what is refused
        _OPEN,
        lambda _: _used_opening(),
        _opens,
    ),
    "connection": Remedy(lambda: Holding([Feed()]), _OPEN, lambda _: _used_opening(), _opens),
    "module": Remedy(lambda: Holding(math), "Import it in the method that uses it", lambda _: _used_opening(), _opens),
    "generator": Remedy(
        lambda: Holding(x for x in [1.5, 2.5]),
        f"{_ARRAYS}, built-in types or a dataclass",
        lambda refused: Holding(list(refused.held)),
        lambda loaded, _: loaded.held == [1.5, 2.5],
    ),
    **{
        f"object of the standard library, {name}": Remedy(
            lambda: Holding(argparse.Namespace(depth=3)),
            f"{_ARRAYS}, built-in types or a dataclass",
            lambda refused, keep=keep: Holding(keep(refused.held)),
            lambda loaded, refused, keep=keep: bool(loaded.held == keep(refused.held)),
        )
        for name, keep in {
            "as an array": lambda held: np.array(held.depth),
            "as a dict": lambda held: vars(held).copy(),
            "as a dataclass": lambda held: Options(held.depth),
        }.items()
    },
    "class that runs commands": Remedy(
        lambda: Holding(subprocess.Popen),
        f"{_ARRAYS} or built-in types",
        lambda refused: Holding(refused.held.__name__),
        lambda loaded, _: loaded.held == "Popen",
    ),
    "pickle in bytes": Remedy(
        lambda: Holding(pickle.dumps([1])),
        "Save what the estimator wraps by its own materializer",
        lambda refused: {"estimator": Holding(), "wrapped": pickle.loads(refused.held)},
        lambda loaded, _: loaded["wrapped"] == [1] and type(loaded["estimator"]) is Holding,
    ),
    "method without a name": Remedy(
        lambda: Holding(MethodType(operator.attrgetter("held"), Holding(3))),
        "the method operator.attrgetter('held') is not found by its name. Define it in the class",
        lambda _: Holding(Halving(3).halve),
        lambda loaded, _: loaded.held() == 1.5,
    ),
    "method that was set": Remedy(
        lambda: Holding(MethodType(lambda self: self.held / 2, Holding(3))),
        "the method <lambda> is not found by its name. Define it in the class",
        lambda _: Holding(Halving(3).halve),
        lambda loaded, refused: loaded.held() == refused.held(),
    ),
    "partial with attributes": Remedy(
        lambda: Holding(_noted_partial()),
        "Keep them beside it",
        lambda refused: Holding([functools.partial(refused.held.func, exponent=3), vars(refused.held)]),
        lambda loaded, refused: loaded.held[0](2) == refused.held(2) and loaded.held[1] == {"note": "cube"},
    ),
    "own distribution, as one of SciPy's": Remedy(
        lambda: _search(Own(a=0, b=1, name="own")()),
        "the distribution 'own' is none of scipy.stats. Use one of those",
        lambda _: _search(scipy.stats.uniform(0, 1)).fit(X, Y),
        lambda loaded, _: loaded.best_params_ == _search(scipy.stats.uniform(0, 1)).fit(X, Y).best_params_,
    ),
    "own distribution, as values": Remedy(
        lambda: _search(Own(a=0, b=1, name="own")()),
        "or a list of values",
        lambda _: _search([0.25, 0.75]).fit(X, Y),
        lambda loaded, _: loaded.best_params_ == _search([0.25, 0.75]).fit(X, Y).best_params_,
    ),
    "object made by a function": Remedy(
        lambda: Holding(Reduced(3)),
        "Give the class __getstate__ and __setstate__ instead of __reduce__",
        lambda refused: Holding(WithState(refused.held.value)),
        lambda loaded, _: type(loaded.held) is WithState and loaded.held.value == 3,
    ),
    "object without a state": Remedy(
        lambda: Holding(SILENT),
        f"a Silent does not return its state to pickle. {_ARRAYS}",
        lambda refused: Holding(refused.held.table),
        lambda loaded, refused: np.array_equal(loaded.held, refused.held.table),
    ),
    "lambda as objective of LightGBM": Remedy(
        lambda: _boosted(lambda y, p: (p - y, np.ones_like(y))),
        "Define it with def",
        lambda _: _boosted(squared_error),
        lambda loaded, refused: (
            np.array_equal(loaded.predict(X), refused.predict(X)) and len(set(loaded.predict(X))) > 1
        ),
    ),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("remedy", REMEDIES.values(), ids=REMEDIES.keys())
def test_remedy_of_an_estimator_works(remedy: Remedy, tmp_path: Path) -> None:
    """A refused estimator, changed as the refusal says, is stored and computes the same."""
    remedy.show(tmp_path)


def test_memory_map_becomes_an_array(tmp_path: Path) -> None:
    """A memory map in an estimator is stored by the call that its refusal names."""
    make: Callable[[], Any] = lambda: Holding(np.memmap(tmp_path / "map", "f8", "w+", shape=3))  # noqa: E731
    Remedy(
        make,
        "numpy.asarray(value)",
        lambda refused: Holding(np.asarray(refused.held)),
        lambda loaded, refused: type(loaded.held) is np.ndarray and np.array_equal(loaded.held, refused.held),
    ).show(tmp_path)
