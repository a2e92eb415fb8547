"""Previews of tensors, state dicts and modules: what they are made of, and how values are spread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch

from airflow_zen.materializers.previews.charts import BINS, bars
from airflow_zen.materializers.previews.page import HTML, Markup, cut_note, heading, page, preformatted
from airflow_zen.materializers.previews.tables import plain_table, sampled

_MOST_TENSORS = 100


def preview_tensor(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show dtype, shape and distribution of a tensor."""
    subtitle = f"{value.dtype} · shape {tuple(value.shape)}"
    return {HTML: page(type(value).__qualname__, subtitle, _distribution(value))}


def preview_state(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the names, shapes and dtypes of the tensors of a state dict."""
    return {HTML: page("State dict", str(summary.get("shape", "")), _tensors(value.items(), len(value)))}


def preview_module(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the layers of a module, and its parameters."""
    parameters = dict(value.named_parameters())
    count = sum(parameter.numel() for parameter in parameters.values())
    sections = (heading("Layers"), preformatted(str(value), 8_000), *_tensors(parameters.items(), len(parameters)))
    return {HTML: page(type(value).__qualname__, f"{count:,} parameters", sections)}


def _tensors(tensors: Iterable[tuple[str, Any]], count: int) -> Iterator[Markup]:
    yield heading("Tensors")
    rows = ((name, tuple(held.shape), str(held.dtype)) for name, held in islice(tensors, _MOST_TENSORS))
    yield plain_table(["name", "shape", "dtype"], rows)
    if count > _MOST_TENSORS:
        yield cut_note(f"{count - _MOST_TENSORS} more tensors")


def _distribution(value: Any) -> Iterator[Markup]:
    if value.is_complex() or not value.numel():
        return
    values = (
        value.detach().reshape(-1)[torch.tensor(sampled(value.numel()), device=value.device)].to("cpu", torch.float64)
    )
    values = values[torch.isfinite(values)]
    if not len(values) or not torch.isfinite(values.max() - values.min()):
        return
    low, high = float(values.min()), float(values.max())
    step = (high - low) / BINS
    counts = torch.histc(values, BINS, low, high).tolist() if step else [float(len(values))]
    yield heading(f"Distribution of {len(values)} values")
    yield bars([(f"{low + at * step:.4g} – {low + (at + 1) * step:.4g}", count) for at, count in enumerate(counts)])
