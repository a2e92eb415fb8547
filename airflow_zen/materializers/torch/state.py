"""Tensors to safetensors files and modules to typed JSON, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import require_exact_type
from airflow_zen.materializers.typed_json.codec import TAG, Codec, Json, field_codec
from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder, InlineOnly
from airflow_zen.type_names import class_reference, type_name

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry

TENSORS_FILE = "tensors.safetensors"

_CLASSES: dict[str, Any] = {"Tensor": torch.Tensor, "Parameter": torch.nn.Parameter, "Buffer": torch.nn.Buffer}
_TENSOR, _MODULE = "torch.tensor", "torch.module"
# Functions of torch itself that only compute with tensors; torch.load is not such a function.
_ACTIVATIONS = frozenset({"relu", "sigmoid", "softmax", "tanh", "selu", "celu", "erf", "sin", "cos", "exp"})


def write_tensors(tensors: Mapping[str, Any], directory: Path) -> list[dict[str, Any]]:
    """Write the file; return, in order, what it does not contain of each tensor.

    A tensor that sees the memory of an earlier one in the same way is not written: it is `same` as that one.
    Raises `SaveRefused` for a tensor that would not come back.
    """
    for tensor in tensors.values():
        _check_storable(tensor)
    all_metadata, stored, first_names = [], {}, dict[Any, str]()
    users = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors.values())
    for name, tensor in tensors.items():
        metadata, first = _tensor_metadata(name, tensor), first_names.setdefault(_memory_key(tensor), name)
        if first != name:
            metadata |= {"same": first, "object": tensors[first] is tensor}
        else:
            values = _to_storable(tensor)
            # safetensors refuses two tensors that see one memory; a copy of each would be the model once more.
            stored[name] = values.clone() if users[tensor.untyped_storage().data_ptr()] > 1 else values
        all_metadata.append(metadata)
    save_file(stored, directory / TENSORS_FILE)
    return all_metadata


def read_tensors(all_metadata: Sequence[Mapping[str, Any]], directory: Path) -> dict[str, Any]:
    """Read what `write_tensors` wrote, by name and in order."""
    stored, tensors = load_file(directory / TENSORS_FILE), dict[str, Any]()
    for metadata in all_metadata:
        name = metadata["name"]
        if metadata.get("object"):
            tensors[name] = tensors[metadata["same"]]
        elif "same" in metadata:
            tensors[name] = _to_saved_class(tensors[metadata["same"]].detach(), metadata)
        else:
            tensors[name] = _to_saved_class(_restore_layout(stored[name], metadata), metadata)
    return tensors


def _check_storable(tensor: Any) -> None:
    require_exact_type(tensor, *_CLASSES.values())
    if tensor.grad_fn is not None:
        raise SaveRefused("A tensor that autograd still computes with is not stored. Return tensor.detach().")
    own = sorted(name for name in vars(tensor) if not name.startswith("_"))
    if own:
        raise SaveRefused(
            f"A {type_name(type(tensor))} with attributes of its own ({', '.join(own)}) would come back without them. "
            "Keep them in the module, or beside the tensor in a dict."
        )
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise SaveRefused(
            f"A tensor of layout {tensor.layout} and dtype {tensor.dtype} is not stored. Return tensor.to_dense() or "
            ".dequantize()."
        )


def _memory_key(tensor: Any) -> tuple[Any, ...]:
    """Return which memory a tensor sees, and how; a conjugate sees other values in the same memory."""
    memory = (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)  # noqa: SLF001
    return (*memory, tensor.is_conj(), tensor.is_neg(), id(tensor) if tensor.numel() == 0 else 0)


def _tensor_metadata(name: str, tensor: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "class": type(tensor).__qualname__, "device": str(tensor.device)}
    metadata |= {"requires_grad": tensor.requires_grad}
    axes = _axes_in_memory(tensor)
    metadata |= {"axes": axes} if axes is not None else {}
    return metadata | ({"complex": True} if tensor.dtype == torch.complex128 else {})


def _axes_in_memory(tensor: Any) -> list[int] | None:
    """Return the axes in their order in memory; None where that is their own order, or there are gaps."""
    axes = sorted(range(tensor.dim()), key=lambda axis: -tensor.stride(axis))
    return None if tensor.is_contiguous() or not tensor.permute(axes).is_contiguous() else axes


def _to_storable(tensor: Any) -> Any:
    """Return the values on the CPU, contiguous, and of a dtype that safetensors has."""
    values = tensor.detach().resolve_conj().resolve_neg()
    axes = _axes_in_memory(tensor)
    values = (values if axes is None else values.permute(axes)).contiguous()
    return (torch.view_as_real(values) if values.dtype == torch.complex128 else values).cpu()


def _restore_layout(values: Any, metadata: Mapping[str, Any]) -> Any:
    values = torch.view_as_complex(values) if metadata.get("complex") else values
    if "axes" in metadata:
        values = values.permute([metadata["axes"].index(axis) for axis in range(values.dim())])
    device = torch.device(metadata["device"])
    return values.to(device) if device.type != "cpu" and _is_available(device) else values


def _is_available(device: torch.device) -> bool:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
    return True


def _to_saved_class(values: Any, metadata: Mapping[str, Any]) -> Any:
    cls = _CLASSES.get(metadata["class"])
    if cls is None:
        raise ArtifactRefused(f"A tensor is one of {', '.join(_CLASSES)}, not {metadata['class']!r}.")
    if cls is torch.nn.Parameter:
        return torch.nn.Parameter(values, requires_grad=metadata["requires_grad"])
    return values.requires_grad_(metadata["requires_grad"])


class ModuleEncoder(Encoder):
    """Write a module as typed JSON, with tensors and modules inside as numbers, so that what is shared stays shared.

    `states` are the modules by number, `tensors` the tensors, `classes` those of the modules.
    """

    def __init__(self, registry: MaterializerRegistry) -> None:
        super().__init__(InlineOnly(registry, "a module"))
        self.tensors: list[Any] = []
        self.states: list[Json] = []
        self.classes: set[type] = set()
        self._numbers: dict[int, int] = {}
        self._kept_alive: list[Any] = []

    def encode(self, value: Any) -> Json:
        """Write one value of a module's state; raises `SaveRefused` for what would not come back."""
        if isinstance(value, torch.Tensor):
            return {TAG: _TENSOR, "number": self._register(value, self.tensors, value)}
        if isinstance(value, torch.nn.Module):
            return {TAG: _MODULE, "number": self._encode_module(value)}
        codec = _CODECS.get(type(value))
        return {TAG: codec.tag, **codec.encode(value, self)} if codec else super().encode(value)

    def _encode_module(self, module: Any) -> int:
        if id(module) in self._numbers:
            return self._numbers[id(module)]
        self.classes.add(type(module))
        number, state = self._register(module, self.states, None), module.__getstate__()
        if not isinstance(state, dict):
            raise SaveRefused(f"{type(module).__qualname__} has a state of its own kind. Return module.state_dict().")
        # A module inside is written as a number, so its state is not nested in that of the outer module.
        outer, self._ancestors = self._ancestors, {}
        try:
            self.states[number] = {"class": class_reference(type(module)), "state": self.encode(state)}
        finally:
            self._ancestors = outer
        return number

    def _register(self, value: Any, into: list[Any], entry: Any) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(into)
            self._kept_alive.append(value)
            into.append(entry)
        return self._numbers[id(value)]


