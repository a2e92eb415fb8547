"""PyTorch tensors, state dicts and modules: weights in safetensors, everything else as typed JSON, no pickle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.charts import BINS, bar_chart
from airflow_zen.materializers.previews.html import (
    PREVIEW_HTML,
    Markup,
    heading,
    html_page,
    preformatted,
    truncation_note,
)
from airflow_zen.materializers.previews.tables import plain_table, sample_rows


class TensorMaterializer(Materializer):
    """Save a tensor or parameter with its dtype, shape, device, `requires_grad` and order of axes in memory.

    A tensor of a device that is not there comes back on the CPU. Gradients are not kept. Refused: tensors that
    autograd still computes with, sparse and quantised ones, subclasses.
    """

    types = ("torch.Tensor", "torch.nn.Parameter")
    encoding = "torch.safetensors@1"
    libraries = ("torch", "safetensors")
    extra = "torch"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `tensors.safetensors` and `tensors.json`."""
        from airflow_zen.materializers.torch.tensors import save_tensor

        return save_tensor(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show dtype, shape and distribution."""
        return preview_tensor(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the tensor."""
        from airflow_zen.materializers.torch.tensors import load_tensor

        return load_tensor(self, directory)


class StateDictMaterializer(Materializer):
    """Save a dict of tensors, such as `module.state_dict()`, as one safetensors file.

    Tensors that are one object, or see the same memory in the same way, do so again; a conjugate has its own.
    """

    encoding = "torch.state@1"
    libraries = ("torch", "safetensors")
    extra = "torch"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `tensors.safetensors` and `tensors.json`."""
        from airflow_zen.materializers.torch.tensors import save_state_dict

        return save_state_dict(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show names, shapes and dtypes of the tensors."""
        return preview_state_dict(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the dict, in its order."""
        from airflow_zen.materializers.torch.tensors import load_state_dict

        return load_state_dict(self, directory)


class ModuleMaterializer(Materializer):
    """Save an `nn.Module`: the classes it is made of by name, their attributes as typed JSON, all tensors in one file.

    What pickle would keep, without its power to run anything: classes are looked up, and must be modules.
    Refused: hooks, lambdas, local classes, compiled and scripted modules. A module is no MLflow Model, which would
    need a pickle or an example input; return `MLflowModel(path)` of what `mlflow.pytorch.save_model` wrote for that.
    """

    types = ("torch.nn.Module",)
    encoding = "torch.module@1"
    libraries = ("torch", "safetensors")
    extra = "torch"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `module.json`, `tensors.safetensors` and `tensors.json`."""
        from airflow_zen.materializers.torch.modules import save_module

        return save_module(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show layers and parameters."""
        return preview_module(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the module, in the mode it was in."""
        from airflow_zen.materializers.torch.modules import load_module

        return load_module(self, directory, wanted)


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
    import torch

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
