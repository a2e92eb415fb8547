"""Promises about the child process: it ends with its task, its output streams, and its end is told in words."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from airflow_zen import load
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import RuntimeUnavailable
from airflow_zen.runs.step_run import StepState
from airflow_zen.runtimes import Python
from tests.runtimes.moments import moments

_HEADER = """
import logging, os, signal, subprocess, sys, time
from pathlib import Path
from airflow.sdk import dag
from airflow_zen import ml_step

"""
_DAG = """

@dag(schedule=None)
def pipeline():
    step({argument!r})
"""


def step_file(body, argument=1):
    """Return a DAG file of one step with a body."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return f"{_HEADER}@ml_step\ndef step(value: str | int) -> int:\n{lines}\n{_DAG.format(argument=argument)}"


def is_running(pid):
    """Whether a process exists, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=120):
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os._exit(3)", "ended the step's process with exit code 3 before it had answered"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "lost the step's process to SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "lost the step's process to signal 11"),
    ],
)
def test_the_end_of_a_process_is_told_in_words(run_small, body, reason):
    """An exit, a kill and a crash without an answer fail the step with a sentence of their own, and the last lines."""
    run = run_small(step_file(f"print('the last words', flush=True)\n{body}\nreturn 1"))
    error = run.tasks[-1].error
    assert isinstance(error, RuntimeUnavailable)
    assert reason in str(error)
    assert "the last words" in error.__notes__[0]


def test_a_missing_module_is_named(run_small):
    """An import that fails says what is not installed where."""
    run = run_small(step_file("import evidently\nreturn 1"))
    error = run.tasks[-1].error
    assert (type(error), error.name) == (ModuleNotFoundError, "evidently")
    assert "'evidently' is not installed in Python(path=" in error.__notes__[0]


def test_an_interpreter_without_the_requirements(run_file, tmp_path):
    """An interpreter that lacks what every step needs says what to install; one that does not exist is named."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    run = run_file(step_file("return 1"), Python(str(tmp_path / "bare/bin/python")))
    assert "lacks 'blake3'" in str(run.tasks[-1].error)
    run = run_file(step_file("return 1"), Python("/no/such/python"), run_id="manual__2")
    assert "Python(path='/no/such/python') cannot be started" in str(run.tasks[-1].error)


def test_output_streams(run_small, caplog, capfd):
    """Records keep their level and logger, prints go to the output, in their order, also of a child's child."""
    caplog.set_level(logging.INFO)
    run = run_small(
        step_file(
            "logging.getLogger('mine').error('an error')\nprint('a print')\n"
            "subprocess.run(['echo', 'an echo'])\nprint('no end', end='')\nreturn 1"
        )
    )
    assert run.states == {"step": "success"}
    assert ("mine", logging.ERROR, "an error") in caplog.record_tuples
    printed = capfd.readouterr().out
    assert printed.index("a print\n") < printed.index("an echo\n") < printed.index("no end\n")


@pytest.fixture
def start_task(tmp_path, root, small_python):
    """Start a task of a DAG file in a process of its own; return the process."""
    started = []

    def start(text, before=""):
        file = tmp_path / "task.py"
        file.write_text(
            f"{text}\nif __name__ == '__main__':\n    from tests.harness import run_dag\n    {before}\n"
            "    run = run_dag(pipeline())\n    print(run.states, repr(run.tasks[-1].error))\n"
        )
        environment = {**os.environ, "AIRFLOW__ZEN__RUNTIME": repr(Python(small_python))}
        with (tmp_path / "told").open("w") as told:
            started.append(subprocess.Popen([sys.executable, file], env=environment, stdout=told))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def memory_group():
    """A group of processes that the kernel gives 300 MB: a folder of cgroups; what is in it has to end."""
    mounted = Path("/sys/fs/cgroup/memory") if Path("/sys/fs/cgroup/memory").is_dir() else Path("/sys/fs/cgroup")
    group = mounted / f"zen-test-{os.getpid()}"
    try:
        group.mkdir()
        for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.swap.max"):
            if (group / name).exists():
                (group / name).write_text("0" if name == "memory.swap.max" else "300000000")
    except OSError as error:
        pytest.skip(f"this user cannot limit memory by cgroups: {error}. Run the tests as root")
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_a_kill_by_the_kernel_is_told_in_words(start_task, memory_group, tmp_path):
    """Where the kernel kills the child because memory ran out, the error says so, and the task goes on."""
    join = f"Path({str(memory_group / 'cgroup.procs')!r}).write_text(str(os.getpid()))"
    start_task(step_file("return len(bytearray(10**9))"), join).wait(120)
    assert "RuntimeUnavailable" in (told := (tmp_path / "told").read_text())
    assert "ran the step out of memory." in told


