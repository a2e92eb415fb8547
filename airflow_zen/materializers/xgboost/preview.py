"""Previews of XGBoost models: parameters, and what each feature gains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xgboost

from airflow_zen.materializers.previews.models import model_page
from airflow_zen.materializers.previews.page import PREVIEW_HTML


def preview_xgboost_model(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a booster or a wrapper; of a wrapper the parameters that are set."""
    is_booster = isinstance(value, xgboost.Booster)
    parameters = {} if is_booster else {name: held for name, held in value.get_params().items() if held is not None}
    weights = _feature_gains(value if is_booster else vars(value).get("_Booster"))
    shape = str(summary.get("shape", ""))
    return {PREVIEW_HTML: model_page(type(value).__qualname__, shape, parameters, weights, "Mean gain of features")}


def _feature_gains(booster: Any) -> list[tuple[str, float]]:
    try:
        found = booster.get_score(importance_type="gain").items() if booster else ()
    except (ValueError, xgboost.core.XGBoostError):
        return []  # linear boosters have no gain
    return [(str(name), float(gain)) for name, gain in found if not isinstance(gain, list)]
