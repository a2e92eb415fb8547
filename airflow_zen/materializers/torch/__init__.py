"""PyTorch tensors, state dicts and modules: weights in safetensors, everything else as typed JSON, no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer


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
        from airflow_zen.materializers.torch.preview import preview_tensor

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
        from airflow_zen.materializers.torch.preview import preview_state_dict

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
        from airflow_zen.materializers.torch.preview import preview_module

        return preview_module(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the module, in the mode it was in."""
        from airflow_zen.materializers.torch.modules import load_module

        return load_module(self, directory, wanted)
