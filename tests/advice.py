"""What an error says to do, taken from its text, for tests that then do it."""

import re
from collections.abc import Callable
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
