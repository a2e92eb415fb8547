"""The far side of `TorchElastic`: the launcher of the ranks, and the execution of a step in one of them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.errors import RuntimeUnavailable, StepInterrupted
from airflow_zen.lineage.recorder import temporary_environment
from airflow_zen.runs.step_run import RANK_SAMPLES
from airflow_zen.steps.rank_usage import measure_rank
from airflow_zen.steps.ranks import RANKED_VARIABLE, LaterRank
from airflow_zen.steps.remote_errors import rebuild_error
from airflow_zen.steps.runtime import IN_PROCESS, Execution, RankOptions, Runtime, StepResult
from airflow_zen.steps.shared_values import SharedArguments, read_shared_values, share_values
from airflow_zen.steps.shipped_modules import asset_event
from airflow_zen.steps.spec import StepAnswer, StepSpec

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

# Seconds that the ranks have to end before they are killed; the task itself has five.
_SHUTDOWN_TIMEOUT = "4"


class RankLauncher(Runtime):
    """Load the inputs once, start the ranks, and return what rank 0 answers.

    `command` starts a rank with the path of its spec; `variable` and `lifeline` are the names of environment variables for
    the folder that the ranks share and for the pipe that ends with this process.
    """

    def __init__(self, spec: StepSpec, command: tuple[str, ...], variable: str, lifeline: str) -> None:
        self._spec, self._command, self._variable, self._lifeline = spec, command, variable, lifeline

    def execute(self, execution: Execution) -> StepResult:
        """Run the function in the ranks; raise the error of the one that failed first."""
        options: Any = self._spec.ranks
        folder = execution.scratch / "ranks"
        folder.mkdir(mode=0o700)
        specification = folder / "spec.json"
        specification.write_bytes(msgspec.json.encode(self._spec))
        share_values(execution, folder)
        variables = {self._variable: str(folder), self._lifeline: str(folder / "lifeline")}
        with _pipe(folder / "lifeline"), temporary_environment({**_defaults(), **variables}):
            failed = _launch(options, folder, (*self._command, str(specification)))
        answers = _read_answers(folder)
        shutil.rmtree(folder, ignore_errors=True)
        for rank, answer in answers.items():
            _take_facts(execution, rank, answer)
            execution.meter.add_gpu_memory(answer.resources.gpu_memory)
        if failed:
            raise _first_error(failed, answers, options)
        return _result(execution, answers[0])


class Rank(Runtime):
    """Run the function in this rank; the result of rank 0 is the step's."""

    def __init__(self, options: RankOptions, folder: Path) -> None:
        self._options, self._folder = options, folder
        self._rank = int(os.environ["RANK"])

    def execute(self, execution: Execution) -> StepResult:
        """Call the function with the shared inputs, in the process group; store its outputs in rank 0."""
        shared = read_shared_values(self._folder)
        arguments = SharedArguments.of(execution.arguments, shared)
        execution = msgspec.structs.replace(execution, arguments=arguments)
        with measure_rank(self._rank, execution.collector.add_all), _process_group(self._options):
            return (LaterRank() if self._rank else IN_PROCESS).execute(execution)


def _launch(options: RankOptions, folder: Path, arguments: tuple[str, ...]) -> ChildFailedError | None:
    """Run the ranks until all have ended; return what failed."""
    try:
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    except ImportError as error:
        raise RuntimeUnavailable(f"{sys.executable} has no PyTorch 2.4 or later, which TorchElastic needs.") from error
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=options.nproc_per_node,
        max_restarts=options.max_restarts,
        run_id=folder.parent.name,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs"), tee=Std.ALL),
        log_line_prefix_template="[rank ${rank}] ",
    )
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except ChildFailedError as error:
        return error
    except SignalException as error:
        raise StepInterrupted(signal.Signals(error.sigval).name) from error
    return None


