"""The far side of a runtime: `python -m airflow_zen.runner SPEC` runs one step where neither Airflow nor MLflow is.

SPEC is the path of a JSON file, `-` for standard input, or an address in the artifact root. Standard output is the user's;
log records are JSON lines in it. Without what a step needs, only Python's own library is imported, so that the answer can
say what is missing.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

    from airflow_zen.lineage.recorder import OpenedRun
    from airflow_zen.stack import Stack
    from airflow_zen.steps.resources import ResourceMeter
    from airflow_zen.steps.runtime import Execution, StepResult
    from airflow_zen.steps.spec import StepSpec

LOG_MARK, ANSWER_MARK = '{"zen.log": ', '{"zen.answer": '
"""The prefixes of lines with a log record, and with the answer."""

LIFELINE_VARIABLE = "AIRFLOW_ZEN_LIFELINE"
"""The number of a file descriptor, or the path of a named pipe, whose end says that the waiting process is gone."""

REQUIREMENTS = ("blake3", "msgspec")
"""The requirements of every step; tables need pandas, pyarrow and numpy, a remote artifact root fsspec."""

SPEC_FORMAT = 1
"""The number of the form of `StepSpec`; each change that an older runner cannot read is another one."""

RANKS_VARIABLE = "AIRFLOW_ZEN_RANKS"
"""The folder that the ranks of a step share; set in each rank."""

_STEP_VARIABLE = "AIRFLOW_ZEN_MLFLOW_STEP"


def main(arguments: Sequence[str]) -> int:
    """Run the step of a spec, and answer; return 0, or 1 for an answer that is an error."""
    _watch_lifeline(_open_lifeline(os.environ.pop(LIFELINE_VARIABLE, "")))
    output = os.dup(1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    document = {**_read_spec(arguments[0] if arguments else "-"), **_rank_answer()}
    answer: Mapping[str, Any]
    if reason := _missing_requirement() or _other_format(document):
        answer = {"error": _describe_refusal(reason)}
    else:
        answer = _run(document, output)
    _send(answer, document, output)
    return 1 if answer.get("error") else 0


def _run(document: Mapping[str, Any], output: int) -> Mapping[str, Any]:
    """Run the step; return the answer as JSON."""
    import msgspec

    from airflow_zen.steps.arguments import describe_as_json
    from airflow_zen.steps.remote_errors import describe_error
    from airflow_zen.steps.resources import ResourceMeter
    from airflow_zen.steps.runtime import raise_on_sigterm
    from airflow_zen.steps.spec import StepAnswer, StepSpec

    spec = msgspec.convert(document, StepSpec)
    _send_log_records(output, spec.log_level)
    _warn_of_other_release(spec.version)
    events = list[Mapping[str, Any]]()
    facts: Mapping[str, Any] = {}
    meter = ResourceMeter().start()
    try:
        with raise_on_sigterm():
            execution = _prepare(spec, events, meter)
            try:
                answer = _store_previews(execution, execution.step.runtime.execute(execution))
            finally:
                facts = {subject: describe_as_json(found) for subject, found in execution.collector.facts.items()}
    except BaseException as error:  # noqa: BLE001 - raised again on the other side
        answer = StepAnswer(error=describe_error(error))
    answer = msgspec.structs.replace(answer, facts=facts, events=tuple(events), resources=meter.stop())
    return dict(msgspec.to_builtins(answer))


def _prepare(spec: StepSpec, events: list[Mapping[str, Any]], meter: ResourceMeter) -> Execution:
    """Open the stack, load the code, and read the arguments."""
    from concurrent.futures import Future

    import msgspec

    from airflow_zen.lineage.recorder import MetadataCollector, OpenedRun
    from airflow_zen.runs.step_run import StepRun, StepRunId
    from airflow_zen.steps.runtime import Execution
    from airflow_zen.steps.shipped_modules import ShippedModuleImporter
    from airflow_zen.steps.spec import STACK_VARIABLE
    from airflow_zen.steps.step import Step

    os.environ[STACK_VARIABLE] = msgspec.json.encode(spec.stack).decode()
    sys.meta_path.insert(0, ShippedModuleImporter(spec.modules))
    function: Any = importlib.import_module(spec.module)
    for name in spec.qualname.split("."):
        function = getattr(function, name)
    step = Step(function, spec.step, previews=spec.previews, runtime=_runtime(spec))
    stack = step.extend_stack(spec.stack.open(os.environ))
    arguments = _read_arguments(spec, function, stack)
    opening: Future[OpenedRun] = Future()
    opening.set_result(OpenedRun(environment=_step_environment()))
    run = StepRun(StepRunId.parse(spec.run), cache_key=spec.cache_key)
    collector = MetadataCollector(frozenset(spec.inputs), frozenset(step.outputs.names), _read_trial(spec))
    scratch = stack.store.temporary_directory()
    hooks = _event_hooks(events)
    return Execution(
        *(step, arguments, stack, run, opening, hooks, collector, scratch),
        meter=meter,
        find_key=lambda: spec.cache_key,
    )


def _runtime(spec: StepSpec) -> Any:
    """Return what runs the function from here: this process, the launcher of ranks, or a rank."""
    from airflow_zen.steps.ranks import RANKED_VARIABLE, NodeRank
    from airflow_zen.steps.runtime import IN_PROCESS

    if spec.ranks is None:
        return NodeRank(spec.answer) if os.environ.get(RANKED_VARIABLE) else IN_PROCESS
    from airflow_zen.steps.torch_ranks import Rank, RankLauncher

    if folder := os.environ.get(RANKS_VARIABLE):
        return Rank(spec.ranks, Path(folder))
    return RankLauncher(spec, ("-P", "-m", "airflow_zen.runner"), RANKS_VARIABLE, LIFELINE_VARIABLE)


def _rank_answer() -> Mapping[str, str]:
    """Return the place of a rank's answer, as in a spec; nothing where this process is none."""
    if not (folder := os.environ.get(RANKS_VARIABLE)):
        return {}
    from airflow_zen.steps.torch_ranks import answer_path

    return {"answer": answer_path(folder, os.environ)}


