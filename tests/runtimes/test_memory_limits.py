"""Promises of `airflow_zen.runtimes.memory_limits`: amounts, and the limit of a try."""

import pytest

from airflow_zen.errors import StepDefinitionError
from airflow_zen.runtimes.memory_limits import memory_bytes, memory_limits, memory_of_try


@pytest.mark.parametrize(
    ("amount", "size"), [("0", 0), ("1024", 1024), ("1k", 1000), ("1.5Ki", 1536), ("4Gi", 2**32), ("2T", 2 * 10**12)]
)
def test_amounts_are_those_of_kubernetes(amount, size):
    """Units with an i are powers of 1024, the others of 1000."""
    assert memory_bytes(amount) == size


@pytest.mark.parametrize("amount", ["", "4g", "4GB", "4 Gi", "-1Gi", "Gi", "128m", 4])
def test_anything_else_is_refused(amount):
    """Lower-case units, which mean different things in Docker and Kubernetes, are refused, too."""
    with pytest.raises(StepDefinitionError, match="An amount of memory is written as '4Gi' or '500M'"):
        memory_bytes(amount)


def test_later_tries_have_the_last_limit():
    """Each try has its own limit, and tries after the last limit have that one."""
    limits = memory_limits(["4Gi", "16Gi"])
    assert [memory_of_try(limits, number) for number in (0, 1, 2, 3)] == ["4Gi", "4Gi", "16Gi", "16Gi"]
    assert memory_limits("4Gi") == ("4Gi",)
    assert memory_of_try((), 1) == ""
