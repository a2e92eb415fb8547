"""Previews of CatBoost models: parameters, and how much each feature changes predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import catboost

from airflow_zen.materializers.previews.models import model_page
from airflow_zen.materializers.previews.page import PREVIEW_HTML


def preview_catboost_model(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a model."""
    shape = str(summary.get("shape", ""))
    weights = _feature_importances(value) if value.is_fitted() else []
    return {
        PREVIEW_HTML: model_page(
            type(value).__qualname__, shape, value.get_params(), weights, "Change of predictions, in %"
        )
    }


def _feature_importances(model: Any) -> list[tuple[str, float]]:
    try:
        found = model.get_feature_importance()
    except catboost.CatBoostError:
        return []  # rankers and some losses ask for the data
    return [(str(name), float(weight)) for name, weight in zip(model.feature_names_, found, strict=True)]
