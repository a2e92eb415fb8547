"""Previews of estimators: parameters, and the weight of each feature where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from airflow_zen.materializers.previews.models import model_page
from airflow_zen.materializers.previews.page import PREVIEW_HTML


def preview_estimator(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show an estimator; of a pipeline the weights of its last step."""
    kind, weights = _feature_weights(_last_step(value))
    parameters = {name: _parameter_value(held) for name, held in value.get_params().items()}
    return {
        PREVIEW_HTML: model_page(type(value).__qualname__, str(summary.get("shape", "")), parameters, weights, kind)
    }


def _last_step(estimator: Any) -> Any:
    steps = getattr(estimator, "steps", None)
    return _last_step(steps[-1][1]) if isinstance(steps, list) and steps else estimator


def _parameter_value(value: Any) -> Any:
    """Name an estimator among the parameters by its class: its parameters are in the table anyway."""
    return type(value).__qualname__ if hasattr(value, "get_params") else value


def _feature_weights(estimator: Any) -> tuple[str, list[tuple[str, float]]]:
    """Give importances or coefficients by feature; none of an estimator that has neither, or is not fitted."""
    for name, kind in (("feature_importances_", "Feature importances"), ("coef_", "Coefficients, mean of absolutes")):
        try:
            found = np.abs(np.asarray(getattr(estimator, name), dtype=np.float64))
        except Exception:  # noqa: BLE001, S112 - properties of estimators raise what they like: sparse, other kernel, not fitted
            continue
        found = np.atleast_2d(found).mean(axis=0)
        return kind, list(zip(_feature_names(estimator, found.size), map(float, found), strict=True))
    return "", []


def _feature_names(estimator: Any, count: int) -> list[str]:
    names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    return names if len(names) == count else [f"feature {at}" for at in range(count)]
