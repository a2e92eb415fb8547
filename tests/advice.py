"""What an error says to do, taken from its text, for tests that then do it."""

import re
from collections.abc import Callable
from importlib.metadata import metadata
from typing import Any

import pytest

from airflow_zen.errors import ZenError


def advice_of(refused: Callable[[], Any], pattern: str) -> list[str]:
    """Return the groups of a pattern in the text of the error with which a call, or a command, is refused."""
    with pytest.raises((ZenError, SystemExit)) as error:
        refused()
    found = re.search(pattern, str(error.value), re.DOTALL)
    assert found, str(error.value)
    return [*found.groups()]


def libraries_of_extra(extra: str) -> list[str]:
    """Return the names of the packages that an extra of this package installs."""
    required = metadata("airflow-provider-zen").get_all("Requires-Dist") or []
    return [re.split(r"[^\w.-]", line)[0] for line in required if re.search(f"extra == ['\"]{extra}['\"]", line)]
