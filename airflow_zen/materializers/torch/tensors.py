"""Tensors to safetensors files and back, with a note of what that format does not say."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from airflow_zen.materializers.base import Materializer

TENSORS_FILE = "tensors.safetensors"
METADATA_FILE = "tensors.json"

_CLASSES: dict[str, Any] = {"Tensor": torch.Tensor, "Parameter": torch.nn.Parameter, "Buffer": torch.nn.Buffer}
_DICTS: dict[str, type] = {"dict": dict, "OrderedDict": OrderedDict}


def save_tensor(materializer: Materializer, tensor: Any, directory: Path) -> Mapping[str, Any]:
    """Write one tensor; raises `SaveRefused`."""
    tensor_metadata = write_tensors({"tensor": tensor}, directory)
    write_typed_json(materializer, {"tensors": tensor_metadata}, directory, METADATA_FILE)
    return {"shape": f"{tuple(tensor.shape)} {tensor.dtype}", "dtype": str(tensor.dtype)}


def load_tensor(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_tensor` wrote."""
    return read_tensors(read_typed_json(materializer, directory, METADATA_FILE)["tensors"], directory)["tensor"]


def save_state_dict(materializer: Materializer, state: Any, directory: Path) -> Mapping[str, Any]:
    """Write a dict of tensors; raises `SaveRefused`."""
    metadata = {
        "class": type(state).__qualname__,
        "tensors": write_tensors(state, directory),
        "metadata": getattr(state, "_metadata", None),
    }
    write_typed_json(materializer, metadata, directory, METADATA_FILE)
    numbers = sum(tensor.numel() for tensor in state.values())
    return {"shape": f"{len(state)} tensors of {numbers} numbers"}


def load_state_dict(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_state_dict` wrote."""
    metadata = read_typed_json(materializer, directory, METADATA_FILE)
    state: Any = _DICTS[metadata["class"]](read_tensors(metadata["tensors"], directory))
    if metadata["metadata"] is not None:
        state._metadata = metadata["metadata"]  # noqa: SLF001 - versions that load_state_dict asks for
    return state


def write_tensors(tensors: Mapping[str, Any], directory: Path) -> list[dict[str, Any]]:
    """Write the file, and give the note of each tensor in order; one that another has named already is its alias."""
    for tensor in tensors.values():
        _check_storable(tensor)
    tensor_metadata, stored, seen = [], {}, dict[Any, str]()
    users = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors.values())
    for name, tensor in tensors.items():
        same = seen.setdefault(_memory_key(tensor), name)
        metadata = {**_tensor_metadata(name, tensor), "same": same} if same != name else _tensor_metadata(name, tensor)
        if same != name:
            metadata["object"] = tensors[same] is tensor
        else:
            values = _to_storable(tensor)
            # safetensors takes no two tensors that see one memory; a copy of each would be the model once more.
            stored[name] = values.clone() if users[tensor.untyped_storage().data_ptr()] > 1 else values
        tensor_metadata.append(metadata)
    save_file(stored, directory / TENSORS_FILE)
    return tensor_metadata


def read_tensors(tensor_metadata: Sequence[Mapping[str, Any]], directory: Path) -> dict[str, Any]:
    """Read what `write_tensors` wrote, by name and in order."""
    stored, tensors = load_file(directory / TENSORS_FILE), dict[str, Any]()
    for metadata in tensor_metadata:
        if metadata.get("object"):
            tensors[metadata["name"]] = tensors[metadata["same"]]
            continue
        values = (
            tensors[metadata["same"]].detach()
            if "same" in metadata
            else _restore_layout(stored[metadata["name"]], metadata)
        )
        tensors[metadata["name"]] = _to_saved_class(values, metadata)
    return tensors


def _memory_key(tensor: Any) -> tuple[Any, ...]:
    """Say which memory a tensor sees, and how; a conjugate sees the same memory as something else."""
    memory = (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)  # noqa: SLF001
    return (*memory, tensor.is_conj(), tensor.is_neg(), id(tensor) if tensor.numel() == 0 else 0)


def _check_storable(tensor: Any) -> None:
    if type(tensor) not in _CLASSES.values():
        raise SaveRefused(f"{type_name(type(tensor))} is a subclass of torch.Tensor that would come back as that.")
    if tensor.grad_fn is not None:
        raise SaveRefused("A tensor that autograd still computes with is not stored. Return tensor.detach().")
    own = sorted(name for name in vars(tensor) if not name.startswith("_"))
    if own:
        raise SaveRefused(
            f"A {type_name(type(tensor))} with attributes of its own ({', '.join(own)}) would come back without them. "
            "Keep them in the module, or beside the tensor in a dict."
        )
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise SaveRefused(f"A tensor of layout {tensor.layout} and dtype {tensor.dtype} is not stored. Return "
                          f"tensor.to_dense() or .dequantize().")  # fmt: skip


def _tensor_metadata(name: str, tensor: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "class": type(tensor).__qualname__,
        "device": str(tensor.device),
        "requires_grad": tensor.requires_grad,
    }
    order = _axes_in_memory(tensor)
    if order is not None:
        metadata["axes"] = order
    if tensor.dtype == torch.complex128:
        metadata["complex"] = True
    return metadata


def _axes_in_memory(tensor: Any) -> list[int] | None:
    """Give the axes in the order they lie in memory; None where that is their own order, or there are gaps."""
    axes = sorted(range(tensor.dim()), key=lambda axis: -tensor.stride(axis))
    if tensor.is_contiguous() or not tensor.permute(axes).is_contiguous():
        return None
    return axes


def _to_storable(tensor: Any) -> Any:
    """Lay a tensor out as safetensors wants it."""
    values = tensor.detach().resolve_conj().resolve_neg()
    axes = _axes_in_memory(tensor)
    values = (values if axes is None else values.permute(axes)).contiguous()
    values = torch.view_as_real(values) if values.dtype == torch.complex128 else values
    return values.cpu()


def _restore_layout(values: Any, metadata: Mapping[str, Any]) -> Any:
    values = torch.view_as_complex(values) if metadata.get("complex") else values
    if "axes" in metadata:
        values = values.permute([metadata["axes"].index(axis) for axis in range(values.dim())])
    device = torch.device(metadata["device"])
    return values.to(device) if device.type != "cpu" and _is_device_available(device) else values


def _is_device_available(device: torch.device) -> bool:
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
