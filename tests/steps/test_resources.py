"""Promises of `airflow_zen.steps.resources`: what a step used."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_zen.runs.step_run import NOT_MEASURED, StepRun
from airflow_zen.steps import resources
from airflow_zen.steps.resources import ResourceMeter

MEGABYTE = 10**6

pytestmark = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system has no /proc")


def fill(megabytes: int) -> int:
    return len(bytearray(megabytes * MEGABYTE))


def count(to: int) -> int:
    return sum(range(to))


def start_child(megabytes: int, seconds: float) -> int:
    program = f"import time; held = bytearray({megabytes * MEGABYTE}); time.sleep({seconds}); sum(range(5_000_000))"
    return subprocess.run([sys.executable, "-c", program], check=True).returncode


def write(path: str, megabytes: int) -> int:
    Path(path).write_bytes(os.urandom(megabytes * MEGABYTE))
    return len(Path(path).read_bytes())


def fail(megabytes: int) -> int:
    fill(megabytes)
    raise ValueError("no luck")


def test_memory_is_that_of_the_step(run):
    """The peak contains what a step allocates, and not what an earlier step of the same process had."""
    base = run(count, 1).resources.peak_memory
    large, small = run(fill, 200).resources.peak_memory, run(count, 2).resources.peak_memory
    assert large >= base + 150 * MEGABYTE
    assert small < large - 100 * MEGABYTE


@pytest.mark.parametrize("seconds", [0, 1.5], ids=["brief", "sampled"])
def test_child_processes_count(run, seconds):
    """Memory and processor time of a process that the step starts are its own, however briefly it runs."""
    used = run(start_child, 300, seconds).resources
    assert used.peak_memory >= 300 * MEGABYTE
    assert used.cpu_seconds > 0.01


def test_files_and_processor_time_count(run, tmp_path):
    """What the step reads and writes is counted in bytes, and its processor time in seconds."""
    used = run(write, str(tmp_path / "file"), 3).resources
    assert used.read_bytes >= 3 * MEGABYTE <= used.written_bytes
    assert run(count, 5_000_000).resources.cpu_seconds > 0.01


def test_a_failed_step_has_used_something_too(run, stack):
    """The record of a step that fails says what it used until then; it survives the way through the store."""
    with pytest.raises(ValueError, match="no luck"):
        run(fail, 100)
    (record,) = stack.records.read_dag_run("d", "r")
    assert record.resources.peak_memory >= 100 * MEGABYTE
    assert StepRun.from_json(record.to_json()) == record


def test_a_reused_result_uses_nothing(run):
    """Nothing is measured for a hit, whose function is not called."""
    run(count, 3)
    assert run(count, 3).resources == NOT_MEASURED


def test_gpu_memory_is_that_of_all_gpus_and_processes(monkeypatch):
    """The largest memory on each GPU since the start counts, and what processes below report; PyTorch is replaced."""
    peaks = [9, 9]
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: len(peaks),
        reset_peak_memory_stats=lambda device: peaks.__setitem__(device, 0),
        max_memory_allocated=peaks.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    meter = ResourceMeter().start()
    peaks[:] = 3, 4
    meter.add_gpu_memory(20)
    assert meter.stop().gpu_memory == 27
    cuda.is_initialized = lambda: False
    assert ResourceMeter().start().stop().gpu_memory == 0


def test_what_was_measured_elsewhere_takes_precedence():
    """A runtime that ran the function in another process reports what that one used."""
    there = ResourceMeter().start().stop()
    meter = ResourceMeter().start()
    meter.report(there)
    assert meter.stop() is there


@pytest.mark.parametrize(
    ("groups", "limits", "smallest"),
    [
        ("0::/pods/one\n", {"pods/one/memory.max": "max", "pods/memory.max": "700", "memory.max": "900"}, 700),
        ("4:memory:/pod\n0::/\n", {"memory/pod/memory.limit_in_bytes": "500", "memory.max": "max"}, 500),
        ("4:memory:/pod\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 0),
    ],
    ids=["v2", "v1", "none"],
)
def test_the_smallest_limit_of_the_groups_counts(tmp_path, monkeypatch, groups, limits, smallest):
    """The limit is the smallest of the process's control group and those around it, in both versions of control groups."""
    for name, text in {"self/cgroup": groups, **limits}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(resources, "_PROC", tmp_path)
    monkeypatch.setattr(resources, "_CGROUPS", tmp_path)
    assert resources.memory_limit.__wrapped__() == smallest
