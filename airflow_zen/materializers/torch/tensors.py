"""Tensors as safetensors files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import require_exact_type

TENSORS_FILE = "tensors.safetensors"

_CLASSES: dict[str, Any] = {"Tensor": torch.Tensor, "Parameter": torch.nn.Parameter, "Buffer": torch.nn.Buffer}


def write_tensors(tensors: Mapping[str, Any], directory: Path) -> list[dict[str, Any]]:
    """Write the file; return, in order, what it does not contain of each tensor.

    A tensor that sees the memory of an earlier one in the same way is not written: it is `same` as that one.
    Raises `SaveRefused` for a tensor that would not come back.
    """
    for tensor in tensors.values():
        check_storable(tensor)
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


def check_storable(tensor: Any) -> None:
    """Raise `SaveRefused` for a tensor that would not come back."""
    require_exact_type(tensor, *_CLASSES.values())
    if tensor.grad_fn is not None:
        raise SaveRefused("A tensor that autograd still computes with is not stored. Return tensor.detach().")
    if tensor.device.type == "meta":
        raise SaveRefused(
            "A tensor on the device 'meta' has no values. Make its module on the device 'cpu', and load its weights; of a "
            "tensor alone, make torch.empty_like(tensor, device='cpu') and fill it."
        )
    if tensor.layout is not torch.strided or tensor.is_quantized:
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
    metadata |= {"attributes": dict(vars(tensor))} if vars(tensor) else {}
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
        tensor: Any = torch.nn.Parameter(values, requires_grad=metadata["requires_grad"])
    else:
        tensor = values.requires_grad_(metadata["requires_grad"])
    vars(tensor).update(metadata.get("attributes", {}))
    return tensor
