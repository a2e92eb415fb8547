"""What mlflow makes of a stored estimator, through skops."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.registry import default_registry
from airflow_zen.materializers.sklearn import SklearnMaterializer, read_archive
from airflow_zen.materializers.sklearn.archive import EstimatorArchive


class StoredEstimator:
    """The object in the skops file, which becomes the estimator when skops sets its state."""

    def __setstate__(self, contents: Sequence[bytes]) -> None:
        """Become the estimator of the files' contents; raises `ArtifactRefused` where its class does not allow that."""
        archive = EstimatorArchive.of_contents(contents)
        try:
            read_archive(SklearnMaterializer(default_registry()), archive, shell=self)
        except TypeError as error:
            raise ArtifactRefused(
                f"mlflow cannot load this estimator: {error}. Load the artifact with airflow_zen.load."
            ) from error
