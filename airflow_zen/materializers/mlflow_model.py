"""The text files of an MLflow Model, as mlflow 3 writes them, without importing mlflow.

https://mlflow.org/docs/latest/ml/model/#storage-format
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer, installed_version
from airflow_zen.materializers.files import copy_files

_BUILD_DEPENDENCIES = ("pip", "setuptools", "wheel")


def write_environment(directory: Path, distributions: Sequence[str]) -> None:
    """Write `requirements.txt`, `python_env.yaml` and `conda.yaml`, pinned to those `distributions` installed here."""
    requirements = [pinned_requirement(name) for name in sorted({"mlflow", *distributions}) if installed_version(name)]
    (directory / "requirements.txt").write_text("\n".join(requirements), encoding="utf-8")
    _write_yaml(
        directory / "python_env.yaml",
        {
            "python": platform.python_version(),
            "build_dependencies": [pinned_requirement(name) for name in _BUILD_DEPENDENCIES],
            "dependencies": ["-r requirements.txt"],
        },
    )
    pip = f"pip<={installed_version('pip')}" if installed_version("pip") else "pip"
    _write_yaml(
        directory / "conda.yaml",
        {
            "channels": ["conda-forge"],
            "dependencies": [f"python={platform.python_version()}", pip, {"pip": requirements}],
            "name": "mlflow-env",
        },
    )


def write_mlmodel(directory: Path, flavors: Mapping[str, Any]) -> None:
    """Write `MLmodel`, after the model's own files.

    What differs between two saves of one model (`model_uuid`, `utc_time_created`) is left out, and mlflow
    reads the file without. So is a signature: its enforcement would refuse integers where the model takes
    them.
    """
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    document: dict[str, Any] = {"flavors": dict(flavors), "model_size_bytes": size}
    if installed_version("mlflow"):
        document["mlflow_version"] = installed_version("mlflow")
    _write_yaml(directory / "MLmodel", document)


def pyfunc_flavor(loader_module: str, **options: Any) -> dict[str, Any]:
    """Give the `python_function` flavor: which module of mlflow loads the model for any caller."""
    return {
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "loader_module": loader_module,
        "python_version": platform.python_version(),
        **options,
    }


def pinned_requirement(name: str) -> str:
    """Give the requirement of a distribution at the version installed here."""
    return f"{name}=={installed_version(name)}" if installed_version(name) else name


def _write_yaml(path: Path, document: dict[str, Any]) -> None:
    path.write_text("\n".join(_yaml_lines(document)) + "\n", encoding="utf-8")


def _yaml_lines(node: Any) -> Iterator[str]:
    """Write mappings and lists in block style; a JSON scalar is a YAML one."""
    if isinstance(node, dict) and node:
        for key, item in sorted(node.items()):
            yield from _yaml_entry(f"{key}:", item)
    elif isinstance(node, list) and node:
        for item in node:
            yield from _yaml_entry("-", item)
    else:
        yield json.dumps(node)


def _yaml_entry(start: str, item: Any) -> Iterator[str]:
    if not isinstance(item, dict | list) or not item:
        yield f"{start} {json.dumps(item)}"
        return
    yield start
    yield from (f"  {line}" for line in _yaml_lines(item))


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
        from airflow_zen.materializers.previews.html import PREVIEW_HTML, html_page, preformatted

        text = (Path(value.path) / MLMODEL_FILE).read_text("utf-8", errors="replace")
        return {PREVIEW_HTML: html_page(type(value).__qualname__, str(summary.get("shape", "")), [preformatted(text)])}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Give the directory."""
        return MLflowModel(directory)
