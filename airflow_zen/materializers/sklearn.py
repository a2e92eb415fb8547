"""scikit-learn estimators as MLflow Model directories with skops files, without pickle and without importing mlflow."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import installed_version
from airflow_zen.materializers.mlflow_model import ModelMaterializer, WrittenModel

MODEL_FILE = "model.skops"

_SCHEMA = "schema.json"
_ID = "__id__"
_ID_MEMBER = re.compile(f'"{_ID}": [0-9]+, ')
_WEIGHTS = (("feature_importances_", "Feature importances"), ("coef_", "Coefficients, mean of absolutes"))

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


class SklearnMaterializer(ModelMaterializer):
    """Save any estimator, pipelines and searches included, in the layout of `mlflow.sklearn.save_model`.

    The same fitted state gives the same bytes. What scikit-learn, NumPy and SciPy build models of is
    trusted; an estimator with anything else (an own transformer, a lambda) is refused.
    """

    types = ("sklearn.base.BaseEstimator",)
    encoding = "sklearn.mlflow@1"
    libraries = ("scikit-learn", "skops", "numpy", "scipy")
    extra = "sklearn"
    requirements = ("numpy", "pandas", "scikit-learn", "scipy", "skops")

    def write(self, model: Any, directory: Path) -> WrittenModel:
        """Write `model.skops`; raises `SaveRefused` for an estimator that could not be loaded again."""
        trusted = write_estimator(model, directory / MODEL_FILE)
        flavor = {
            "code": None,
            "pickled_model": MODEL_FILE,
            "serialization_format": "skops",
            "skops_trusted_types": trusted,
            "sklearn_version": installed_version("scikit-learn"),
        }
        pyfunc = {"model_path": MODEL_FILE, "predict_fn": "predict"} if hasattr(model, "predict") else None
        parts_of = {name.partition(".")[0] for name in trusted}
        boosters = [name for name in ("lightgbm", "xgboost", "xgboost-cpu") if name.partition("-")[0] in parts_of]
        return WrittenModel(estimator_shape(model), flavor, pyfunc, requirements=boosters)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the estimator; raises `ArtifactRefused` for a file that contains untrusted types."""
        return read_estimator(directory / MODEL_FILE)

    def parameters(self, model: Any) -> Mapping[str, Any]:
        """Return the parameters, estimators by the name of their class: their own parameters are in the table too."""
        known = model.get_params().items()
        return {name: type(value).__qualname__ if hasattr(value, "get_params") else value for name, value in known}

    def feature_weights(self, model: Any) -> tuple[str, list[tuple[str, float]]]:
        """Return importances or coefficients, of a pipeline those of its last step; none without a fit."""
        import numpy as np

        steps = getattr(model, "steps", None)
        if isinstance(steps, list) and steps:
            return self.feature_weights(steps[-1][1])
        for name, meaning in _WEIGHTS:
            try:
                found = np.abs(np.asarray(getattr(model, name), dtype=np.float64))
            except Exception:  # noqa: BLE001, S112 - properties of estimators raise anything: sparse, other kernel, not fitted
                continue
            found = np.atleast_2d(found).mean(axis=0)
            names = [str(name) for name in getattr(model, "feature_names_in_", ())]
            names = names if len(names) == found.size else [f"feature {at}" for at in range(found.size)]
            return meaning, list(zip(names, map(float, found), strict=True))
        return "", []


def write_estimator(estimator: Any, file: Path) -> list[str]:
    """Write a skops file; return the names in it that skops must be told to trust.

    Raises `SaveRefused` for an estimator that could not be loaded again.
    """
    skops_io = _skops_io()
    try:
        _write_reproducible_zip(skops_io.dumps(estimator), file)
        found: list[str] = skops_io.get_untrusted_types(file=file)
        if not (untrusted := untrusted_types(found)):
            # Loaded once, as mlflow does too: skops writes some values that it cannot read.
            skops_io.load(file, trusted=found)
    except Exception as error:
        raise SaveRefused(
            f"skops does not keep {type(estimator).__qualname__}: {error}. Set [zen] allow_pickle = True to pickle it."
        ) from error
    if untrusted:
        raise SaveRefused(
            f"{type(estimator).__qualname__} contains {', '.join(untrusted)}, which only a pickle could hold. Return "
            f"the fitted part alone (such as search.best_estimator_), use scikit-learn's own parts, or set "
            f"[zen] allow_pickle = True."
        )
    return found


