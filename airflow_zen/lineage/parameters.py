"""A step's parameters as MLflow's flat texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_zen.lineage.limits import ELLIPSIS, MAX_KEY, MAX_PARAMETER_VALUE, shorten, shorten_name

_MAX_PARAMETERS = 300
_INVALID_KEY_CHARACTERS = re.compile(r"[^\w.\- :]")


def flatten_parameters(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Give MLflow parameters: `optimizer.lr` for nested dicts, JSON for lists, `str` for the rest.

    At most 300; `zen.more` says how many others the step run record holds.
    """
    leaves = list(_flatten(parameters, ""))
    texts: dict[str, str] = {}
    for name, value in leaves[:_MAX_PARAMETERS]:
        texts[_unique_key(sanitize_key(name), texts)] = shorten(_value_text(value), MAX_PARAMETER_VALUE)
    if len(leaves) > _MAX_PARAMETERS:
        texts["zen.more"] = f"{ELLIPSIS} {len(leaves) - _MAX_PARAMETERS} more parameters are in the step run record"
    return texts


def key_value_entries(texts: Mapping[str, str]) -> list[dict[str, str]]:
    """Write a mapping as MLflow's list of `{"key", "value"}`."""
    return [{"key": key, "value": value} for key, value in texts.items()]


def sanitize_key(name: str) -> str:
    """Write a name with the characters and the length that MLflow allows."""
    return shorten_name(_INVALID_KEY_CHARACTERS.sub("_", name).strip() or "_", MAX_KEY)


def _flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not name):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _unique_key(key: str, taken: Mapping[str, str]) -> str:
    """Give the key, numbered when two names became the same one."""
    number = 2
    unique = key
    while unique in taken:
        unique, number = f"{key[: MAX_KEY - 6]}_{number}", number + 1
    return unique


def _value_text(value: Any) -> str:
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
