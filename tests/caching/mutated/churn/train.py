"""A model that is fitted by a few rounds, with a base class, a mixin and a metaclass."""

from abc import ABC, abstractmethod
from contextlib import contextmanager

from .features import FEATURES
from .registry import traced

try:
    from churn_fast import sigmoid
except ImportError:

    def sigmoid(value):
        return 1 / (1 + 2.718**-value)


KINDS = {}
USE_BIAS = True


class Kind(type(ABC)):
    def __new__(mcs, name, bases, space, key="", **options):
        cls = super().__new__(mcs, name, bases, space, **options)
        KINDS[key or name.lower()] = cls
        return cls


class Scored:
    offset = 0.05

    def score(self, row):
        return round(sigmoid(self.raw(row)) + self.offset, 4)


class Model(Scored, ABC, metaclass=Kind):
    def __init__(self, settings):
        self.settings = settings
        self.weights = dict.fromkeys(FEATURES, 0.0)
        self.log = []

    @abstractmethod
    def raw(self, row): ...

    @contextmanager
    def round(self, number):
        self.log.append(("start", number))
        yield self.settings.rate / (number + 1)
        self.log.append(("end", len(self.log)))


class Linear(Model, key="linear"):
    bias = -0.5 if USE_BIAS else 0.0

    def raw(self, row):
        return self.bias + sum(self.weights[name] * value for name, value in row.items())

    def update(self, table, rate):
        for row, wanted in zip(table.rows(), table.labels):
            error = wanted - sigmoid(self.raw(row))
            for name, value in row.items():
                self.weights[name] += rate * error * value


class Centered(Linear, key="centered"):
    def raw(self, row):
        return super().raw(row) - 0.1 * len(row)


if USE_BIAS:

    @traced
    def rounds_of(settings):
        return settings.total

else:

    def rounds_of(settings):
        return settings.rounds


def fit(table, settings, kind="centered"):
    model = KINDS[kind](settings)
    for number in range(rounds_of(settings)):
        with model.round(number) as rate:
            model.update(table, rate)
    return model


def history(model):
    last = [entry for entry in model.log if entry[0] == "end"][-3:]
    return last, {name: round(value, 3) for name, value in model.weights.items()}


def _shrink(self, row, scale=0.9):
    return Linear.raw(self, row) * scale


Centered.raw_shrunk = _shrink
Centered.score = lambda self, row: round(Scored.score(self, row) + 0.01 * self.raw_shrunk(row), 4)
