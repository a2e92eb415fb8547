"""What holds for the fingerprints of all plain values, and in every process."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_zen.fingerprint import fingerprint

ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.binary(max_size=5),
    st.dates(), st.datetimes(), st.timedeltas(), st.decimals(allow_nan=False), st.fractions(), st.uuids(),
)  # fmt: skip
KEYS = st.one_of(st.booleans(), st.integers(), st.text(max_size=3), st.tuples(st.integers(), st.text(max_size=2)))
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner, max_size=3),
        st.frozensets(KEYS, max_size=3),
    ),
    max_leaves=8,
)


def same(one: Any, two: Any) -> bool:
    """Return whether two values are the same, in another way than the code does."""
    if type(one) is not type(two):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return sorted(map(repr, one)) == sorted(map(repr, two)) and all(
            any(same(key, other) and same(one[key], two[other]) for other in two) for key in one
        )
    if isinstance(one, frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, two))
    return repr(one) == repr(two)


@settings(max_examples=400)
@given(VALUES, VALUES)
def test_fingerprints_agree_exactly_when_values_do(one: Any, two: Any) -> None:
    """For any two values, the fingerprints are equal if and only if the values are."""
    assert (fingerprint(one) == fingerprint(two)) == same(one, two)


@given(VALUES)
def test_copy_agrees(value: Any) -> None:
    """A copy of any value has its fingerprint."""
    assert fingerprint(copy.deepcopy(value)) == fingerprint(value)


@given(st.dictionaries(KEYS, ATOMS, max_size=6), st.randoms())
def test_dictionary_order_never_matters(value: dict[Any, Any], draw: Any) -> None:
    """Any order of insertion gives the same fingerprint."""
    items = list(value.items())
    draw.shuffle(items)
    assert fingerprint(dict(items)) == fingerprint(value)


SCRIPT = """
from tests.test_fingerprint import DISTINCT, fingerprint
print([fingerprint(value) for value in DISTINCT], fingerprint({f"k{i}" for i in range(100)}))
"""


def test_processes_agree(capsys: pytest.CaptureFixture[str]) -> None:
    """Processes with other hash seeds give the same fingerprints."""
    exec(SCRIPT, {})
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == capsys.readouterr().out