def read_estimator(file: Path) -> Any:
    """Read a skops file.

    Raises `ArtifactRefused` for types that are not trusted here, whatever the artifact's own `MLmodel` trusts.
    """
    found = _skops_io().get_untrusted_types(file=file)
    if untrusted := untrusted_types(found):
        raise ArtifactRefused(
            f"{file.name} contains {', '.join(untrusted)}, which are not loaded. Save the model again with parts of "
            f"scikit-learn, NumPy and SciPy only."
        )
    return _skops_io().load(file, trusted=found)


def estimator_shape(estimator: Any) -> str:
    """Return for people what an estimator is, and the number of its features."""
    features = getattr(estimator, "n_features_in_", None)
    name = type(estimator).__qualname__
    return name if features is None else f"{name} of {features} {'feature' if features == 1 else 'features'}"


def untrusted_types(names: Iterable[str]) -> list[str]:
    """Return those names, of the ones skops does not trust, that a model must not contain."""
    return sorted(name for name in names if not _is_trusted(name))


def _is_trusted(name: str) -> bool:
    """Whether a name, looked up in trusted libraries only, is a class defined there or a function that only computes."""
    if name in _TRUSTED_NAMES or _TRUSTED_NUMPY.fullmatch(name):
        return True
    if not _TRUSTED_MODULES.match(name):
        return False
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    defined_here = getattr(found, "__module__", None) == module
    return defined_here and (isinstance(found, type) or _TRUSTED_FUNCTIONS.match(name) is not None)


@cache
def _skops_io() -> Any:
    # skops asks every loaded module for the names of SciPy's ufuncs, and Airflow's deprecated names answer with warnings.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import skops.io
    return skops.io


def _write_reproducible_zip(skops_file: bytes, path: Path) -> None:
    """Write a file of `skops.io.dumps` without times, with addresses and members numbered by first appearance."""
    with ZipFile(io.BytesIO(skops_file)) as source, ZipFile(path, "w", ZIP_STORED) as target:
        schema = json.loads(source.read(_SCHEMA))
        new_names = _normalize(schema)
        _number_ids(schema)
        for old, new in new_names.items():
            content = source.read(old)
            target.writestr(ZipInfo(new), _zero_padding(content) if new.endswith(".npy") else content)
        target.writestr(ZipInfo(_SCHEMA), json.dumps(schema))


def _normalize(schema: Any) -> dict[str, str]:
    """Sort sets, and rename the members in order of use; return the new name of each.

    Reset the address that scikit-learn itself keeps: that of the stop words it has checked.
    """
    names: dict[str, str] = {}
    for node in _schema_nodes(schema):
        checked = node.get("_stop_words_id")
        if isinstance(checked, dict) and checked.get("__loader__") == "JsonNode":
            checked["content"] = "0"
        if node.get("__loader__") == "SetNode":
            node["content"].sort(key=lambda member: _ID_MEMBER.sub("", json.dumps(member, sort_keys=True)))
        if isinstance(node.get("file"), str) and "__loader__" in node:
            node["file"] = names.setdefault(node["file"], f"{len(names)}{Path(node['file']).suffix}")
    return names


def _number_ids(schema: Any) -> None:
    """Keep an id only where two places hold the same mutable object."""
    popped = [(node, node.pop(_ID)) for node in _schema_nodes(schema) if _ID in node]
    mutable = [(node, address) for node, address in popped if node.get("__loader__") != "JsonNode"]
    uses = Counter(address for _, address in mutable)
    numbers: dict[int, int] = {}
    for node, address in mutable:
        if uses[address] > 1:
            node[_ID] = numbers.setdefault(address, len(numbers) + 1)


def _zero_padding(content: bytes) -> bytes:
    """Zero the bytes between the fields of a structured array, such as the nodes of a tree."""
    import numpy as np

    from airflow_zen.materializers.numpy.arrays import zero_padding

    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.fields is None:
        return content
    clean = io.BytesIO()
    np.save(clean, zero_padding(array), allow_pickle=False)
    return clean.getvalue()


def _schema_nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of the schema, in the order of the file."""
    pending = [node]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            yield found
            pending.extend(reversed(list(found.values())))
        elif isinstance(found, list):
            pending.extend(reversed(found))
