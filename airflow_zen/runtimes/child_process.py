"""Execution of a step in a child process of the task, with another interpreter."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO

import msgspec

from airflow_zen.errors import RuntimeUnavailable
from airflow_zen.lineage.mlflow.offline import write_package
from airflow_zen.runner import LIFELINE_VARIABLE
from airflow_zen.runtimes.base import OutputStream, describe_exit, make_spec, read_answer, step_environment
from airflow_zen.steps.runtime import Execution, Runtime, StepResult

_SECONDS_TO_STOP = 4.0
"""Airflow sends SIGKILL 5 seconds after SIGTERM."""

# Airflow's own settings, with the secrets of the deployment; and what would lead the interpreter to other modules.
NOT_INHERITED = re.compile(
    r"AIRFLOW__.*|_AIRFLOW.*|__AIRFLOW.*|PYTHON(?!HASHSEED|WARNINGS|UTF8|IOENCODING).*|VIRTUAL_ENV"
)


def execute_in_process(
    interpreter: str, execution: Execution, runtime: Runtime, path: Sequence[str] = ()
) -> StepResult:
    """Run a step with another interpreter, and wait for it; `path` are folders for the child's PATH.

    Raises the function's error, or `RuntimeUnavailable` for a process that ended without an answer.
    """
    opened = execution.opened()
    answer, spec = execution.scratch / "answer.json", execution.scratch / "spec.json"
    spec.write_bytes(msgspec.json.encode(make_spec(execution, str(answer))))
    own = {name: value for name, value in os.environ.items() if not NOT_INHERITED.fullmatch(name)}
    environment = {
        **own,
        **step_environment(execution.stack, opened),
        "PYTHONPATH": write_package(execution.scratch / "package"),
        "PATH": os.pathsep.join([*path, own.get("PATH", os.defpath)]),
    }
    environment = {name: value for name, value in environment.items() if value}
    stream, kills = OutputStream(), _oom_kills()
    code = _run([interpreter, "-P", "-m", "airflow_zen.runner", str(spec)], environment, stream, runtime)
    if not answer.exists():
        memory = "out of memory" if _oom_kills() > kills else ""
        raise describe_exit(code, stream.tail, runtime, out_of_memory=memory)
    return read_answer(answer.read_bytes(), execution, runtime)


def _run(command: Sequence[str], environment: Mapping[str, str], stream: OutputStream, runtime: Runtime) -> int:
    """Run a command in a process group of its own, which ends with this process, and return its exit code."""
    read, write = os.pipe()
    try:
        child = subprocess.Popen(
            command,
            env={**environment, LIFELINE_VARIABLE: str(read)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[read],
        )
    except OSError as error:
        os.close(write)
        raise RuntimeUnavailable(f"{runtime!r} cannot be started: {error}.") from error
    finally:
        os.close(read)
    pipes = (child.stdout, False), (child.stderr, True)
    pumps = [Thread(target=_pump, args=(pipe, stream, is_error), daemon=True) for pipe, is_error in pipes]
    try:
        for pump in pumps:
            pump.start()
        return child.wait()
    except BaseException:
        _stop(child)
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pump in pumps:
            pump.join(_SECONDS_TO_STOP)
        os.close(write)


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, and give the function time to clean up."""
    child.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.wait(_SECONDS_TO_STOP)


def _pump(pipe: IO[bytes], stream: OutputStream, is_error: bool) -> None:
    """Pass on the lines of a pipe until its end; a carriage return, as of a progress bar, ends a line, too."""
    with io.TextIOWrapper(pipe, encoding="utf-8", errors="replace", newline=None) as lines:
        for line in lines:
            stream.write(line.rstrip("\n"), is_error=is_error)


def _oom_kills() -> int:
    """Return how many processes of this process's cgroup the kernel has killed for lack of memory."""
    for line in _read_text("/proc/self/cgroup").splitlines():
        number, controllers, group = line.split(":", 2)
        if number == "0":
            folder, file = "/sys/fs/cgroup", "memory.events"
        elif controllers == "memory":
            folder, file = "/sys/fs/cgroup/memory", "memory.oom_control"
        else:
            continue
        # In a container the group may be the root of what is mounted there.
        text = _read_text(f"{folder}{group}/{file}") or _read_text(f"{folder}/{file}")
        if found := re.search(r"^oom_kill (\d+)", text, re.MULTILINE):
            return int(found[1])
    return 0


def _read_text(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text()
    return ""
