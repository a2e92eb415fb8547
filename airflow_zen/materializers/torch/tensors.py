"""Tensors to safetensors files and back, with a note of what that format does not say."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.tree import read_tree, write_tree

TENSORS = "tensors.safetensors"
NOTE = "tensors.json"

_CLASSES: dict[str, Any] = {"Tensor": torch.Tensor, "Parameter": torch.nn.Parameter, "Buffer": torch.nn.Buffer}
_DICTS: dict[str, type] = {"dict": dict, "OrderedDict": OrderedDict}


def save_tensor(materializer: Materializer, tensor: Any, directory: Path) -> Mapping[str, Any]:
    """Write one tensor; raises `SaveRefused`."""
    notes = write_tensors({"tensor": tensor}, directory)
    write_tree(materializer, {"tensors": notes}, directory, NOTE)
    return {"shape": f"{tuple(tensor.shape)} {tensor.dtype}", "dtype": str(tensor.dtype)}


def load_tensor(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_tensor` wrote."""
    return read_tensors(read_tree(materializer, directory, NOTE)["tensors"], directory)["tensor"]


def save_state(materializer: Materializer, state: Any, directory: Path) -> Mapping[str, Any]:
    """Write a dict of tensors; raises `SaveRefused`."""
    note = {
        "class": type(state).__qualname__,
        "tensors": write_tensors(state, directory),
        "metadata": getattr(state, "_metadata", None),
    }
    write_tree(materializer, note, directory, NOTE)
    numbers = sum(tensor.numel() for tensor in state.values())
    return {"shape": f"{len(state)} tensors of {numbers} numbers"}


def load_state(materializer: Materializer, directory: Path) -> Any:
    """Read what `save_state` wrote."""
    note = read_tree(materializer, directory, NOTE)
    state: Any = _DICTS[note["class"]](read_tensors(note["tensors"], directory))
    if note["metadata"] is not None:
        state._metadata = note["metadata"]  # noqa: SLF001 - versions that load_state_dict asks for
    return state


def write_tensors(tensors: Mapping[str, Any], directory: Path) -> list[dict[str, Any]]:
    """Write the file, and give the note of each tensor in order; one that another has named already is its alias."""
    for tensor in tensors.values():
        _check(tensor)
    notes, stored, seen = [], {}, dict[Any, str]()
    users = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors.values())
    for name, tensor in tensors.items():
        same = seen.setdefault(_place(tensor), name)
        note = {**_note(name, tensor), "same": same} if same != name else _note(name, tensor)
        if same != name:
            note["object"] = tensors[same] is tensor
        else:
            values = _storable(tensor)
            # safetensors takes no two tensors that see one memory; a copy of each would be the model once more.
            stored[name] = values.clone() if users[tensor.untyped_storage().data_ptr()] > 1 else values
        notes.append(note)
    save_file(stored, directory / TENSORS)
    return notes


def read_tensors(notes: Sequence[Mapping[str, Any]], directory: Path) -> dict[str, Any]:
    """Read what `write_tensors` wrote, by name and in order."""
    stored, tensors = load_file(directory / TENSORS), dict[str, Any]()
    for note in notes:
        if note.get("object"):
            tensors[note["name"]] = tensors[note["same"]]
            continue
        values = tensors[note["same"]].detach() if "same" in note else _restored(stored[note["name"]], note)
        tensors[note["name"]] = _as_class(values, note)
    return tensors


def _place(tensor: Any) -> tuple[Any, ...]:
    """Say which memory a tensor sees, and how; a conjugate sees the same memory as something else."""
    memory = (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)  # noqa: SLF001
    return (*memory, tensor.is_conj(), tensor.is_neg(), id(tensor) if tensor.numel() == 0 else 0)


def _check(tensor: Any) -> None:
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


def _note(name: str, tensor: Any) -> dict[str, Any]:
    note = {
        "name": name,
        "class": type(tensor).__qualname__,
        "device": str(tensor.device),
        "requires_grad": tensor.requires_grad,
    }
    order = _axes_in_memory(tensor)
    if order is not None:
        note["axes"] = order
    if tensor.dtype == torch.complex128:
        note["complex"] = True
    return note


def _axes_in_memory(tensor: Any) -> list[int] | None:
    """Give the axes in the order they lie in memory; None where that is their own order, or there are gaps."""
    axes = sorted(range(tensor.dim()), key=lambda axis: -tensor.stride(axis))
    if tensor.is_contiguous() or not tensor.permute(axes).is_contiguous():
        return None
    return axes


def _storable(tensor: Any) -> Any:
    """Lay a tensor out as safetensors wants it."""
    values = tensor.detach().resolve_conj().resolve_neg()
    axes = _axes_in_memory(tensor)
    values = (values if axes is None else values.permute(axes)).contiguous()
    values = torch.view_as_real(values) if values.dtype == torch.complex128 else values
    return values.cpu()


def _restored(values: Any, note: Mapping[str, Any]) -> Any:
    values = torch.view_as_complex(values) if note.get("complex") else values
    if "axes" in note:
        values = values.permute([note["axes"].index(axis) for axis in range(values.dim())])
    device = torch.device(note["device"])
    return values.to(device) if device.type != "cpu" and _is_there(device) else values


def _is_there(device: torch.device) -> bool:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
    return True


def _as_class(values: Any, note: Mapping[str, Any]) -> Any:
    cls = _CLASSES.get(note["class"])
    if cls is None:
        raise ArtifactRefused(f"A tensor is one of {', '.join(_CLASSES)}, not {note['class']!r}.")
    if cls is torch.nn.Parameter:
        return torch.nn.Parameter(values, requires_grad=note["requires_grad"])
    return values.requires_grad_(note["requires_grad"])