def test_a_memory_error_is_told_in_words(run_small):
    """A function that asks for more memory than a limit leaves fails with its own error, and a note says where."""
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9))\n"
    error = run_small(step_file(f"{limit}return len(bytearray(4 * 10**9))")).tasks[-1].error
    assert isinstance(error, MemoryError)
    assert "ran out of memory in Python(path=" in error.__notes__[0]


_SLEEPS = """
grandchild = subprocess.Popen(["sleep", "60"])
try:
    Path(value).write_text(f"{os.getpid()} {grandchild.pid}")
    time.sleep(60)
finally:
    Path(value + ".cleaned").touch()
return 1
"""


def test_sigterm_reaches_the_function(start_task, tmp_path):
    """SIGTERM of the task interrupts the function, which cleans up; the run is killed, and no process is left."""
    pids = tmp_path / "pids"
    task = start_task(step_file(_SLEEPS, str(pids)))
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    task.send_signal(signal.SIGTERM)
    task.wait(60)
    assert (tmp_path / "pids.cleaned").exists()
    assert not any(map(is_running, pids.read_text().split()))
    record = open_stack(lineage=False).records.latest_try("pipeline", "manual__1", "step")
    assert record.state is StepState.KILLED


def test_a_killed_task_leaves_no_process(start_task, tmp_path):
    """Kill -9 of the task ends the child, and what the child has started."""
    pids = tmp_path / "pids"
    task = start_task(step_file(_SLEEPS, str(pids)))
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    task.kill()
    task.wait()
    wait_until(lambda: not any(map(is_running, pids.read_text().split())))


def test_a_retry_after_a_killed_child(run_small, tmp_path):
    """Kill -9 of the child at ten moments of its life: the task fails, and its retry succeeds."""
    marker = tmp_path / "tries"
    text = step_file(
        "count = len(Path(value).read_text()) if Path(value).exists() else 0\nPath(value).write_text('x' * (count + 1))\n"
        "if count < 10:\n    subprocess.Popen(['sh', '-c', f'sleep 0.0{count}; kill -9 {os.getpid()}'])\n    time.sleep(5)\n"
        "return count",
        str(marker),
    )
    runs = [run_small(text, try_number=number) for number in range(1, 12)]
    assert [run.tasks[-1].state for run in runs] == ["failed"] * 10 + ["success"]
    assert load(runs[-1].xcom("step")) == 10


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_task_killed_at_any_moment(start_file, run_file, small_python, root, tmp_path, monkeypatch):
    """Whenever a task is killed by kill -9, no process and no file of it stays, and the next try has the right result."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for number, moment in enumerate(moments(0.1, 2.5, seed=6)):
        text, options = step_file(f"time.sleep(0.3)\nreturn {number}"), {"run_id": f"manual__{number}"}
        task = start_file(text, Python(small_python), **options)
        time.sleep(moment)
        task.kill()
        wait_until(lambda: not [each for each in psutil.process_iter() if _belongs_to(each, temporary)])
        run = run_file(text, Python(small_python), try_number=2, **options)
        assert run.states == {"step": "success"}, run.tasks[-1].error
        assert load(run.xcom("step")) == number
        # Fingerprints of code are for later tasks.
        fingerprints, staging = [*temporary.glob("zen-code-*/*")], root / ".staging"
        left = [path for path in [*temporary.rglob("*"), *staging.rglob("*")] if path.is_file()]
        assert [path for path in left if path not in fingerprints] == []


def _belongs_to(process, folder):
    """Whether a process was given a file in a folder."""
    try:
        return any(str(folder) in argument for argument in process.cmdline())
    except psutil.Error:
        return False
