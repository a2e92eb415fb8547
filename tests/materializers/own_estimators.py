"""Estimators as users write them, with functions, records and objects of their own."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

CITIES = {"a": 1, "b": 2}


def halve(x: Any) -> Any:
    """Return half of the values."""
    return x / 2


def power(x: Any, exponent: int) -> Any:
    """Return a power of the values."""
    return np.abs(x) ** exponent


@functools.lru_cache(maxsize=8)
def cached_root(value: float) -> float:
    """Return a root, remembered."""
    return value**0.5


def euclid(one: Any, other: Any) -> float:
    """Return the distance of two rows."""
    return float(np.sqrt(((one - other) ** 2).sum()))


def linear_kernel(one: Any, other: Any) -> Any:
    """Return the products of the rows."""
    return np.asarray(one) @ np.asarray(other).T


def minus_mean_error(truth: Any, predicted: Any) -> float:
    """Return a score: the greater, the better."""
    return -float(np.abs(np.asarray(truth) - predicted).mean())


def shout(text: str) -> str:
    """Return a text in capitals."""
    return text.upper()


class Kind(enum.Enum):
    """A choice."""

    FAST = "fast"
    EXACT = "exact"


@dataclass
class Bounds:
    """Limits of a column, and which they are."""

    low: float
    high: float
    of: list[str] = field(default_factory=list)


class Lemmatizer:
    """An object that is called for each text; no estimator."""

    def __init__(self, suffixes: tuple[str, ...]) -> None:
        self.suffixes = suffixes
        self.pattern = re.compile(r"\w+", re.IGNORECASE)

    def __call__(self, text: str) -> list[str]:
        """Return the words without their suffixes."""
        return [re.sub(f"({'|'.join(self.suffixes)})$", "", word) for word in self.pattern.findall(text)]


class Clipper(TransformerMixin, BaseEstimator):
    """An own transformer."""

    def __init__(self, quantile: float = 0.1) -> None:
        self.quantile = quantile

    def fit(self, x: Any, y: Any = None) -> Clipper:
        """Remember the quantiles."""
        self.bounds_ = np.quantile(x, [self.quantile, 1 - self.quantile], axis=0)
        return self

    def transform(self, x: Any) -> Any:
        """Return the values within the quantiles."""
        return np.clip(x, *self.bounds_)


class Majority(ClassifierMixin, BaseEstimator):
    """An own classifier."""

    def fit(self, x: Any, y: Any) -> Majority:
        """Count the labels."""
        self.classes_, counts = np.unique(y, return_counts=True)
        self.counts_ = Counter(dict(zip(map(str, self.classes_), map(int, counts), strict=True)))
        return self

    def predict(self, x: Any) -> Any:
        """Return the most frequent label for each row."""
        most = self.counts_.most_common(1)[0][0]
        return np.full(len(x), self.classes_[list(map(str, self.classes_)).index(most)])


class LoggedRidge(Ridge):
    """A subclass of an estimator of scikit-learn."""

    def fit(self, x: Any, y: Any, sample_weight: Any = None) -> LoggedRidge:
        """Fit, and remember when."""
        super().fit(x, np.log1p(np.abs(y)), sample_weight)
        self.fitted_ = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
        return self


class Bare(TransformerMixin):
    """A mixin only, without BaseEstimator: no get_params."""

    def fit(self, x: Any, y: Any = None) -> Bare:
        """Remember the means."""
        self.means = {name: float(x[name].mean()) for name in x}
        return self

    def transform(self, x: Any) -> Any:
        """Return the values without the means."""
        return x - pd.Series(self.means)


class Slotted(TransformerMixin):
    """A transformer whose attributes are slots."""

    __slots__ = ("factor",)

    def __init__(self, factor: float = 2) -> None:
        self.factor = factor

    def fit(self, x: Any, y: Any = None) -> Slotted:
        """Do nothing."""
        return self

    def transform(self, x: Any) -> Any:
        """Return the values times the factor."""
        return x * self.factor


class Holder(RegressorMixin, BaseEstimator):
    """A regressor that remembers all kinds of values."""

    def __init__(self, base: Any = None, mode: Kind = Kind.FAST, logger: Any = None) -> None:
        self.base, self.mode, self.logger = base, mode, logger

    def fit(self, x: pd.DataFrame, y: Any) -> Holder:
        """Remember values of every kind."""
        self.frame_ = x.head(3).assign(city=pd.Categorical(["a", "b", "a"]))
        self.series_ = pd.Series([1, None], dtype="Int64", name="s")
        self.lookup_ = {"a": {1, 2}, 3: ("x", None), "when": dt.date(2024, 5, 1), "wait": dt.timedelta(hours=1)}
        self.names_, self.bounds_ = frozenset(x.columns), Bounds(0.0, 1.0, ["a"])
        self.base_, self.copies_ = clone(self.base or Ridge()).fit(x, y), []
        self.copies_ = [self.base_, self.base_]
        self.random_, self.generator_ = np.random.RandomState(3), np.random.default_rng(4)
        self.logger_, self.path_ = logging.getLogger("own"), Path("cache") / "x"
        self.steps_, self.method_ = functools.partial(power, exponent=2), self.scaled
        self.type_, self.dtype_ = StandardScaler, np.dtype("float32")
        self.data_, self.text_ = b"\x00\x01" * 500, "é\ud800"
        self.cycle_ = [self]
        return self

    def scaled(self, x: Any) -> Any:
        """Return twice the values."""
        return 2 * x

    def predict(self, x: Any) -> Any:
        """Return what the base predicts, through all that was remembered."""
        return self.method_(self.steps_(self.base_.predict(x)))


class Stateful(TransformerMixin, BaseEstimator):
    """A transformer that leaves a part of itself out of its state, and makes it again."""

    def __init__(self, words: tuple[str, ...] = ()) -> None:
        self.words = words

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the automaton."""
        return {name: held for name, held in vars(self).items() if name != "automaton_"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the state, and make the automaton."""
        vars(self).update(state)
        self.automaton_ = re.compile("|".join(self.words)).finditer

    def fit(self, x: Any, y: Any = None) -> Stateful:
        """Make the automaton."""
        self.__setstate__(vars(self))
        return self

    def transform(self, x: Any) -> Any:
        """Return how often the words occur."""
        return np.array([[sum(1 for _ in self.automaton_(text))] for text in x])


class Vocabulary(dict):  # type: ignore[type-arg]
    """A dict with an attribute of its own."""

    unknown = 0


class Encoder(TransformerMixin, BaseEstimator):
    """A transformer with a dict of its own class."""

    def fit(self, x: Any, y: Any = None) -> Encoder:
        """Number the words."""
        self.vocabulary_ = Vocabulary({word: at for at, word in enumerate(sorted(set(x)))})
        self.vocabulary_.unknown = -1
        return self

    def transform(self, x: Any) -> Any:
        """Return the numbers."""
        return np.array([[self.vocabulary_.get(word, self.vocabulary_.unknown)] for word in x])


class Wrapper(LogisticRegression):
    """A subclass with an argument of its own, and a class attribute."""

    family = "wrapped"

    def __init__(self, threshold: float = 0.5, C: float = 1.0) -> None:  # noqa: N803 - the name of scikit-learn
        super().__init__(C=C)
        self.threshold = threshold

    def predict(self, x: Any) -> Any:
        """Return the second class above the threshold."""
        return self.classes_[(self.predict_proba(x)[:, 1] > self.threshold).astype(int)]
