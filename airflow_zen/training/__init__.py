"""Checkpoints of training libraries in a step: `from airflow_zen.training import LightningCheckpoint`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_zen.training.lightning import LightningCheckpoint as LightningCheckpoint
    from airflow_zen.training.transformers import TransformersCheckpoint as TransformersCheckpoint

_MODULES = {
    "LightningCheckpoint": "airflow_zen.training.lightning",
    "TransformersCheckpoint": "airflow_zen.training.transformers",
}

__all__ = ["LightningCheckpoint", "TransformersCheckpoint"]


if not TYPE_CHECKING:  # Type checkers accept any name of a module that has this function.

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'airflow_zen.training' has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)
