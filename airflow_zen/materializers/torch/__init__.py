"""PyTorch tensors, state dicts and modules: weights in safetensors, everything else as typed JSON, no pickle."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import Markup, heading, hidden_note, preformatted, preview_page
from airflow_zen.materializers.previews.tables import plain_table, sample_rows
from airflow_zen.materializers.typed_json import part_loader, read_typed_json, write_typed_json

METADATA_FILE = "tensors.json"
MODULE_FILE = "module.json"

_DICTS: dict[str, type] = {"dict": dict, "OrderedDict": OrderedDict}
_MAX_TENSORS = 100


class TensorMaterializer(Materializer):
    """Save a tensor or parameter with its dtype, shape, device, `requires_grad` and order of axes in memory.

    A tensor is loaded on the CPU where its device is not available. Gradients are not kept. Refused: tensors that
    autograd still computes with, sparse and quantized tensors, subclasses.
    """

    types = ("torch.Tensor", "torch.nn.Parameter")
    encoding = "torch.safetensors@1"
    libraries = ("torch", "safetensors")
    extra = "torch"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `tensors.safetensors` and `tensors.json`."""
        from airflow_zen.materializers.torch.tensors import write_tensors

        write_typed_json(self, {"tensors": write_tensors({"tensor": value}, directory)}, directory, METADATA_FILE)
        return {"shape": f"{tuple(value.shape)} {value.dtype}", "dtype": str(value.dtype)}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the tensor."""
        from airflow_zen.materializers.torch.tensors import read_tensors

        return read_tensors(read_typed_json(self, directory, METADATA_FILE)["tensors"], directory)["tensor"]

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show dtype, shape and distribution."""
        import torch

        from airflow_zen.materializers.numpy.arrays import distribution_section

        sections: Iterable[Markup] = ()
        if not value.is_complex() and value.numel():
            rows = torch.tensor(sample_rows(value.numel()), device=value.device)
            values = value.detach().reshape(-1)[rows].to("cpu", torch.float64)
            sections = distribution_section(values.numpy())
        return preview_page(value, summary, sections)


class StateDictMaterializer(Materializer):
    """Save a dict of tensors, such as `module.state_dict()`, as one safetensors file.

    Tensors that are one object, or views of the same memory, are loaded as such; a conjugate gets its own memory.
    """

    encoding = "torch.state@1"
    libraries = ("torch", "safetensors")
    extra = "torch"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `tensors.safetensors` and `tensors.json`."""
        from airflow_zen.materializers.torch.tensors import write_tensors

        tensors, versions = write_tensors(value, directory), getattr(value, "_metadata", None)
        metadata = {"class": type(value).__qualname__, "tensors": tensors, "metadata": versions}
        write_typed_json(self, metadata, directory, METADATA_FILE)
        return {"shape": f"{len(value)} tensors of {sum(tensor.numel() for tensor in value.values())} numbers"}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the dict, in its order."""
        from airflow_zen.materializers.torch.tensors import read_tensors

        metadata = read_typed_json(self, directory, METADATA_FILE)
        state: Any = _DICTS[metadata["class"]](read_tensors(metadata["tensors"], directory))
        if metadata["metadata"] is not None:
            state._metadata = metadata["metadata"]  # noqa: SLF001 - versions that load_state_dict asks for
        return state

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show names, shapes and dtypes of the tensors."""
        return preview_page(value, summary, _tensor_table(value), "State dict")


class ModuleMaterializer(Materializer):
    """Save an `nn.Module`: its classes by name, their attributes as typed JSON, all tensors in one file.

    This keeps what pickle would keep, but a file cannot run code: classes are looked up, and must be modules.
    Refused: hooks, lambdas, local classes, compiled and scripted modules. A module is no MLflow Model, which would
    need a pickle or an example input; for that return `MLflowModel(path)` of what `mlflow.pytorch.save_model` wrote.
    """

    types = ("torch.nn.Module",)
    encoding = "torch.module@1"
    libraries = ("torch", "safetensors")
    extra = "torch"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `module.json`, `tensors.safetensors` and `tensors.json`."""
        from airflow_zen.materializers.torch.modules import ModuleEncoder, ModuleParts
        from airflow_zen.materializers.torch.tensors import write_tensors
        from airflow_zen.materializers.typed_json.encoding import canonical_json

        parts = ModuleParts(self.registry, directory)
        encoder = ModuleEncoder(parts)
        module = canonical_json({"root": encoder.encode(value), "modules": encoder.states})
        (directory / MODULE_FILE).write_text(module, encoding="utf-8")
        tensors = write_tensors({str(at): tensor for at, tensor in enumerate(encoder.tensors)}, directory)
        write_typed_json(self, {"tensors": tensors}, directory, METADATA_FILE)
        name, numbers = type(value).__qualname__, sum(weight.numel() for weight in value.parameters())
        summary = {"shape": f"{name} of {numbers} parameters", "estimator": name}
        return summary | ({"parts": parts.saved} if parts.saved else {})

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the module, in the mode it was in."""
        from airflow_zen.materializers.torch.modules import ModuleDecoder
        from airflow_zen.materializers.torch.tensors import read_tensors

        metadata = read_typed_json(self, directory, METADATA_FILE)
        module = json.loads((directory / MODULE_FILE).read_text(encoding="utf-8"))
        tensors = list(read_tensors(metadata["tensors"], directory).values())
        load_part = part_loader(self.registry, directory)
        return ModuleDecoder(module["modules"], tensors, load_part, wanted).decode(module["root"])

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show layers and parameters."""
        tensors = _tensor_table(dict(value.named_parameters()))
        return preview_page(value, summary, [heading("Layers"), preformatted(str(value), 8_000), *tensors])


def _tensor_table(tensors: Mapping[str, Any]) -> Iterator[Markup]:
    yield heading("Tensors")
    shown = islice(tensors.items(), _MAX_TENSORS)
    yield plain_table(["name", "shape", "dtype"], ((name, tuple(held.shape), str(held.dtype)) for name, held in shown))
    yield from hidden_note(len(tensors) - _MAX_TENSORS, "tensor")
