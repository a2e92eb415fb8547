"""Previews of tensors, state dicts and modules: what they are made of, and how values are spread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch

from airflow_zen.materializers.previews.charts import BINS, bar_chart
from airflow_zen.materializers.previews.page import (
    PREVIEW_HTML,
    Markup,
    heading,
    html_page,
    preformatted,
    truncation_note,
)
from airflow_zen.materializers.previews.tables import plain_table, sample_rows

_MAX_TENSORS = 100


def preview_tensor(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show dtype, shape and distribution of a tensor."""
    subtitle = f"{value.dtype} · shape {tuple(value.shape)}"
    return {PREVIEW_HTML: html_page(type(value).__qualname__, subtitle, _distribution(value))}


def preview_state_dict(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the names, shapes and dtypes of the tensors of a state dict."""
    return {
        PREVIEW_HTML: html_page("State dict", str(summary.get("shape", "")), _tensor_table(value.items(), len(value)))
    }


def preview_module(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the layers of a module, and its parameters."""
    parameters = dict(value.named_parameters())
    count = sum(parameter.numel() for parameter in parameters.values())
    sections = (heading("Layers"), preformatted(str(value), 8_000), *_tensor_table(parameters.items(), len(parameters)))
    return {PREVIEW_HTML: html_page(type(value).__qualname__, f"{count:,} parameters", sections)}


def _tensor_table(tensors: Iterable[tuple[str, Any]], count: int) -> Iterator[Markup]:
    yield heading("Tensors")
    rows = ((name, tuple(held.shape), str(held.dtype)) for name, held in islice(tensors, _MAX_TENSORS))
    yield plain_table(["name", "shape", "dtype"], rows)
    if count > _MAX_TENSORS:
        yield truncation_note(f"{count - _MAX_TENSORS} more tensors")


def _distribution(value: Any) -> Iterator[Markup]:
    if value.is_complex() or not value.numel():
        return
    values = (
        value.detach()
        .reshape(-1)[torch.tensor(sample_rows(value.numel()), device=value.device)]
        .to("cpu", torch.float64)
    )
    values = values[torch.isfinite(values)]
    if not len(values) or not torch.isfinite(values.max() - values.min()):
        return
    low, high = float(values.min()), float(values.max())
    step = (high - low) / BINS
    counts = torch.histc(values, BINS, low, high).tolist() if step else [float(len(values))]
    yield heading(f"Distribution of {len(values)} values")
    yield bar_chart(
        [(f"{low + at * step:.4g} – {low + (at + 1) * step:.4g}", count) for at, count in enumerate(counts)]
    )
