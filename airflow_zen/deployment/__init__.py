"""Deployments: models that answer requests, and the targets that serve them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SettingsError

if TYPE_CHECKING:
    from airflow_zen.deployment.base import Target
    from airflow_zen.deployment.bentoml import BentoML as BentoML
    from airflow_zen.deployment.cluster.rollout import promote_canary as promote_canary
    from airflow_zen.deployment.cluster.rollout import roll_back as roll_back
    from airflow_zen.deployment.kserve import KServe as KServe
    from airflow_zen.deployment.mlflow_serving import MLflowServing as MLflowServing
    from airflow_zen.deployment.seldon import Seldon as Seldon

_MODULES = {
    "BentoML": "airflow_zen.deployment.bentoml",
    "KServe": "airflow_zen.deployment.kserve",
    "MLflowServing": "airflow_zen.deployment.mlflow_serving",
    "Seldon": "airflow_zen.deployment.seldon",
}
_FUNCTIONS = dict.fromkeys(("promote_canary", "roll_back"), "airflow_zen.deployment.cluster.rollout")

__all__ = ["BentoML", "KServe", "MLflowServing", "Seldon", "parse_target", "promote_canary", "roll_back"]


def parse_target(text: str) -> Target:
    """Return the target that a text describes as Python code would: the `repr` of one. Raises `SettingsError`."""
    from airflow_zen.runtimes import evaluate_record

    try:
        target: Target = evaluate_record(text, _MODULES)
    except (ValueError, TypeError, SyntaxError) as error:
        raise SettingsError(f"{text!r} is no target such as 'MLflowServing()': {error}.") from error
    return target


if not TYPE_CHECKING:  # Type checkers accept any name of a module that has this function.

    def __getattr__(name: str) -> Any:
        modules = _MODULES | _FUNCTIONS
        if name not in modules:
            raise AttributeError(f"module 'airflow_zen.deployment' has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)
