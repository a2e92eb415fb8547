"""A skops file with the same bytes for the same model.

skops names everything after its address in memory and stamps the time; neither is part of the model.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from airflow_zen.materializers.numpy.padding import zero_padding

_SCHEMA = "schema.json"
_ID = "__id__"


def write_reproducible_zip(skops_file: bytes, path: Path) -> None:
    """Write what `skops.io.dumps` gave, with addresses numbered by first appearance and no times."""
    with ZipFile(io.BytesIO(skops_file)) as source, ZipFile(path, "w", ZIP_STORED) as target:
        schema = json.loads(source.read(_SCHEMA))
        _reset_addresses(schema)
        _sort_sets(schema)
        _number_ids(schema)
        for old, new in _number_files(schema).items():
            target.writestr(ZipInfo(new), _zero_padding(new, source.read(old)))
        target.writestr(ZipInfo(_SCHEMA), json.dumps(schema))


def _zero_padding(name: str, content: bytes) -> bytes:
    """Zero what lies between the fields of a structured array, such as the nodes of a tree."""
    if not name.endswith(".npy"):
        return content
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.fields is None:
        return content
    clean = io.BytesIO()
    np.save(clean, zero_padding(array), allow_pickle=False)
    return clean.getvalue()


def _schema_nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of the schema, in the order it is written."""
    pending = [node]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            yield found
            pending.extend(reversed(list(found.values())))
        elif isinstance(found, list):
            pending.extend(reversed(found))


def _reset_addresses(schema: Any) -> None:
    """Reset what scikit-learn itself remembers by address: the stop words that it has already checked."""
    for node in _schema_nodes(schema):
        checked = node.get("_stop_words_id")
        if isinstance(checked, dict) and checked.get("__loader__") == "JsonNode":
            checked["content"] = "0"


def _sort_sets(schema: Any) -> None:
    for node in _schema_nodes(schema):
        if node.get("__loader__") == "SetNode":
            node["content"].sort(key=_text_without_ids)


def _number_ids(schema: Any) -> None:
    """Keep an id only where it says that two places hold the same mutable object."""
    uses = Counter(node[_ID] for node in _schema_nodes(schema) if _ID in node and node.get("__loader__") != "JsonNode")
    numbers: dict[int, int] = {}
    for node in _schema_nodes(schema):
        address = node.pop(_ID, None)
        if address is not None and uses[address] > 1 and node.get("__loader__") != "JsonNode":
            node[_ID] = numbers.setdefault(address, len(numbers) + 1)


def _number_files(schema: Any) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in _schema_nodes(schema):
        if isinstance(node.get("file"), str) and "__loader__" in node:
            suffix = Path(node["file"]).suffix
            node["file"] = names.setdefault(node["file"], f"{len(names)}{suffix}")
    return names


def _text_without_ids(node: Any) -> str:
    copy = json.loads(json.dumps(node))
    for found in _schema_nodes(copy):
        found.pop(_ID, None)
    return json.dumps(copy, sort_keys=True)