def _read_trial(spec: StepSpec) -> object:
    if spec.trial is None:
        return None
    from airflow_zen.json_records import convert_record
    from airflow_zen.steps.trial import Trial

    return convert_record(spec.trial, Trial)


def _read_arguments(spec: StepSpec, function: Any, stack: Stack) -> Any:
    import inspect

    from airflow_zen.materializers.typed_json import decode_typed_json
    from airflow_zen.steps.arguments import Arguments

    materializer = stack.materializers.for_encoding("python.json@1")
    bound = inspect.BoundArguments(inspect.signature(function), decode_typed_json(materializer, spec.arguments, None))
    return Arguments.from_bound(bound, frozenset(spec.context))


def _event_hooks(events: list[Mapping[str, Any]]) -> Any:
    from airflow_zen.steps.arguments import describe_as_json
    from airflow_zen.steps.run import RunHooks
    from airflow_zen.steps.shipped_modules import Metadata

    class EventHooks(RunHooks):
        """Collect the extras of asset events, which the other side adds to its own."""

        def take_event(self, item: Any) -> bool:
            """Keep a yielded `Metadata`."""
            is_event = isinstance(item, Metadata) or (
                type(item).__name__ == "Metadata" and type(item).__module__.startswith("airflow.")
            )
            if not is_event:
                return False
            asset = {name: getattr(item.asset, name, "") for name in ("name", "uri")}
            alias = getattr(item.alias, "name", "") if item.alias else ""
            events.append({"asset": asset, "extra": describe_as_json(item.extra), "alias": alias})
            return True

    return EventHooks()


def _step_environment() -> dict[str, str]:
    """Return what makes this process the one that the step runs in, for MLflow's client."""
    if not (step := os.environ.get(_STEP_VARIABLE)):
        return {}
    return {_STEP_VARIABLE: json.dumps({**json.loads(step), "process": os.getpid()})}


def _store_previews(execution: Execution, result: StepResult) -> Any:
    """Store the previews beside the outputs, where the other side finds them; return the answer."""
    from airflow_zen.lineage.recorder import OpenedRun
    from airflow_zen.steps.materialize import BackgroundPreviews
    from airflow_zen.steps.spec import StepAnswer, StoredOutput

    refs = {name: artifact.ref for name, artifact in result.saved.items() if result.values}
    previews = BackgroundPreviews(execution.step, execution.stack, refs, result.values, result.saved)
    previews.attach(execution.run, OpenedRun())
    outputs = (StoredOutput(name, saved.ref.to_wire(), saved.summary) for name, saved in result.saved.items())
    return StepAnswer(tuple(outputs), result.model_inputs, has_checkpoints=result.has_checkpoints)


class _LogLines(logging.Handler):
    """Write each record as one line, in the order of the prints around it."""

    def __init__(self, output: int) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            text = {"logger": record.name, "message": self.format(record)}
            line = f"{LOG_MARK}{record.levelno}, {json.dumps(text)[1:]}\n"
            sys.stdout.flush()
            os.write(self._output, line.encode())
        except Exception:  # noqa: BLE001 - as the standard library does
            self.handleError(record)


