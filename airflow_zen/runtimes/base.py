"""Shared parts of the runtimes outside the task's process: spec, environment, output and answer."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from airflow_zen import __version__, runner
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.errors import RuntimeUnavailable, SaveRefused, ZenError
from airflow_zen.lineage.recorder import OpenedRun
from airflow_zen.materializers.typed_json import encode_typed_json
from airflow_zen.materializers.typed_json.encoding import Encoder, InlineOnly
from airflow_zen.runtimes.code_shipment import ship_code
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import map_elements
from airflow_zen.steps.remote_errors import rebuild_error
from airflow_zen.steps.runtime import Execution, Runtime, StepResult
from airflow_zen.steps.spec import StackSpec, StepAnswer, StepSpec
from airflow_zen.transports.base import normalize_root
from airflow_zen.type_names import named_definitions, resolve_definition

log = logging.getLogger("airflow_zen.runtimes")

TELEMETRY_OFF = {
    **dict.fromkeys(("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"), "1"),
    **dict.fromkeys(("BENTOML_DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"), "true"),
    **dict.fromkeys(("SCARF_NO_ANALYTICS", "WHYLOGS_NO_ANALYTICS"), "true"),
    **dict.fromkeys(("GX_ANALYTICS_ENABLED", "ANONYMIZED_TELEMETRY", "GRADIO_ANALYTICS_ENABLED"), "false"),
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""The variables that turn off what libraries report to their makers."""

_RELAY_VARIABLES = ("AIRFLOW_ZEN_MLFLOW_RELAY", "AIRFLOW_ZEN_MLFLOW_STEP")
_TAIL_LINES = 20
# How Python ends that does not know an option.
_USAGE_ERROR = 2
# PyTorch's elastic launch puts it before each line of a rank.
_RANK = re.compile(r"(\[rank \d+\] )?(.*)", re.DOTALL)
_PLAIN = (str, bool, int, float, type(None))


def make_spec(execution: Execution, answer: str = "", root: str = "") -> StepSpec:
    """Return the spec of an execution.

    `answer` is where the answer is written, as in `StepSpec`; `root` the artifact root as the far side reaches it, if
    that differs. An argument that has no JSON form is stored as an artifact, and passed as its ref. Raises
    `RuntimeUnavailable` for code that cannot be shipped, and for an argument of Airflow's context that has no JSON
    form.
    """
    step, stack, arguments = execution.step, execution.stack, execution.arguments
    root = normalize_root(root or stack.store.root)
    with named_definitions() as definitions:
        text = _write_values(_portable_arguments(execution, root), stack)
    for ref in arguments.inputs.values():
        for name in ref.code:
            with suppress(ZenError):
                definitions.add(resolve_definition(name))
    code = ship_code(step.function, definitions, lambda values: _write_values(values, stack))
    return StepSpec(
        format=runner.SPEC_FORMAT,
        version=__version__,
        module=code.module,
        qualname=code.qualname,
        step=step.name,
        run=str(execution.run.id),
        stack=_stack_spec(stack, root),
        arguments=text,
        modules=code.modules,
        inputs=tuple(execution.run.inputs),
        context=tuple(sorted(arguments.context)),
        answer=answer,
        previews=step.previews,
        log_level=logging.getLogger().getEffectiveLevel(),
        cache_key=execution.find_key(),
        trial=msgspec.to_builtins(step.trial),
        ranks=step.runtime.ranks,
    )


def step_environment(stack: Stack, opened: OpenedRun, *, reaches_relay: bool = True) -> dict[str, str]:
    """Return the environment variables for the far side; they include credentials, and empty ones are to be unset.

    Without `reaches_relay`, as on another host, MLflow's client there sends its requests to the server directly.
    """
    environment = {**opened.environment, **stack.storage_environment, **TELEMETRY_OFF}
    environment.pop("PYTHONPATH", None)
    if not reaches_relay:
        environment |= {**dict.fromkeys(_RELAY_VARIABLES, ""), "MLFLOW_RUN_ID": opened.run_id}
        environment = {name: value for name, value in environment.items() if name.lower() != "no_proxy"}
    return environment