class ModuleDecoder(Decoder):
    """Read what `ModuleEncoder` wrote; a module is built before its state, which may refer to it."""

    def __init__(self, states: list[Json], tensors: list[Any], wanted: type | None) -> None:
        super().__init__(_refuse_part, wanted)
        self._states, self._tensors = states, tensors
        self._modules: dict[int, Any] = {}

    def decode(self, node: Json, declared: Any = None) -> Any:
        """Read one value of a module's state; raises `ArtifactRefused` for functions and dtypes that torch lacks."""
        tag = node.get(TAG) if isinstance(node, dict) else None
        if tag == _TENSOR:
            return self._tensors[node["number"]]
        if tag == _MODULE:
            return self._build_module(node["number"])
        codec = next((codec for codec in _CODECS.values() if codec.tag == tag), None)
        return codec.decode(node, self) if codec else super().decode(node, declared)

    def _build_module(self, number: int) -> Any:
        if number not in self._modules:
            held = self._states[number]
            cls: Any = self.resolve_class(
                held["class"], "torch.nn.Module", lambda found: issubclass(found, torch.nn.Module)
            )
            self._modules[number] = module = cls.__new__(cls)
            module.__setstate__(self.decode(held["state"]))
        return self._modules[number]


def _refuse_part(_: Mapping[str, Json], declared: Any) -> Any:
    raise ArtifactRefused("A module has no parts.")


def _function_name(function: Any) -> str:
    for name in (f"torch.nn.functional.{function.__name__}", f"torch.{function.__name__}"):
        if _find_function(name) is function:
            return name
    raise SaveRefused(
        f"The function {function.__qualname__} in a module could be anything. Make it a method, a module, or one of "
        f"torch.nn.functional."
    )


def _find_function(name: str) -> Any:
    """Return a function of torch that computes with tensors; None where there is none of that name."""
    module_name, _, attribute = name.rpartition(".")
    if module_name == "torch":
        return getattr(torch, attribute) if attribute in _ACTIVATIONS else None
    found = getattr(torch.nn.functional, attribute, None) if module_name == "torch.nn.functional" else None
    is_own = getattr(found, "__module__", None) in ("torch.nn.functional", "torch._jit_internal")
    return found if is_own or isinstance(found, BuiltinFunctionType) else None


def _require_function(name: str) -> Any:
    if found := _find_function(name):
        return found
    raise ArtifactRefused(f"torch.module@1 keeps functions of torch.nn.functional, and {name!r} is none of them.")


def _require_dtype(name: str) -> Any:
    if isinstance(found := getattr(torch, name, None), torch.dtype):
        return found
    raise ArtifactRefused(f"torch has no dtype {name!r}.")


_FUNCTION_CODEC = field_codec("torch.function", "name", _function_name, _require_function)
_CODECS: dict[type, Codec] = {
    torch.Size: field_codec("torch.size", "of", list, torch.Size),
    torch.dtype: field_codec("torch.dtype", "name", lambda dtype: str(dtype).removeprefix("torch."), _require_dtype),
    torch.device: field_codec("torch.device", "name", str, torch.device),
    FunctionType: _FUNCTION_CODEC,
    BuiltinFunctionType: _FUNCTION_CODEC,
}
