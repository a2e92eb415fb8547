"""The directory of a model as MLflow registers it: the artifact's files, with the versions that it was made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from airflow_zen.lineage.mlflow.models import completed_files
from airflow_zen.materializers.registry import default_registry


def save_registered(value: Any, directory: Path, encoding: str = "") -> dict[str, Any]:
    """Save a model, and write the versions into its files; return its flavors."""
    saved = default_registry().save(value, directory)
    assert encoding in ("", saved.encoding)
    written = completed_files((directory / "MLmodel").read_text(), saved.summary["environment"], {})
    for name, content in written.items():
        (directory / name).write_bytes(content)
    return flavors_of(directory)


def flavors_of(directory: Path) -> dict[str, Any]:
    """Return the flavors of an MLflow Model."""
    found: dict[str, Any] = yaml.safe_load((directory / "MLmodel").read_text())["flavors"]
    return found
