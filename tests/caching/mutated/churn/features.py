"""Features of customers: functions in a registry, a descriptor, a table, and queries of a frame."""

import re
from functools import lru_cache, partial, singledispatch
from operator import attrgetter, itemgetter

import numpy as np
import pandas as pd

from .registry import Registry, compose, scaled
from .settings import SETTINGS

FEATURES = Registry("f_")
MIN_AGE = 30
WEIGHTS = np.linspace(0.5, 1.5, 4)
VOWELS = re.compile("[aeiou]")
RATIO = partial(round, ndigits=3)


@FEATURES.register
def age(customer):
    return customer.age / 100


@FEATURES.register(name="spend")
@scaled(0.01)
def bill(customer):
    return customer.bill


@FEATURES.register
def load(customer):
    heavy = customer.is_heavy(customer.usage)
    match customer.plan:
        case "basic":
            share = 0.5
        case "family" if heavy:
            share = 0.7
        case _:
            share = 1.0
    return share if heavy else share / 2


@FEATURES.register
def vowels(customer):
    return vowel_count(customer.plan) / 10


@lru_cache(maxsize=None)
def vowel_count(text):
    return len(VOWELS.findall(text))


class Column:
    """A descriptor that reads one feature of each row."""

    def __init__(self, name, scale=1.0):
        self.name, self.scale = name, scale

    def __get__(self, table, owner=None):
        if table is None:
            return self
        return [row[self.name] * self.scale for row in table.rows()]


class Table:
    spend = Column("f_spend", 2.0)
    ages = Column("f_age")
    __slots__ = ("_rows", "labels")

    def __init__(self, rows, labels):
        self._rows = rows
        self.labels = labels

    def rows(self):
        yield from self._rows

    def __len__(self):
        return len(self._rows)


def label(customer):
    return int(customer.age > MIN_AGE and customer.months < 12)


def build(customers):
    rows = [{name: RATIO(function(each)) for name, function in FEATURES.items()} for each in customers]
    return Table(rows, [label(each) for each in customers])


@singledispatch
def describe(value):
    return f"<{value}>"


@describe.register
def _(value: int):
    return f"{value:04d}"


@describe.register(str)
def _(value):
    return value.upper()


@describe.register
def _(value: tuple):
    return "/".join(describe(each) for each in value)


DESCRIBED = attrgetter("plan", "usage.calls", "age")
clean = compose(describe, lambda text: text.replace("/", " | "), str.strip)


def explain(customer):
    total = sum(weight * value for weight, value in zip(WEIGHTS.tolist(), DESCRIBED(customer)[1:]))
    return clean(DESCRIBED(customer)), RATIO(total)


def bands(customers):
    counts = {}
    for customer in customers:
        band = SETTINGS.band(customer.months / 24)
        counts[band] = counts.get(band, 0) + 1
    return dict(sorted(counts.items(), key=itemgetter(0)))


MAX_BILL = 30


def frame_totals(customers):
    frame = pd.DataFrame([each[:4] for each in customers], columns=["number", "age", "plan", "months"])
    frame["bill"] = [each.bill for each in customers]
    kept = frame.query("bill < @MAX_BILL and months > 3")
    means = kept.assign(ratio=lambda found: found["bill"] / found["months"]).groupby("plan")["ratio"].mean()
    return {plan: RATIO(value) for plan, value in means.items()}
