"""A directory that mlflow's own `save_model` wrote, of any flavor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.paths import copy_files

MLMODEL_FILE = "MLmodel"


@dataclass(frozen=True)
class MLflowModel:
    """Hand over an MLflow Model as the directory it is, for flavors that have no type of their own here.

    A step that returns `MLflowModel(path)` makes a model like any other: with a logged model and, where the step
    asks for it, a version in the registry. `mlflow.pyfunc.load_model(model.path)` opens it.
    """

    path: Path


class MLflowModelMaterializer(Materializer):
    """Copy the directory as it is; what mlflow put in it, pickles too, is for mlflow to read."""

    types = (f"{__name__}.{MLflowModel.__qualname__}",)
    encoding = "directory.mlflow@1"
    gives_paths = True

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Copy `MLmodel` and all beside it; raises `SaveRefused` where there is none, and for links that leave it."""
        root = Path(value.path)
        if not (root / MLMODEL_FILE).is_file():
            raise SaveRefused(f"{str(root)!r} has no file {MLMODEL_FILE}. Write it with a save_model of mlflow's.")
        return {"shape": f"MLflow Model of {copy_files(root, directory)} files"}

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the file `MLmodel`."""
        from airflow_zen.materializers.previews.page import PREVIEW_HTML, html_page, preformatted

        text = (Path(value.path) / MLMODEL_FILE).read_text("utf-8", errors="replace")
        return {PREVIEW_HTML: html_page(type(value).__qualname__, str(summary.get("shape", "")), [preformatted(text)])}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Give the directory."""
        return MLflowModel(directory)
