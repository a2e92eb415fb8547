"""What steps in Airflow's task runner start from."""

import pytest

from tests.calls import CALLS_FILE_VARIABLE


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A fresh artifact root, and no MLflow."""
    monkeypatch.setenv(CALLS_FILE_VARIABLE, str(tmp_path / "calls"))
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "root"