def read_answer(text: bytes | str, execution: Execution, runtime: Runtime) -> StepResult:
    """Return the result in an answer, after applying its metadata and asset events; raise the error in it."""
    answer = msgspec.json.decode(text, type=StepAnswer)
    execution.meter.report(answer.resources)
    execution.collector.add_all(answer.facts)
    for event in answer.events:
        execution.run_hooks.take_event(_read_event(event))
    if answer.error:
        error = rebuild_error(answer.error)
        if isinstance(error, ImportError) and error.name:
            error.add_note(_import_note(error.name, runtime))
        elif isinstance(error, MemoryError):
            error.add_note(f"The step ran out of memory in {runtime!r}. Give it more, or read tables in batches.")
        elif isinstance(error, FileNotFoundError) and (path := _file_of_worker(error)):
            error.add_note(_file_note(path, runtime))
        raise error
    saved = {output.name: output.saved() for output in answer.outputs}
    store = execution.stack.store
    saved = {name: msgspec.structs.replace(found, ref=store.relocate(found.ref)) for name, found in saved.items()}
    return StepResult(saved, answer.model_inputs, has_checkpoints=answer.has_checkpoints)


class OutputStream:
    """Process the standard output and standard error of the far side by line: log records, prints and the answer.

    Records are logged with their level, prints are printed. `answer` is the line with the answer, "" before it arrives;
    `tail` are the last lines.
    """

    def __init__(self) -> None:
        self.answer = ""
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def write(self, line: str, *, is_error: bool = False) -> None:
        """Process one line, without its line break; thread-safe."""
        rank, text = _RANK.fullmatch(line).groups(default="")  # type: ignore[union-attr]
        if line.startswith(runner.ANSWER_MARK):
            self.answer = line.removeprefix(runner.ANSWER_MARK)[:-1]
        elif text.startswith(runner.LOG_MARK):
            self._log(text, rank)
        else:
            self.tail.append(line)
            self._print(line, is_error=is_error)

    def _print(self, line: str, *, is_error: bool) -> None:
        output = sys.stderr if is_error else sys.stdout
        output.write(f"{line}\n")
        output.flush()

    def _log(self, line: str, rank: str) -> None:
        record = json.loads(line)
        logging.getLogger(record["logger"]).log(record["zen.log"], "%s%s", rank, record["message"].removeprefix(rank))


def describe_exit(code: int, tail: Iterable[str], runtime: Runtime, *, out_of_memory: str = "") -> RuntimeUnavailable:
    """Return the error of a process that ended without an answer; a negative `code` is the number of a signal.

    `out_of_memory` is the reason if the caller knows that memory ran out: `out of memory, limit 4Gi`.
    """
    text = "\n".join(tail)
    signal_number = -code if code < 0 else code - 128 if code > 128 else 0
    if "No module named" in text and "airflow_zen" in text.partition("No module named")[2].partition("\n")[0]:
        reason = "has no airflow_zen.runner: install airflow-provider-zen there (pip install --no-deps is enough)"
    elif code == _USAGE_ERROR and "nknown option: -P" in text:
        reason = "has a Python that is too old: steps need Python 3.11 or later. Name another interpreter with python="
    elif out_of_memory:
        reason = f"ran the step {out_of_memory}"
    elif signal_number == 9:
        reason = "lost the step's process to SIGKILL: somebody killed it, or the system did, because memory ran out"
    elif signal_number:
        reason = f"lost the step's process to signal {signal_number}"
    else:
        reason = f"ended the step's process with exit code {code} before it had answered"
    error = RuntimeUnavailable(f"{runtime!r} {reason}.")
    if text:
        error.add_note(f"Its last lines:\n{text}")
    return error


def _stack_spec(stack: Stack, root: str) -> StackSpec:
    syncs = getattr(stack.store.transport, "syncs_to_disk", False)
    return StackSpec(root, stack.previews, allow_pickle=stack.materializers.allow_pickle, sync_to_disk=syncs)


def _portable_arguments(execution: Execution, root: str) -> dict[str, Any]:
    """Return the bound arguments with a ref for each value without a JSON form, under the far side's artifact root."""
    found, given = {}, execution.arguments
    for name, value in given.bound.arguments.items():
        kind = given.bound.signature.parameters[name].kind
        if name in given.context:
            found[name] = _plain_context(value, name)
        elif kind is kind.VAR_KEYWORD:
            # Of the whole context, `**context`, only what has a JSON form goes along.
            own = {key: held for key, held in value.items() if key not in given.context}
            found[name] = {**_portable(own, execution.stack, root), **_plain_items(value, given.context)}
        else:
            found[name] = _portable(value, execution.stack, root)
    return found


def _portable(value: Any, stack: Stack, root: str) -> Any:
    if isinstance(value, ArtifactRef):
        own = f"{stack.store.root}/"
        return replace(value, uri=value.uri.replace(own, f"{root}/", 1)) if value.uri.startswith(own) else value
    if type(value) in (list, tuple, dict):
        return map_elements(value, "", lambda held, _path, _at: _portable(held, stack, root))
    try:
        Encoder(InlineOnly(stack.materializers, "an argument", "")).encode(value)
    except SaveRefused:
        return _portable(stack.save(value).ref, stack, root)
    return value


def _plain_items(values: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    found = {}
    for name in names & values.keys():
        with suppress(RuntimeUnavailable):
            found[name] = _plain_context(values[name], name)
    return found


def _plain_context(value: Any, name: str) -> Any:
    """Return a value of Airflow's context in Python's types; raise `RuntimeUnavailable` for objects of Airflow."""
    if isinstance(value, _PLAIN) and type(value) in _PLAIN:
        return value
    if isinstance(value, datetime):
        zone = getattr(value.tzinfo, "key", None)
        own = datetime.fromisoformat(value.isoformat())
        return own.astimezone(ZoneInfo(zone)) if zone else own
    if isinstance(value, Mapping):
        return {str(key): _plain_context(held, name) for key, held in value.items()}
    if type(value) in (list, tuple):
        return [_plain_context(held, name) for held in value]
    raise RuntimeUnavailable(
        f"Argument {name!r}, which Airflow's context fills in, is an object of Airflow that exists in the task's process "
        f"only. Pass what the step needs of it as a value of its own, such as '{{{{ ds }}}}'."
    )


def _write_values(values: Mapping[str, Any], stack: Stack) -> str:
    text, _ = encode_typed_json(stack.materializers.for_encoding("python.json@1"), dict(values), Path("unused"))
    return text.decode()


def _import_note(name: str, runtime: Runtime) -> str:
    if name.partition(".")[0] == "airflow":
        return (
            f"Airflow is not in {runtime!r}, where only its exceptions, Asset and Metadata can be imported. Read what the step "
            "needs of Airflow in a task before it, and pass it as an argument."
        )
    return f"{name!r} is not installed in {runtime!r}, or not as the step needs it."


def _file_of_worker(error: FileNotFoundError) -> str:
    """Return the path in an error if this machine has such a file; "" otherwise."""
    paths = [error.filename] if isinstance(error.filename, str) else re.findall(r"['\"](/[^'\"]+)['\"]", str(error))
    return next((path for path in paths if os.path.isabs(path) and os.path.exists(path)), "")  # noqa: PTH110, PTH117


def _file_note(path: str, runtime: Runtime) -> str:
    return (
        f"{path!r} is on the Airflow worker and not in {runtime!r}: of a project its code is sent, and no other file. Put the "
        "file into the image, mount it there at the same path, or store it as an artifact and pass that to the step."
    )


def _read_event(event: Mapping[str, Any]) -> Any:
    """Return the description of an asset event as the step yielded it."""
    from airflow.sdk import Asset, AssetAlias, Metadata

    asset = Asset(**{name: value for name, value in event["asset"].items() if value})
    alias = AssetAlias(event["alias"]) if event["alias"] else None
    return Metadata(asset, dict(event["extra"]), alias)
