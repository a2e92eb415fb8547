"""What a model was told, and which features it uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from airflow_zen.materializers.previews.charts import bar_chart
from airflow_zen.materializers.previews.html import Markup, heading, html_page, truncation_note
from airflow_zen.materializers.previews.tables import plain_table

_MAX_PARAMETERS = 60
_MAX_FEATURES = 20

Weights = Iterable[tuple[str, float]]


def model_page(title: str, shape: str, parameters: Mapping[str, Any], weights: Weights = (), kind: str = "") -> str:
    """Show parameters, and the features of greatest weight; `kind` says what the weights are."""
    return html_page(title, shape, _sections(parameters, list(weights), kind))


def _sections(parameters: Mapping[str, Any], weights: list[tuple[str, float]], kind: str) -> Iterator[Markup]:
    weights.sort(key=lambda weight: -weight[1])
    if weights:
        yield heading(kind)
        yield bar_chart(weights[:_MAX_FEATURES])
        if len(weights) > _MAX_FEATURES:
            yield truncation_note(f"{len(weights) - _MAX_FEATURES} more features, of less weight")
    if parameters:
        yield heading("Parameters")
        shown = islice(((str(name), value) for name, value in parameters.items()), _MAX_PARAMETERS)
        yield plain_table(["parameter", "value"], shown)
        if len(parameters) > _MAX_PARAMETERS:
            yield truncation_note(f"{len(parameters) - _MAX_PARAMETERS} more parameters")
