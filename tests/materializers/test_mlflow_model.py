"""A directory that mlflow wrote is an artifact like any model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.pyfunc import PythonModel

from airflow_zen import MLflowModel
from airflow_zen.errors import MaterializerNotFound, SaveRefused
from airflow_zen.materializers.registry import default_registry

REGISTRY = default_registry()


class Doubler(PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return model_input * 2


def _write(directory: Path) -> Path:
    path = directory / "doubler"
    mlflow.pyfunc.save_model(path, python_model=Doubler(), pip_requirements=["mlflow"])
    return path


def test_directory_is_kept_as_it_is(tmp_path: Path) -> None:
    """A model of any flavor is stored in the artifact's own directory, and mlflow loads it from there."""
    written, stored = _write(tmp_path), tmp_path / "stored"
    stored.mkdir()
    saved = REGISTRY.save(MLflowModel(written), stored)
    assert (saved.encoding, saved.type) == ("directory.mlflow@1", "airflow_zen.materializers.mlflow_model.MLflowModel")
    assert _files(stored) == _files(written)
    loaded = REGISTRY.load(stored, saved.encoding)
    assert loaded == MLflowModel(stored)
    assert mlflow.pyfunc.load_model(str(loaded.path)).predict(pd.DataFrame({"a": [2]})).to_dict() == {"a": {0: 4}}


def test_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    """A directory that mlflow did not write is refused; one that `save_model` wrote, as the error says, is stored."""
    with pytest.raises(SaveRefused, match=r"has no file MLmodel.*save_model of"):
        REGISTRY.save(MLflowModel(tmp_path), tmp_path)
    (tmp_path / "stored").mkdir()
    assert REGISTRY.save(MLflowModel(_write(tmp_path)), tmp_path / "stored").encoding == "directory.mlflow@1"


def test_loaded_and_unsaved_models_are_refused(tmp_path: Path) -> None:
    """A pyfunc model and its code have no files of their own; the error says what to return."""
    for value in (mlflow.pyfunc.load_model(str(_write(tmp_path))), Doubler()):
        with pytest.raises(MaterializerNotFound, match=r"airflow_zen\.MLflowModel"):
            REGISTRY.save(value, tmp_path)


def _files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }
