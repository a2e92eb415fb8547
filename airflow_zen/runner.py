"""The far side of a runtime: `python -m airflow_zen.runner SPEC` runs one step where neither Airflow nor MLflow is.

SPEC is the path of a JSON file, `-` for standard input, or an address in the artifact root. Standard output is the user's;
log records are JSON lines in it. Without what a step needs, only Python's own library is imported, so that the answer can
say what is missing.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import linecache
import logging
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

    from airflow_zen.lineage.recorder import OpenedRun
    from airflow_zen.stack import Stack
    from airflow_zen.steps.runtime import Execution, StepResult
    from airflow_zen.steps.spec import SourceModule, StepSpec

LOG_MARK, ANSWER_MARK = '{"zen.log": ', '{"zen.answer": '
"""How the lines begin that are a log record, and the answer."""

LIFELINE_VARIABLE = "AIRFLOW_ZEN_LIFELINE"
"""The number of a file descriptor whose end says that the waiting process is gone."""

REQUIREMENTS = ("blake3", "msgspec")
"""What every step needs beside this package; tables need pandas, pyarrow and numpy, a remote artifact root fsspec."""

_STEP_VARIABLE = "AIRFLOW_ZEN_MLFLOW_STEP"


def main(arguments: Sequence[str]) -> int:
    """Run the step of a spec, and answer; return 0, or 1 for an answer that is an error."""
    _watch_lifeline(os.environ.pop(LIFELINE_VARIABLE, ""))
    output = os.dup(1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    document = _read_spec(arguments[0] if arguments else "-")
    answer: Mapping[str, Any]
    try:
        for module in REQUIREMENTS:
            __import__(module)
    except ImportError as error:
        answer = {"error": _missing_requirement(error)}
    else:
        answer = _run(document, output)
    _send(answer, document, output)
    return 1 if answer.get("error") else 0


def _run(document: Mapping[str, Any], output: int) -> Mapping[str, Any]:
    """Run the step; return the answer as JSON."""
    import msgspec

    from airflow_zen.steps.arguments import describe_as_json
    from airflow_zen.steps.in_process import raise_on_sigterm
    from airflow_zen.steps.remote_errors import describe_error
    from airflow_zen.steps.spec import StepAnswer, StepSpec

    spec = msgspec.convert(document, StepSpec)
    _send_log_records(output, spec.log_level)
    events = list[Mapping[str, Any]]()
    facts: Mapping[str, Any] = {}
    try:
        with raise_on_sigterm():
            execution = _prepare(spec, events)
            try:
                answer = _store_previews(execution, execution.step.runtime.execute(execution))
            finally:
                facts = {subject: describe_as_json(found) for subject, found in execution.collector.facts.items()}
    except BaseException as error:  # noqa: BLE001 - raised again on the other side
        answer = StepAnswer(error=describe_error(error))
    return dict(msgspec.to_builtins(msgspec.structs.replace(answer, facts=facts, events=tuple(events))))


def _prepare(spec: StepSpec, events: list[Mapping[str, Any]]) -> Execution:
    """Open the stack, load the code, and read the arguments."""
    from concurrent.futures import Future

    import airflow_zen
    from airflow_zen.lineage.recorder import MetadataCollector, OpenedRun
    from airflow_zen.materializers.annotations import Artifact
    from airflow_zen.runs.step_run import StepRun, StepRunId
    from airflow_zen.steps.runtime import Execution
    from airflow_zen.steps.step import Step

    if importlib.util.find_spec("airflow") is None:
        # The subclass that DAG files use has Airflow's assets.
        vars(airflow_zen)["Artifact"] = Artifact
    sys.meta_path.insert(0, _ShippedModules(spec.modules))
    function: Any = importlib.import_module(spec.module)
    for name in spec.qualname.split("."):
        function = getattr(function, name)
    step = Step(function, spec.step, previews=spec.step_previews)
    stack = step.extend_stack(_open_stack(spec))
    arguments = _read_arguments(spec, function, stack)
    opening: Future[OpenedRun] = Future()
    opening.set_result(OpenedRun(environment=_step_environment()))
    run = StepRun(StepRunId.parse(spec.run))
    collector = MetadataCollector(frozenset(spec.inputs), frozenset(step.outputs.names))
    scratch = stack.store.temporary_directory()
    return Execution(step, arguments, stack, run, opening, _event_hooks(events), collector, scratch)


def _open_stack(spec: StepSpec) -> Stack:
    from airflow_zen.artifacts.store import ArtifactStore
    from airflow_zen.caching.step_cache import StepCache
    from airflow_zen.materializers.registry import default_registry
    from airflow_zen.runs.records import StepRunRecords
    from airflow_zen.stack import Stack

    transport = _open_transport(spec.root, sync_to_disk=spec.sync_to_disk)
    return Stack(
        store=ArtifactStore(spec.root, transport),
        materializers=default_registry(allow_pickle=spec.allow_pickle),
        cache=StepCache(transport),
        records=StepRunRecords(transport),
        previews=spec.previews,
    )


def _open_transport(root: str, *, sync_to_disk: bool = False) -> Any:
    from airflow_zen.steps.spec import storage_options
    from airflow_zen.transports import open_transport

    return open_transport(root, storage_options(os.environ), sync_to_disk=sync_to_disk)


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

    class EventHooks(RunHooks):
        """Collect the extras of asset events, which the other side adds to its own."""

        def take_event(self, item: Any) -> bool:
            """Keep a yielded `Metadata`."""
            is_event = isinstance(item, _Metadata) or (
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

    refs = {name: artifact.ref for name, artifact in result.saved.items()}
    previews = BackgroundPreviews(execution.step, execution.stack, refs, result.values, result.saved)
    previews.attach(execution.run, OpenedRun())
    outputs = (StoredOutput(name, saved.ref.to_wire(), saved.summary) for name, saved in result.saved.items())
    return StepAnswer(tuple(outputs), result.model_inputs)


class _ShippedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import the modules of a spec by their text."""

    def __init__(self, modules: Iterable[SourceModule]) -> None:
        self._modules = {module.name: module for module in modules}

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a shipped module."""
        if (module := self._modules.get(fullname)) is None:
            return None
        found = importlib.machinery.ModuleSpec(fullname, self, origin=module.file, is_package=module.is_package)
        found.has_location = bool(module.file)
        return found

    def exec_module(self, module: ModuleType) -> None:
        """Execute what the step needs of a module, with the lines of its file."""
        shipped = self._modules[module.__name__]
        lines = shipped.text.splitlines(keepends=True)
        linecache.cache[shipped.file] = (len(shipped.text), None, lines, shipped.file)
        if shipped.variables != "{}":
            from airflow_zen.materializers.registry import default_registry
            from airflow_zen.materializers.typed_json import decode_typed_json

            materializer = default_registry().for_encoding("python.json@1")
            vars(module).update(decode_typed_json(materializer, shipped.variables, None))
        tree = _executed_part(shipped)
        _stand_in_for_airflow(tree)
        exec(compile(tree, shipped.file, "exec"), vars(module))  # noqa: S102 - the user's own code

    def get_source(self, fullname: str) -> str:
        """Return the text of a module, for tracebacks and `inspect`."""
        return self._modules[fullname].text


def _executed_part(module: SourceModule) -> ast.Module:
    """Return the statements of a module that are executed, at their lines."""
    tree = ast.parse(module.text, module.file)
    names, left_out = dict(module.names), set(module.left_out)
    if module.statements is not None:
        wanted = set(module.statements)
        found = (node for node in ast.walk(tree) if isinstance(node, ast.stmt) and _position(node) in wanted)
        tree.body = sorted(found, key=_position)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.decorator_list = [each for each in node.decorator_list if _position(each) not in left_out]
            if not isinstance(node, ast.ClassDef) and node.returns and _position(node.returns) in left_out:
                node.returns = None
        elif isinstance(node, ast.arg) and node.annotation and _position(node.annotation) in left_out:
            node.annotation = None
        elif isinstance(node, ast.Import | ast.ImportFrom) and (kept := names.get(_position(node))):
            node.names = [alias for alias in node.names if (alias.asname or alias.name) in kept]
    return tree


def _position(node: Any) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _stand_in_for_airflow(tree: ast.AST) -> None:
    """Where Airflow is not installed, let code that imports it raise its exceptions, and describe asset events.

    Everything else of Airflow is missing there, as an `ImportError` says.
    """
    if "airflow" in sys.modules or importlib.util.find_spec("airflow") is not None:
        return
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    names = (name for node in imports for name in [getattr(node, "module", None) or node.names[0].name])
    if any(name.partition(".")[0] == "airflow" for name in names):
        for module in ("airflow", "airflow.exceptions", "airflow.sdk", "airflow.sdk.exceptions"):
            sys.modules[module] = ModuleType(module)
            vars(sys.modules[module]).update(_AIRFLOW_NAMES, __path__=[])


def _exception(name: str, base: type[Exception] = Exception) -> type[Exception]:
    # The module that has them in every release of Airflow.
    return type(name, (base,), {"__module__": "airflow.providers.common.compat.sdk"})


class _Asset:
    """The name and address of an asset."""

    def __init__(self, name: str = "", uri: str = "", **options: Any) -> None:
        self.name, self.uri = name or uri, uri


class _Metadata:
    """What a step yields about an asset."""

    def __init__(self, asset: _Asset, extra: Mapping[str, Any], alias: _Asset | None = None) -> None:
        self.asset, self.extra, self.alias = asset, extra, alias


_AIRFLOW_EXCEPTION = _exception("AirflowException")
_AIRFLOW_NAMES = {
    "AirflowException": _AIRFLOW_EXCEPTION,
    "AirflowFailException": _exception("AirflowFailException", _AIRFLOW_EXCEPTION),
    "AirflowSkipException": _exception("AirflowSkipException", _AIRFLOW_EXCEPTION),
    "Asset": _Asset,
    "AssetAlias": _Asset,
    "Metadata": _Metadata,
}


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
    root = logging.getLogger()
    root.setLevel(level)
    root.addHandler(_LogLines(output))


def _read_spec(source: str) -> Mapping[str, Any]:
    if source == "-":
        return dict(json.load(sys.stdin))
    if "://" not in source:
        return dict(json.loads(Path(source).read_bytes()))
    root, _, key = source.rpartition("/")
    return dict(json.loads(_open_transport(root).read(key)))


def _missing_requirement(error: ImportError) -> dict[str, Any]:
    """Return the error, as `describe_error` does, of an environment that lacks what every step needs."""
    needed = " ".join(REQUIREMENTS)
    message = f"{sys.executable} (Python {sys.version.split()[0]}) lacks {error.name!r}. Every step needs {needed}: pip install {needed}"
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
        _open_transport(document["root"]).write(target, text.encode())
    else:
        sys.stdout.flush()
        os.write(output, f"\n{ANSWER_MARK}{text}}}\n".encode())


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
