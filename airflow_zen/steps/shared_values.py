"""Input values that several processes of one machine share: written once, mapped into the memory of each."""

from __future__ import annotations

import io
import mmap
import pickle
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from airflow_zen.steps.arguments import Arguments

if TYPE_CHECKING:
    import inspect

    from airflow_zen.stack import Stack
    from airflow_zen.steps.runtime import Execution

# Vector instructions want the beginning of an array at such an address.
_ALIGNMENT = 64
_VALUES, _BUFFERS = "values.pickle", "buffers.bin"


def share_values(execution: Execution, folder: Path) -> None:
    """Load the artifacts among the arguments, and write them into a folder, from which `read_shared_values` maps them."""
    arguments = execution.arguments
    names = {re.split(r"[.\[]", path)[0] for path in arguments.inputs}
    others = arguments.bound.arguments.keys() - names
    loaded = arguments.excluding(others).load(execution.stack, execution.step.parameter_types, execution.scratch)
    write_shared_values({name: loaded.arguments[name] for name in names}, folder)


def write_shared_values(values: Mapping[str, Any], folder: Path) -> None:
    """Write values by parameter into a folder, which only processes of this user on this machine read.

    A value that cannot be pickled, such as an iterator of batches, is left out: each process loads it itself.
    """
    found: dict[str, tuple[bytes, list[tuple[int, int]]]] = {}
    with (folder / _BUFFERS).open("wb") as file:
        for name, value in values.items():
            try:
                text, buffers = _pickled(value)
            except (TypeError, AttributeError, pickle.PicklingError):
                continue
            found[name] = text, [_append(file, buffer) for buffer in buffers]
        file.write(bytes(_ALIGNMENT))
    (folder / _VALUES).write_bytes(pickle.dumps(found))


def read_shared_values(folder: Path) -> dict[str, Any]:
    """Return the shared values by parameter. What a process changes in them is its own, and no other sees it."""
    with (folder / _BUFFERS).open("rb") as file:
        # Pages are shared until this process writes to them.
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    found = pickle.loads((folder / _VALUES).read_bytes())  # noqa: S301 - written by the process that started this one
    return {
        name: pickle.loads(text, buffers=[mapped[start:end] for start, end in places])  # noqa: S301
        for name, (text, places) in found.items()
    }


class SharedArguments(Arguments, frozen=True):
    """Arguments some of which are in this process: `shared`, values by parameter."""

    shared: Mapping[str, Any] = {}

    @classmethod
    def of(cls, arguments: Arguments, shared: Mapping[str, Any]) -> SharedArguments:
        """Return arguments with these values."""
        given = {name: getattr(arguments, name) for name in Arguments.__struct_fields__}
        return cls(**given, shared=shared)

    def load(self, stack: Stack, types: Mapping[str, Any], scratch: Path) -> inspect.BoundArguments:
        """Load the arguments that are not shared."""
        rest = replace(self.excluding(self.shared), shared={})
        loaded = Arguments.load(rest, stack, types, scratch)
        values = {**loaded.arguments, **self.shared}
        loaded.arguments = {name: values[name] for name in self.bound.arguments}
        return loaded


def _pickled(value: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
    buffers: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    _Pickler(file, 5, buffer_callback=buffers.append).dump(value)
    return file.getvalue(), buffers


class _Pickler(pickle.Pickler):
    """Leave the memory of arrays, tables and tensors out, so that it is written once and never copied into a text."""

    def reducer_override(self, value: Any) -> Any:
        """Return how tensors, arrays of times and polars' frames are rebuilt, whose own pickles contain a copy."""
        cls, torch = type(value), sys.modules.get("torch")
        if torch and cls is torch.Tensor and _is_plain(value, torch):
            array = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            return _tensor, (array, value.dtype, tuple(value.shape), value.requires_grad)
        if torch and cls is torch.nn.Parameter and _is_plain(value.data, torch):
            return cls, (value.data, value.requires_grad)
        if cls.__module__ == "numpy" and cls.__name__ == "ndarray" and value.dtype.kind in "mM" and value.size:
            return _times, (value.view("int64"), value.dtype)
        if cls.__name__ == "DataFrame" and cls.__module__.startswith("polars."):
            with suppress(ValueError, AttributeError, ImportError):
                # Not every type of polars is one of Arrow.
                return _frame, (value.to_arrow(compat_level=sys.modules["polars"].CompatLevel.newest()),)
        return NotImplemented


def _is_plain(tensor: Any, torch: Any) -> bool:
    """Whether a tensor is memory of this machine and no more: no gradient, sparse layout or quantization."""
    is_dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return bool(is_dense and tensor.is_leaf and not tensor.is_conj() and not tensor.is_neg() and tensor.numel())


def _tensor(array: Any, dtype: Any, shape: tuple[int, ...], requires_grad: bool) -> Any:
    tensor = sys.modules["torch"].from_numpy(array).view(dtype).reshape(shape)
    return tensor.requires_grad_(requires_grad)


def _times(array: Any, dtype: Any) -> Any:
    return array.view(dtype)


def _frame(table: Any) -> Any:
    return import_module("polars").from_arrow(table)


def _append(file: Any, buffer: pickle.PickleBuffer) -> tuple[int, int]:
    """Write a buffer at an aligned position; return its start and its end."""
    file.write(bytes(-file.tell() % _ALIGNMENT))
    start = file.tell()
    file.write(buffer.raw())
    return start, file.tell()