def _defaults() -> dict[str, str]:
    """Return variables for the ranks that are not set: they communicate on this machine, with one thread each."""
    defaults = {RANKED_VARIABLE: "1", "OMP_NUM_THREADS": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": _SHUTDOWN_TIMEOUT}
    # A store that is shared by all restarts still has the addresses of the ranks before.
    defaults["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    if sys.platform == "linux":
        defaults["GLOO_SOCKET_IFNAME"] = "lo"
    return {name: os.environ.get(name) or value for name, value in defaults.items()}


@contextmanager
def _pipe(path: Path) -> Iterator[None]:
    """Make a named pipe that this process alone can write to: its readers see its end."""
    os.mkfifo(path, 0o600)
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield
    finally:
        os.close(descriptor)


def answer_path(folder: str, environment: Mapping[str, str]) -> str:
    """Return the file for the answer of the rank with this environment."""
    return f"{folder}/answer-{environment['TORCHELASTIC_RESTART_COUNT']}-{environment['RANK']}.json"


def _read_answers(folder: Path) -> dict[int, StepAnswer]:
    """Return the answers after the last restart by rank, the earliest first."""
    found = list(folder.glob("answer-*.json"))
    last = max((_numbers(path)[0] for path in found), default=0)
    kept = sorted((path for path in found if _numbers(path)[0] == last), key=lambda path: path.stat().st_mtime_ns)
    return {_numbers(path)[1]: msgspec.json.decode(path.read_bytes(), type=StepAnswer) for path in kept}


def _numbers(path: Path) -> tuple[int, int]:
    """Return after how many restarts an answer was given, and the rank."""
    restart, rank = path.stem.split("-")[1:]
    return int(restart), int(rank)


def _take_facts(execution: Execution, rank: int, answer: StepAnswer) -> None:
    """Keep what rank 0 logged, and what every rank used."""
    for subject, facts in answer.facts.items():
        kind, _, name = subject.partition(":")
        own = facts if rank == 0 else {label: facts[label] for label in facts if label.startswith("system/rank_")}
        if own and (rank == 0 or not kind or subject == RANK_SAMPLES):
            execution.collector.add(own, kind, name)


def _result(execution: Execution, answer: StepAnswer) -> StepResult:
    for event in answer.events:
        execution.run_hooks.take_event(asset_event(event))
    saved = {output.name: output.saved() for output in answer.outputs}
    return StepResult(saved, answer.model_inputs, has_checkpoints=answer.has_checkpoints)


def _first_error(failed: ChildFailedError, answers: Mapping[int, StepAnswer], options: RankOptions) -> BaseException:
    """Return the error of the rank that failed first: others fail because of it.

    `answers` has the errors in their order. Libraries abort a process (SIGABRT) whose peer is gone, so that an abort is told
    only without an error.
    """
    # In whole seconds. What the launcher had to kill ended later: it waits 30 seconds after SIGTERM.
    last = min(failure.timestamp for failure in failed.failures.values()) + 1
    first = {rank: failure for rank, failure in failed.failures.items() if failure.timestamp <= last}
    lost = [rank for rank, failure in first.items() if failure.exitcode < 0 and rank not in answers]
    signals = {rank: -failed.failures[rank].exitcode for rank in lost}
    errors = [(rank, answer.error) for rank, answer in answers.items() if answer.error]
    own = [each for each in errors if not each[1]["classes"][0].endswith(f":{StepInterrupted.__name__}")]
    followed = {signal.SIGTERM, signal.SIGABRT} if own else {signal.SIGTERM}
    for rank in sorted(lost, key=lambda rank: signals[rank] == signal.SIGABRT):
        if signals[rank] not in followed:
            return RuntimeUnavailable(_loss(rank, failed.failures[rank], options))
    for rank, described in own or errors:
        error = rebuild_error(described)
        error.add_note(f"Raised in rank {rank} of {options.nproc_per_node}.")
        return error
    rank, failure = failed.get_first_failure()
    return RuntimeUnavailable(
        f"Rank {rank} of {options.nproc_per_node} ended with exit code {failure.exitcode} before it had answered."
    )


def _loss(rank: int, failure: ProcessFailure, options: RankOptions) -> str:
    why = ": somebody killed it, or the system did, because memory ran out" if failure.exitcode == -9 else ""
    name = signal.Signals(-failure.exitcode).name
    return f"Rank {rank} of {options.nproc_per_node} was lost to {name}{why}, after {options.max_restarts} restarts."


@contextmanager
def _process_group(options: RankOptions) -> Iterator[None]:
    """Initialize the default process group for the block, unless the function does."""
    if options.backend is None:
        yield
        return
    import torch
    from torch import distributed

    has_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= options.nproc_per_node
    if has_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group(options.backend or ("nccl" if has_gpus else "gloo"))
    yield
    # Not after an error, where other ranks may be gone.
    if distributed.is_initialized():
        distributed.destroy_process_group()
