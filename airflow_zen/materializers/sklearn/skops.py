"""An estimator in a skops file: what may be in one, written so that it can be read again."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.numpy.arrays import zero_padding

# skops asks every loaded module for the names of SciPy's ufuncs, and Airflow's deprecated ones answer with warnings.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import skops.io


def write_estimator(estimator: Any, file: Path) -> list[str]:
    """Write the file, and give the names in it that skops must be told to trust.

    Raises `SaveRefused` for an estimator that could not be loaded again.
    """
    _write_skops(estimator, file)
    found: list[str] = skops.io.get_untrusted_types(file=file)
    untrusted_names = untrusted_types(found)
    if untrusted_names:
        raise SaveRefused(
            f"{type(estimator).__qualname__} contains {', '.join(untrusted_names)}, which only a pickle could hold. Return "
            f"the fitted part alone (such as search.best_estimator_), use scikit-learn's own parts, or set "
            f"[zen] allow_pickle = True."
        )
    _check_loadable(estimator, file, found)
    return found


def read_estimator(file: Path) -> Any:
    """Read the estimator; what may be in it is decided here, not by what the directory says it trusts."""
    found = skops.io.get_untrusted_types(file=file)
    untrusted_names = untrusted_types(found)
    if untrusted_names:
        raise ArtifactRefused(
            f"{file.name} contains {', '.join(untrusted_names)}, which are not loaded. Save the model anew with parts of "
            f"scikit-learn, NumPy and SciPy alone."
        )
    return skops.io.load(file, trusted=found)


def estimator_shape(estimator: Any) -> str:
    """Say for people what an estimator is, and of how many features."""
    features = getattr(estimator, "n_features_in_", None)
    name = type(estimator).__qualname__
    return name if features is None else f"{name} of {features} {'feature' if features == 1 else 'features'}"


def _write_skops(estimator: Any, file: Path) -> None:
    try:
        write_reproducible_zip(skops.io.dumps(estimator), file)
    except Exception as error:
        raise SaveRefused(_unsupported_message(estimator, error)) from error


def _check_loadable(estimator: Any, file: Path, trusted: list[str]) -> None:
    """Load once, as mlflow does too: skops writes some values that it cannot read."""
    try:
        skops.io.load(file, trusted=trusted)
    except Exception as error:
        raise SaveRefused(_unsupported_message(estimator, error)) from error


def _unsupported_message(estimator: Any, error: Exception) -> str:
    return f"skops does not keep {type(estimator).__qualname__}: {error}. Set [zen] allow_pickle = True to pickle it."


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


_TRUSTED_MODULES = re.compile(
    r"""
    (?!.*\b(tests|conftest)\b)
    (
        sklearn\.(?!datasets\b|externals\b|utils\._testing\b|utils\._mocking\b)
        | numpy\.(random|dtypes)\.
        | scipy\.(sparse|interpolate|spatial|special)\.
        | scipy\._lib\.array_api_compat\.numpy\.
        | lightgbm\.(basic\.Booster$|sklearn\.LGBM\w+$)
        | xgboost\.(core\.Booster$|sklearn\.XGB\w+$)
    )
    """,
    re.VERBOSE,
)
_TRUSTED_FUNCTIONS = re.compile(
    r"""
    sklearn\.(cluster\._kmeans|covariance|feature_extraction|feature_selection|gaussian_process|metrics|preprocessing)\.
    | sklearn\.utils\.(extmath\.|validation\.check_array$)
    | scipy\._lib\.array_api_compat\.numpy\.
    """,
    re.VERBOSE,
)
# Gradient boosting keeps a partial; the function in it is a name of its own, and looked up like any other.
_TRUSTED_NAMES = frozenset({"functools.partial", "collections.OrderedDict"})
_TRUSTED_NUMPY = re.compile(r"numpy\.(?!DataSource|from|gen|load|memmap|save|test)\w+")


def untrusted_types(names: Iterable[str]) -> list[str]:
    """Give the names that a model must not contain, of those that skops itself does not trust."""
    return sorted(name for name in names if not _is_trusted(name))


def _is_trusted(name: str) -> bool:
    """Look a name up, in these libraries alone: a class where it is defined, or a function that only computes."""
    if name in _TRUSTED_NAMES or _TRUSTED_NUMPY.fullmatch(name):
        return True
    module, _, attribute = name.rpartition(".")
    if not _TRUSTED_MODULES.match(name):
        return False
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    defined_here = getattr(found, "__module__", None) == module
    return defined_here and (isinstance(found, type) or _TRUSTED_FUNCTIONS.match(name) is not None)
