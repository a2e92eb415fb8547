"""Promises of `airflow_zen.steps.step`: a `Cache` is checked where it is written."""

import math
from datetime import timedelta
from functools import partial

import pytest

from airflow_zen import Cache
from airflow_zen.errors import StepDefinitionError
from airflow_zen.steps.step import Step


class Callable:
    def __call__(self, **inputs):
        return inputs


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"ttl": 0}, "cache=False never reuses"),
        ({"ttl": -1.0}, "above zero"),
        ({"ttl": math.nan}, "above zero"),
        ({"ttl": timedelta(0)}, "above zero"),
        ({"ttl": "1 day"}, "a timedelta, or seconds"),
        ({"ttl": True}, "a timedelta, or seconds"),
        ({"ignore": ("a", 1)}, "names in a tuple"),
        ({"env": ("",)}, "names in a tuple"),
        ({"files": 7}, "names in a tuple"),
        ({"files": ("/etc/hosts",)}, "relative to the file"),
        ({"key": "frame"}, "a function of the step's arguments"),
        ({"packages": "no"}, "True or False"),
        ({"scope": "task"}, "'shared' or 'dag'"),
    ],
)
def test_invalid_options_are_refused(wrong, remedy):
    """An invalid option fails when the `Cache` is created, and the error says what is valid."""
    with pytest.raises(StepDefinitionError, match=remedy):
        Cache(**wrong)


def test_one_name_needs_no_tuple():
    """A single name is a tuple of that name, not of its letters."""
    assert Cache(ignore="verbose", env=["REGION"]) == Cache(ignore=("verbose",), env=("REGION",))


def test_age_in_seconds():
    """A time to live is a timedelta or seconds; without one, results do not age."""
    assert [Cache(ttl=ttl).ttl_seconds for ttl in (timedelta(minutes=2), 7, None)] == [120.0, 7.0, math.inf]


def test_own_options_take_precedence_over_defaults():
    """Only options that a step's `Cache` leaves open follow the deployment."""
    defaults = Cache(ttl=60, packages=False, scope="dag")
    step = Step(len, "count", cache=Cache(ignore=("x",))).with_cache_defaults(defaults)
    assert step.cache == Cache(ttl=60, ignore=("x",), packages=False, scope="dag")
    own = Step(len, "count", cache=Cache(ttl=math.inf, packages=True, scope="shared"))
    assert own.with_cache_defaults(defaults) == own


def test_the_repr_is_stable():
    """The repr, which Airflow serializes with mapped tasks, contains no address: each parse would make a new DAG version."""
    for key in (partial(max, 1), Callable()):
        assert "0x" not in repr(Cache(key=key))
    text = repr(Cache(ttl=timedelta(1), key=lambda **inputs: inputs))
    assert "0x" not in text
    assert text.startswith("Cache(ttl=datetime.timedelta(days=1), key=")
