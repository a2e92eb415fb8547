"""Measure what a step uses of memory, processors, GPUs and files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import Any

from airflow_zen.runs.step_run import NOT_MEASURED, ResourceUsage

# The first sample of child processes is taken after this many seconds: a brief step starts no thread that runs.
_SAMPLE_SECONDS = 0.5
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_RESET_PEAK = "5"
# A limit of cgroup v1 that is none.
_NO_LIMIT = 1 << 60


class ResourceMeter:
    """Measure what this process and those that it starts use, from `start` to `stop`.

    Memory of child processes is sampled twice a second; a child that has ended before the first sample counts with its
    largest resident memory. Pages that processes share count for each of them. Where the system says less, as outside
    Linux, less is measured. What a runtime elsewhere has measured is given to `report`, and takes precedence.
    """

    def __init__(self) -> None:
        self._reported = NOT_MEASURED
        self._before: ResourceUsage | None = None
        self._is_over = Event()
        self._sampled = 0
        self._largest_child = 0
        self._gpu_memory = 0

    def start(self) -> ResourceMeter:
        """Begin to measure."""
        _reset_peak()
        _reset_gpu_peak()
        self._largest_child = _largest_child()
        self._before = _totals()
        Thread(target=self._sample, name="airflow-zen-resources", daemon=True).start()
        return self

    def report(self, usage: ResourceUsage) -> None:
        """Take what was measured elsewhere, where the function ran."""
        self._reported = usage

    def add_gpu_memory(self, size: int) -> None:
        """Add the GPU memory of processes below this one, in bytes, which only they can tell."""
        self._gpu_memory += size

    def stop(self) -> ResourceUsage:
        """End the samples; return what was used."""
        self._is_over.set()
        if self._reported.is_known or self._before is None:
            return self._reported
        peak, before, after = _peak(), self._before, _totals()
        ended_child = _largest_child() if _largest_child() > self._largest_child else 0
        return ResourceUsage(
            peak_memory=max(peak, self._sampled, ended_child),
            memory_limit=memory_limit(),
            cpu_seconds=round(max(0.0, after.cpu_seconds - before.cpu_seconds), 3),
            gpu_memory=_gpu_peak() + self._gpu_memory,
            read_bytes=max(0, after.read_bytes - before.read_bytes),
            written_bytes=max(0, after.written_bytes - before.written_bytes),
        )

    def _sample(self) -> None:
        """Add the memory of this process to that of its children until the step is over."""
        while not self._is_over.wait(_SAMPLE_SECONDS):
            with suppress(OSError, ValueError):
                if children := [*_own_descendants()]:
                    self._sampled = max(self._sampled, sum(map(_resident, [os.getpid(), *children])))


def _totals() -> ResourceUsage:
    """Return what this process has used so far, with the children that have ended, and those that run."""
    times = os.times()
    seconds = times.user + times.system + times.children_user + times.children_system
    files = _fields("self/io")
    return ResourceUsage(
        cpu_seconds=seconds + sum(map(_cpu_seconds, _own_descendants())),
        read_bytes=files.get("rchar", 0),
        written_bytes=files.get("wchar", 0),
    )


def _fields(file: str) -> dict[str, int]:
    """Return the numbers of a file of `/proc`, by name; none where the system does not have it."""
    with suppress(OSError, ValueError):
        lines = (line.split() for line in (_PROC / file).read_text().splitlines())
        return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
    return {}


def _own_descendants() -> Iterator[int]:
    """Yield the processes below this one that have not ended."""
    # Without children this is one system call, where /proc has a file for each thread.
    with suppress(ChildProcessError, AttributeError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        yield from _descendants(os.getpid())


def _descendants(process: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that they have started."""
    with suppress(OSError):
        for task in os.listdir(_PROC / str(process) / "task"):  # noqa: PTH208 - twice as fast
            for child in map(int, (_PROC / str(process) / "task" / task / "children").read_text().split()):
                yield child
                yield from _descendants(child)


def _resident(process: int) -> int:
    with suppress(OSError, IndexError):
        return int((_PROC / str(process) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _cpu_seconds(process: int) -> float:
    """Return the processor time of a process that runs, with its ended children."""
    with suppress(OSError, IndexError):
        after_name = (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, after_name[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _reset_peak() -> None:
    """Make the largest resident memory of this process that of now; where that is refused it is that of its life."""
    with suppress(OSError):
        (_PROC / "self/clear_refs").write_text(_RESET_PEAK)


def _peak() -> int:
    """Return the largest resident memory of this process since the last reset."""
    import resource

    with suppress(OSError, IndexError, ValueError):
        # Not by `_fields`: there are sixty lines, and one is wanted.
        return int((_PROC / "self/status").read_bytes().split(b"VmHWM:", 1)[1].split(None, 1)[0]) * 1024
    return _maxrss(resource.getrusage(resource.RUSAGE_SELF))


def _largest_child() -> int:
    """Return the largest resident memory of a child that has ended."""
    import resource

    return _maxrss(resource.getrusage(resource.RUSAGE_CHILDREN))


def _maxrss(usage: Any) -> int:
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def cuda_in_use() -> Any:
    """Return `torch.cuda` if the step's code has used a GPU in this process, else None."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None


def _reset_gpu_peak() -> None:
    if cuda := cuda_in_use():
        for device in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(device)


def _gpu_peak() -> int:
    cuda = cuda_in_use()
    return sum(map(cuda.max_memory_allocated, range(cuda.device_count()))) if cuda else 0


@cache
def memory_limit() -> int:
    """Return the smallest memory limit of the control groups of this process, in bytes; 0 for none."""
    found: list[int] = []
    with suppress(OSError):
        for line in (_PROC / "self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found += _limits(_CGROUPS, path, "memory.max")
            elif "memory" in controllers.split(","):
                found += _limits(_CGROUPS / "memory", path, "memory.limit_in_bytes")
    return min((limit for limit in found if limit < _NO_LIMIT), default=0)


def _limits(mount: Path, path: str, name: str) -> Iterator[int]:
    """Yield the limits of a control group and those around it; in a container its own is at the mount."""
    # As text: paths would take as long as all the rest of a measurement.
    folder, top = f"{mount}/{path.strip('/')}".rstrip("/"), str(mount)
    while len(folder) >= len(top):
        with suppress(OSError, ValueError), open(f"{folder}/{name}") as file:  # noqa: PTH123
            yield int(file.read())
        folder = folder.rpartition("/")[0]
