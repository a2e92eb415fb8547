"""The text files of an MLflow Model, as mlflow 3 writes them for the skops format.

https://mlflow.org/docs/latest/ml/model/#storage-format
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from airflow_zen.materializers.versions import installed

MODEL_FILE = "model.skops"

_BUILD = ("pip", "setuptools", "wheel")
_REQUIRED = ("mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops")


def write_environment(directory: Path) -> None:
    """Write `requirements.txt`, `python_env.yaml` and `conda.yaml`, pinned to what is installed here."""
    requirements = [_pinned(name) for name in _REQUIRED if installed(name)]
    (directory / "requirements.txt").write_text("\n".join(requirements), encoding="utf-8")
    _write_yaml(
        directory / "python_env.yaml",
        {
            "python": platform.python_version(),
            "build_dependencies": [_pinned(name) for name in _BUILD],
            "dependencies": ["-r requirements.txt"],
        },
    )
    pip = f"pip<={installed('pip')}" if installed("pip") else "pip"
    _write_yaml(
        directory / "conda.yaml",
        {
            "channels": ["conda-forge"],
            "dependencies": [f"python={platform.python_version()}", pip, {"pip": requirements}],
            "name": "mlflow-env",
        },
    )


def write_mlmodel(directory: Path, trusted: Sequence[str], predicts: bool) -> None:
    """Write `MLmodel`; `trusted` are the types that mlflow hands to skops when it loads the model.

    What differs between two saves of one model (`model_uuid`, `utc_time_created`) is left out, and mlflow
    reads the file without. So is a signature: its enforcement would refuse integers where the model takes
    them.
    """
    flavors: dict[str, Any] = {"sklearn": _sklearn_flavor(trusted)}
    if predicts:
        flavors["python_function"] = _pyfunc_flavor()
    document: dict[str, Any] = {"flavors": flavors, "model_size_bytes": (directory / MODEL_FILE).stat().st_size}
    if installed("mlflow"):
        document["mlflow_version"] = installed("mlflow")
    _write_yaml(directory / "MLmodel", document)


def _sklearn_flavor(trusted: Sequence[str]) -> dict[str, Any]:
    return {
        "code": None,
        "pickled_model": MODEL_FILE,
        "serialization_format": "skops",
        "skops_trusted_types": list(trusted),
        "sklearn_version": installed("scikit-learn"),
    }


def _pyfunc_flavor() -> dict[str, Any]:
    return {
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "loader_module": "mlflow.sklearn",
        "model_path": MODEL_FILE,
        "predict_fn": "predict",
        "python_version": platform.python_version(),
    }


def _pinned(name: str) -> str:
    return f"{name}=={installed(name)}" if installed(name) else name


def _write_yaml(path: Path, document: dict[str, Any]) -> None:
    path.write_text("\n".join(_yaml(document)) + "\n", encoding="utf-8")


def _yaml(node: Any) -> Iterator[str]:
    """Write mappings and lists in block style; a JSON scalar is a YAML one."""
    if isinstance(node, dict) and node:
        for key, item in sorted(node.items()):
            yield from _entry(f"{key}:", item)
    elif isinstance(node, list) and node:
        for item in node:
            yield from _entry("-", item)
    else:
        yield json.dumps(node)


def _entry(start: str, item: Any) -> Iterator[str]:
    if not isinstance(item, dict | list) or not item:
        yield f"{start} {json.dumps(item)}"
        return
    yield start
    yield from (f"  {line}" for line in _yaml(item))