def _send_log_records(output: int, level: int) -> None:
    from airflow_zen.steps.ranks import process_rank

    root, lines = logging.getLogger(), _LogLines(output)
    if rank := process_rank(os.environ):
        lines.setFormatter(logging.Formatter(f"[rank {rank}] %(message)s"))
    root.setLevel(level)
    root.addHandler(lines)


def _read_spec(source: str) -> Mapping[str, Any]:
    if source == "-":
        return dict(json.load(sys.stdin))
    if "://" not in source:
        return dict(json.loads(Path(source).read_bytes()))
    root, _, key = source.rpartition("/")
    return dict(json.loads(_open_transport(root).read(key)))


def _open_transport(root: str) -> Any:
    from airflow_zen.steps.spec import storage_options
    from airflow_zen.transports import open_transport

    return open_transport(root, storage_options(os.environ))


def _missing_requirement() -> str:
    """Return why no step can be run here: what every step needs is not installed; "" where it is."""
    try:
        for module in REQUIREMENTS:
            __import__(module)
    except ImportError as error:
        needed = " ".join(REQUIREMENTS)
        return f"{_named_python()} lacks {error.name!r}. Every step needs {needed}: pip install {needed}"
    return ""


def _other_format(document: Mapping[str, Any]) -> str:
    """Return why a spec cannot be read here: a release of this package with another form of it wrote it; "" otherwise."""
    from airflow_zen import __version__

    theirs, release = document.get("format", 0), document.get("version", "an unknown release")
    if theirs == SPEC_FORMAT:
        return ""
    here, there = f"{_named_python()} has airflow-provider-zen {__version__}", f"the Airflow worker has {release}"
    if theirs > SPEC_FORMAT:
        return f"{here}, which is older: {there}. Install that there: pip install --no-deps airflow-provider-zen=={release}"
    return f"{here}, and {there}, which is older. Install {__version__} on the worker, or {release} there."


def _warn_of_other_release(release: str) -> None:
    from airflow_zen import __version__

    if release != __version__:
        log = logging.getLogger("airflow_zen.runner")
        log.warning(
            "%s has airflow-provider-zen %s, the Airflow worker has %s. Install the same release on both sides.",
            *(_named_python(), __version__, release),
        )


def _named_python() -> str:
    return f"{sys.executable} (Python {sys.version.split()[0]})"


def _describe_refusal(message: str) -> dict[str, Any]:
    """Return an error of this process, as `describe_error` does."""
    names = ("airflow_zen.errors:RuntimeUnavailable", "builtins:RuntimeError", "builtins:Exception")
    nothing = {"arguments": [message], "name": None, "notes": [], "frames": [], "cause": None, "is_explicit": False}
    return {"classes": names, "message": message, **nothing}


def _send(answer: Mapping[str, Any], document: Mapping[str, Any], output: int) -> None:
    """Write the answer where the spec says: a file, a key in the artifact root, or a line."""
    text, target = json.dumps(answer), document["answer"]
    if target and os.path.isabs(target):  # noqa: PTH117
        # Renamed, so that no half of an answer is read.
        Path(f"{target}.new").write_text(text)
        Path(f"{target}.new").rename(target)
    elif target and "msgspec" in sys.modules:
        _store_answer(_open_transport(document["stack"]["root"]), target, text, is_error=bool(answer.get("error")))
    else:
        sys.stdout.flush()
        os.write(output, f"\n{ANSWER_MARK}{text}}}\n".encode())


def _store_answer(transport: Any, key: str, text: str, *, is_error: bool) -> None:
    """Store the answer of the first rank; of errors the first one, because the launcher then ends the other ranks."""
    from airflow_zen.errors import AlreadyExists
    from airflow_zen.steps.ranks import process_rank

    if is_error:
        with suppress(AlreadyExists):
            transport.create(key, text.encode())
    elif not process_rank(os.environ):
        transport.write(key, text.encode())


def _open_lifeline(given: str) -> str:
    """Return the number of a descriptor; that of a named pipe which has lost its writer is at its end."""
    if not given.startswith("/"):
        return given
    descriptor = os.open(given, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return str(descriptor)


def _watch_lifeline(descriptor: str) -> None:
    """Kill this process and all that it starts when the process that waits for it is gone.

    A process of its own watches, which no code of the step can delay.
    """
    if not descriptor:
        return
    lifeline = os.dup(int(descriptor))
    # It may be the standard input, which is empty for the step.
    with open(os.devnull, "rb") as empty:  # noqa: PTH123
        os.dup2(empty.fileno(), int(descriptor))
    if os.fork():
        os.close(lifeline)
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for standard in range(3):
        os.close(standard)
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
