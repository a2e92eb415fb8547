"""Modules to typed JSON and tensors, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any

import torch

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.torch.tensors import METADATA_FILE, read_tensors, write_tensors
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.materializers.typed_json.codec import TAG, Json
from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder, canonical_json
from airflow_zen.materializers.typed_json.nested import InlineOnly
from airflow_zen.type_names import class_reference

if TYPE_CHECKING:
    from airflow_zen.materializers.base import Materializer

MODULE_FILE = "module.json"

_TENSOR, _MODULE, _FUNCTION, _SIZE, _DTYPE, _DEVICE = (
    f"torch.{name}" for name in ("tensor", "module", "function", "size", "dtype", "device")
)
# Functions of torch itself that compute with tensors alone; torch.load is one that does not.
_ACTIVATIONS = frozenset({"relu", "sigmoid", "softmax", "tanh", "selu", "celu", "erf", "sin", "cos", "exp"})


def save_module(materializer: Materializer, module: Any, directory: Path) -> Mapping[str, Any]:
    """Write a module; raises `SaveRefused` for what would not come back."""
    encoder = _ModuleEncoder(materializer)
    root = encoder.encode(module)
    written = {"root": root, "modules": encoder.states}
    (directory / MODULE_FILE).write_text(canonical_json(written), encoding="utf-8")
    tensor_metadata = write_tensors({str(place): tensor for place, tensor in enumerate(encoder.tensors)}, directory)
    write_typed_json(materializer, {"tensors": tensor_metadata}, directory, METADATA_FILE)
    numbers = sum(weight.numel() for weight in module.parameters())
    return {"shape": f"{type(module).__qualname__} of {numbers} parameters", "estimator": type(module).__qualname__}


def load_module(materializer: Materializer, directory: Path, wanted: type | None = None) -> Any:
    """Read what `save_module` wrote."""
    tensor_metadata = read_typed_json(materializer, directory, METADATA_FILE)["tensors"]
    written = json.loads((directory / MODULE_FILE).read_text(encoding="utf-8"))
    tensors = list(read_tensors(tensor_metadata, directory).values())
    return _ModuleDecoder(written["modules"], tensors, wanted).decode(written["root"])


class _ModuleEncoder(Encoder):
    """Write tensors and modules as numbers, each object once, so that what is shared stays shared."""

    def __init__(self, materializer: Materializer) -> None:
        super().__init__(InlineOnly(materializer.registry, "a module"))
        self.tensors: list[Any] = []
        self.states: list[Json] = []
        self._numbers: dict[int, int] = {}
        self._kept_alive: list[Any] = []

    def encode(self, value: Any) -> Json:
        """Write one value of a module's state."""
        if isinstance(value, torch.Tensor):
            return {TAG: _TENSOR, "number": self._register_object(value, self.tensors, value)}
        if isinstance(value, torch.nn.Module):
            return {TAG: _MODULE, "number": self._encode_module(value)}
        if isinstance(value, torch.Size):
            return {TAG: _SIZE, "of": list(value)}
        if isinstance(value, torch.dtype | torch.device):
            return {
                TAG: _DTYPE if isinstance(value, torch.dtype) else _DEVICE,
                "name": str(value).removeprefix("torch."),
            }
        if isinstance(value, FunctionType | BuiltinFunctionType):
            return {TAG: _FUNCTION, "name": _function_name(value)}
        return super().encode(value)

    def _encode_module(self, module: Any) -> int:
        if id(module) in self._numbers:
            return self._numbers[id(module)]
        number = self._register_object(module, self.states, None)
        state = module.__getstate__()
        if not isinstance(state, dict):
            raise SaveRefused(f"{type(module).__qualname__} has a state of its own kind. Return module.state_dict().")
        # The module is not inside itself: it is referred to by its number.
        self.states[number] = {"class": class_reference(type(module)), "state": self._encode_state(state)}
        return number

    def _encode_state(self, state: dict[str, Any]) -> Json:
        opened, self._ancestors = self._ancestors, {}
        try:
            return self.encode(state)
        finally:
            self._ancestors = opened

    def _register_object(self, value: Any, into: list[Any], entry: Any) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(into)
            self._kept_alive.append(value)
            into.append(entry)
        return self._numbers[id(value)]


class _ModuleDecoder(Decoder):
    """Read what `_ModuleEncoder` wrote; a module is built before its state, which may refer to it."""

    def __init__(self, states: list[Json], tensors: list[Any], wanted: type | None) -> None:
        super().__init__(_refuse_part, wanted)
        self._states, self._tensors = states, tensors
        self._modules: dict[int, Any] = {}

    def decode(self, node: Json, declared: Any = None) -> Any:
        """Read one value of a module's state."""
        tag = node.get(TAG) if isinstance(node, dict) else None
        if tag == _TENSOR:
            return self._tensors[node["number"]]
        if tag == _MODULE:
            return self._build_module(node["number"])
        if tag == _SIZE:
            return torch.Size(node["of"])
        if tag == _DTYPE:
            return _require_dtype(node["name"])
        if tag == _DEVICE:
            return torch.device(node["name"])
        if tag == _FUNCTION:
            return _require_function(node["name"])
        return super().decode(node, declared)

    def _build_module(self, number: int) -> Any:
        if number not in self._modules:
            held = self._states[number]
            cls: Any = self.resolve_class(
                held["class"], "torch.nn.Module", lambda found: issubclass(found, torch.nn.Module)
            )
            self._modules[number] = module = cls.__new__(cls)
            module.__setstate__(self.decode(held["state"]))
        return self._modules[number]


def _function_name(function: Any) -> str:
    for name in (f"torch.nn.functional.{function.__name__}", f"torch.{function.__name__}"):
        if _find_function(name) is function:
            return name
    raise SaveRefused(
        f"The function {function.__qualname__} in a module could be anything. Make it a method, a module, or one of "
        f"torch.nn.functional."
    )


def _find_function(name: str) -> Any:
    """Find a function of torch that computes with tensors; None where there is none of that name."""
    module_name, _, attribute = name.rpartition(".")
    if module_name == "torch":
        return getattr(torch, attribute) if attribute in _ACTIVATIONS else None
    found = getattr(torch.nn.functional, attribute, None) if module_name == "torch.nn.functional" else None
    is_own = getattr(found, "__module__", None) in ("torch.nn.functional", "torch._jit_internal")
    return found if is_own or isinstance(found, BuiltinFunctionType) else None


def _require_function(name: str) -> Any:
    found = _find_function(name)
    if found is None:
        raise ArtifactRefused(f"torch.module@1 keeps functions of torch.nn.functional, and {name!r} is none of them.")
    return found


def _require_dtype(name: str) -> Any:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ArtifactRefused(f"torch has no dtype {name!r}.")
    return found


def _refuse_part(_: Mapping[str, Json], declared: Any) -> Any:
    raise ArtifactRefused("A module has no parts.")
