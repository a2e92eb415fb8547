"""scikit-learn estimators as MLflow Model directories, without pickle and without importing mlflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_zen.materializers.base import Materializer, installed_version
from airflow_zen.materializers.mlflow_model import ModelMaterializer, WrittenModel
from airflow_zen.materializers.typed_json import part_loader

if TYPE_CHECKING:
    from airflow_zen.materializers.sklearn.archive import EstimatorArchive

MODEL_FILE = "model.skops"
# In the order of `airflow_zen.materializers.sklearn.archive.STORED_CLASS`.
SKOPS_OPTIONS: Mapping[str, Any] = {
    "serialization_format": "skops",
    "skops_trusted_types": [f"{__name__}.stored.StoredEstimator"],
}
"""The options of MLflow's flavors with which skops loads the file."""

_WEIGHTS = (("feature_importances_", "Feature importances"), ("coef_", "Coefficients, mean of absolutes"))


class SklearnMaterializer(ModelMaterializer):
    """Save any estimator, pipelines and searches included, in the layout of `mlflow.sklearn.save_model`.

    The same fitted state gives the same bytes. Own classes and functions are stored by their names, under which they must
    be importable where the estimator is loaded. Refused: lambdas, local classes, open files and locks.
    """

    types = ("sklearn.base.BaseEstimator",)
    encoding = "sklearn.mlflow@2"
    reads = ("sklearn.mlflow@1",)
    libraries = ("scikit-learn", "numpy", "scipy")
    extra = "sklearn"
    requirements = ("airflow-provider-zen", "numpy", "pandas", "scikit-learn", "scipy", "skops")

    def write(self, model: Any, directory: Path) -> WrittenModel:
        """Write `model.skops`; raises `SaveRefused` for an estimator that could not be loaded again."""
        requirements, code = write_estimator(self, model, directory)
        flavor = {
            "code": None,
            "pickled_model": MODEL_FILE,
            "sklearn_version": installed_version("scikit-learn"),
            **SKOPS_OPTIONS,
        }
        pyfunc = {"model_path": MODEL_FILE, "predict_fn": "predict"} if hasattr(model, "predict") else None
        return WrittenModel(estimator_shape(model), flavor, pyfunc, requirements=requirements, code=code)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the estimator; raises `ArtifactRefused` for a file that names untrusted classes or functions."""
        return read_estimator(self, directory, wanted)

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


def write_estimator(materializer: Materializer, estimator: Any, directory: Path) -> tuple[list[str], list[str]]:
    """Write `model.skops` into a directory; return the further distributions and the project's code that it needs.

    Raises `SaveRefused` for an estimator that could not be loaded again.
    """
    from airflow_zen.materializers.project_code import project_code
    from airflow_zen.materializers.sklearn.archive import write_archive
    from airflow_zen.materializers.sklearn.encoding import EstimatorEncoder

    with TemporaryDirectory(prefix="estimator-") as parts:
        encoder = EstimatorEncoder(materializer.registry, Path(parts))
        root = encoder.encode_estimator(estimator)
        document = {"root": root, "objects": encoder.objects}
        write_archive(directory / MODEL_FILE, document, encoder.packs, Path(parts))
    return encoder.distributions(), project_code(encoder.definitions)


def read_estimator(materializer: Materializer, directory: Path, wanted: type | None = None) -> Any:
    """Read what `write_estimator` wrote, or skops.

    Raises `ArtifactRefused` for classes and functions that are not trusted here, whatever `MLmodel` trusts.
    """
    from airflow_zen.materializers.sklearn.archive import EstimatorArchive

    with (directory / MODEL_FILE).open("rb") as file:
        archive = EstimatorArchive.open(file)
        if archive is not None:
            return read_archive(materializer, archive, wanted)
    from airflow_zen.materializers.sklearn.skops import read_skops

    return read_skops(directory / MODEL_FILE)


def read_archive(materializer: Materializer, archive: EstimatorArchive, wanted: Any = None, shell: Any = None) -> Any:
    """Return the estimator of an archive, which `shell` becomes if it is given."""
    from airflow_zen.materializers.sklearn.decoding import EstimatorDecoder

    with TemporaryDirectory(prefix="estimator-") as directory:
        archive.extract("parts/", Path(directory))
        load_part = part_loader(materializer.registry, Path(directory))
        return EstimatorDecoder(archive, load_part, wanted, shell).decode_estimator()


def estimator_shape(estimator: Any) -> str:
    """Return for people what an estimator is, and the number of its features."""
    features = getattr(estimator, "n_features_in_", None)
    name = type(estimator).__qualname__
    return name if features is None else f"{name} of {features} {'feature' if features == 1 else 'features'}"
