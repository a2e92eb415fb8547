"""`ResourceUsage`: what a step run used of memory, processors, GPUs and files."""

from __future__ import annotations

import msgspec


class ResourceUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step run used, from the load of its inputs to the storage of its outputs.

    Memory and sizes are bytes. `peak_memory` is the largest resident memory of the process during the step, with the
    processes that the step started. `memory_limit` is the limit of that process, 0 for none. `cpu_seconds` includes the
    processes that it started. `gpu_memory` is the largest memory of PyTorch's tensors on all GPUs, 0 where none is used.
    `read_bytes` and `written_bytes` are what the process and those it started read from and wrote to files and pipes.
    """

    peak_memory: int = 0
    memory_limit: int = 0
    cpu_seconds: float = 0.0
    gpu_memory: int = 0
    read_bytes: int = 0
    written_bytes: int = 0

    @property
    def is_known(self) -> bool:
        """Whether anything was measured: a reused result used nothing."""
        return self != NOT_MEASURED


NOT_MEASURED = ResourceUsage()
"""The usage of a step run whose function was not called."""
