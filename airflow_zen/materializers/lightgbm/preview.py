"""Previews of LightGBM models: parameters, and what each feature gains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightgbm

from airflow_zen.materializers.previews.models import model_page
from airflow_zen.materializers.previews.page import PREVIEW_HTML


def preview_lightgbm_model(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a booster or a wrapper; of a wrapper the parameters that are set."""
    is_booster = isinstance(value, lightgbm.Booster)
    parameters = value.params if is_booster else _non_null_parameters(value.get_params())
    fitted = is_booster or value.__sklearn_is_fitted__()
    weights = _feature_gains(value if is_booster else value.booster_) if fitted else []
    shape = str(summary.get("shape", ""))
    return {PREVIEW_HTML: model_page(type(value).__qualname__, shape, parameters, weights, "Total gain of features")}


def _non_null_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _feature_gains(booster: Any) -> list[tuple[str, float]]:
    gains = booster.feature_importance(importance_type="gain")
    return [(str(name), float(gain)) for name, gain in zip(booster.feature_name(), gains, strict=True)]
