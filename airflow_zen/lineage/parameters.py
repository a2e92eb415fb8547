"""A step's parameters as MLflow's flat texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_zen.lineage.limits import CUT, KEY, PARAMETER_VALUE, shorten, shorten_name

_MOST = 300
_NOT_IN_A_KEY = re.compile(r"[^\w.\- :]")


def flat(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Give MLflow parameters: `optimizer.lr` for nested dicts, JSON for lists, `str` for the rest.

    At most 300; `zen.more` says how many others the step run record holds.
    """
    leaves = list(_leaves(parameters, ""))
    texts: dict[str, str] = {}
    for name, value in leaves[:_MOST]:
        texts[_free(plain_key(name), texts)] = shorten(_text(value), PARAMETER_VALUE)
    if len(leaves) > _MOST:
        texts["zen.more"] = f"{CUT} {len(leaves) - _MOST} more parameters are in the step run record"
    return texts


def entries(texts: Mapping[str, str]) -> list[dict[str, str]]:
    """Write a mapping as MLflow's list of `{"key", "value"}`."""
    return [{"key": key, "value": value} for key, value in texts.items()]


def plain_key(name: str) -> str:
    """Write a name with the characters and the length that MLflow allows."""
    return shorten_name(_NOT_IN_A_KEY.sub("_", name).strip() or "_", KEY)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not name):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _free(key: str, taken: Mapping[str, str]) -> str:
    """Give the key, numbered when two names became the same one."""
    number = 2
    free = key
    while free in taken:
        free, number = f"{key[: KEY - 6]}_{number}", number + 1
    return free


def _text(value: Any) -> str:
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
