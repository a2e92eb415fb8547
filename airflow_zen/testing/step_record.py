"""The arguments and the code of a recorded step run, with which it is run again."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import tarfile
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from airflow.sdk import timezone
from airflow.sdk.definitions.context import KNOWN_CONTEXT_KEYS
from airflow.utils.cli import suppress_logs_and_warning
from msgspec.structs import replace

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.config.settings import Settings
from airflow_zen.errors import FingerprintError, SpinError
from airflow_zen.fingerprint import fingerprint
from airflow_zen.operators.ml_step import OPTION_TYPES, MLStepOperator
from airflow_zen.operators.stack_selection import resolve_runtime
from airflow_zen.planning.plan import parse_dag
from airflow_zen.runs.step_run import StepRun
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import Arguments, Selectors
from airflow_zen.steps.step import Step

T = TypeVar("T")

_MASK = "***"
_CONTEXT_DATES = frozenset(
    {
        *("logical_date", "data_interval_start", "data_interval_end", "partition_date", "prev_start_date_success"),
        *("prev_data_interval_start_success", "prev_data_interval_end_success", "prev_end_date_success"),
    }
)
"""The names of Airflow's context whose values are dates."""
_SEGMENT = re.compile(r"\.([A-Za-z_]\w*)|\[([^\]]+)\]")


def find_step_run(stack: Stack, dag_id: str, task_id: str, run_id: str | None, map_index: int) -> StepRun:
    """Return the record of a task instance's latest try, by default in the DAG's latest run.

    Raises `SpinError`, which lists the recorded ones.
    """
    run_id = run_id or stack.records.latest_dag_run(dag_id)
    if run_id and (recorded := stack.records.latest_try(dag_id, run_id, task_id, map_index)):
        return recorded
    raise _missing_record(stack, dag_id, task_id, run_id)


def _missing_record(stack: Stack, dag_id: str, task_id: str, run_id: str | None) -> SpinError:
    """Return the error for a missing record, which lists the recorded ones."""
    runs = [*stack.records.read_dag_run(dag_id, run_id)] if run_id else []
    if not runs:
        which = f"run {run_id!r} of DAG {dag_id!r}" if run_id else f"DAG {dag_id!r}"
        return SpinError(f"No step run of {which} is recorded in {stack.store.root}: see airflow zen runs list.")
    of_task = [run for run in runs if run.id.task_id == task_id]
    if not of_task:
        known = ", ".join(sorted({run.id.task_id for run in runs}))
        return SpinError(f"DAG run {run_id!r} has no record of a step {task_id!r}. It has: {known}.")
    indexes = ", ".join(map(str, sorted({run.id.map_index for run in of_task})))
    return SpinError(f"Step {task_id!r} of DAG run {run_id!r} has the map indexes {indexes}: name one of them.")


def recorded_ingredients(stack: Stack, recorded: StepRun) -> Mapping[str, str]:
    """Return the labeled fingerprints in a run's cache key; empty where they are no longer stored."""
    history = stack.cache.history.recent_records(recorded.id.dag_id, recorded.id.task_id)
    known = {record.key: record.ingredients for record in history}
    entry = None if recorded.cache_key in known else stack.cache.get(recorded.cache_key)
    return entry.ingredients if entry else known.get(recorded.cache_key, {})


def bind_recorded_arguments(
    step: Step,
    recorded: StepRun,
    given: Mapping[str, Any],
    selectors: Selectors,
    ingredients: Callable[[], Mapping[str, str]],
    ask: Callable[[str], Any] | None = None,
) -> Arguments:
    """Bind the recorded inputs and parameters, with what is `given` in place of recorded parameters.

    A given text is read as JSON where the parameter is not declared `str`, and as a date where Airflow's context has one of
    that name. `ingredients` returns the recorded ingredients of the cache key. `ask` returns the value of a parameter that
    is masked in the record. Raises `SpinError` for a parameter that has no usable value.
    """
    signature = inspect.signature(step.function)
    values = _recorded_values(signature, recorded)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    if (unknown := given.keys() - signature.parameters.keys()) and not takes_any:
        raise SpinError(f"Step {step.name!r} has no parameter {', '.join(sorted(unknown))}.")
    masked = {name for name, value in values.items() if _MASK in json.dumps(value, default=str)} - given.keys()
    at_default = masked & _at_default(signature, ingredients() if masked else {})
    masked -= at_default
    answers = {name: ask(name) for name in sorted(masked)} if ask else {}
    values = {name: value for name, value in values.items() if name not in at_default}
    values |= {name: _read(step, name, value) for name, value in {**answers, **given}.items()}
    values |= {name: _read_date(name, values[name]) for name in _CONTEXT_DATES & values.keys()}
    args, kwargs = _call_of(step, signature, values, masked - answers.keys())
    context = frozenset(KNOWN_CONTEXT_KEYS & kwargs.keys())
    return Arguments.bind(step.function, args, kwargs, context, selectors, step.parameter_type)


def _call_of(
    step: Step, signature: inspect.Signature, values: Mapping[str, Any], masked: Collection[str]
) -> tuple[list[Any], dict[str, Any]]:
    """Return values by parameter as the arguments of a call; raise `SpinError` where a needed one is missing."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    parameters = signature.parameters.values()
    by_position = any(p.kind is p.VAR_POSITIONAL and values.get(p.name) for p in parameters)
    for parameter in parameters:
        name, kind = parameter.name, parameter.kind
        if name not in values or name in masked:
            _check_optional(step, parameter, is_masked=name in masked)
        elif kind is parameter.VAR_POSITIONAL:
            args += values[name]
        elif kind is parameter.VAR_KEYWORD:
            kwargs |= values[name]
        elif kind is parameter.POSITIONAL_ONLY or (by_position and kind is parameter.POSITIONAL_OR_KEYWORD):
            args.append(values[name])
        else:
            kwargs[name] = values[name]
    return args, kwargs | {name: values[name] for name in values.keys() - signature.parameters.keys()}


def _recorded_values(signature: inspect.Signature, recorded: StepRun) -> dict[str, Any]:
    """Return the recorded parameters, with refs in the places of the artifacts inside them, and the params of the DAG run."""
    values = {name: value for name, value in recorded.parameters.items() if name in signature.parameters}
    if "params" in signature.parameters:
        values.setdefault("params", {k: v for k, v in recorded.dag_run_parameters.items() if not k.startswith("conf.")})
    for path, ref in recorded.inputs.items():
        name = re.match(r"\w*", path)[0]  # type: ignore[index]
        if name in signature.parameters:
            steps = [_step_of(*found) for found in _SEGMENT.findall(path[len(name) :])]
            values[name] = _place(values.get(name), steps, ref)
    return values


def _at_default(signature: inspect.Signature, ingredients: Mapping[str, str]) -> set[str]:
    """Return the parameters whose recorded fingerprint is that of their default."""
    found = set()
    for name, parameter in signature.parameters.items():
        with suppress(FingerprintError):
            if ingredients.get(f"parameter {name}") == fingerprint(parameter.default):
                found.add(name)
    return found


def _step_of(attribute: str, index: str) -> str | int:
    return attribute or ast.literal_eval(index)


def _place(container: Any, steps: list[str | int], ref: ArtifactRef) -> Any:
    """Return a container with a ref at a place in it; missing lists and dicts are made."""
    if not steps:
        return ref
    at, *rest = steps
    if container is None:
        container = [] if at == 0 else {}
    if isinstance(container, list) and isinstance(at, int):
        container = [*container, *[None] * (at + 1 - len(container))]
        container[at] = _place(container[at], rest, ref)
        return container
    return {**container, at: _place(container.get(at), rest, ref)}


def _read(step: Step, name: str, value: Any) -> Any:
    if not isinstance(value, str) or step.parameter_types.get(name) is str:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _read_date(name: str, value: Any) -> Any:
    """Return a date of Airflow's context as Airflow gives it."""
    if not isinstance(value, str):
        return value
    try:
        return timezone.coerce_datetime(datetime.fromisoformat(value))
    except ValueError as error:
        raise SpinError(f"{name} is a date and time, such as '2026-11-29T00:00:00Z', got {value!r}.") from error


def _check_optional(step: Step, parameter: inspect.Parameter, *, is_masked: bool) -> None:
    """Raise `SpinError` for a parameter that needs a value, and has no usable one in the record."""
    if parameter.name in KNOWN_CONTEXT_KEYS and parameter.kind is not parameter.VAR_KEYWORD:
        raise SpinError(
            f"Parameter {parameter.name!r} of step {step.name!r} is filled in by Airflow's context, and its value is not in the "
            f"record. Give one: spin(…, params={{{parameter.name!r}: value}}), or pass what the step needs of it as a value of "
            "its own, such as '{{ ds }}'."
        )
    no_value = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    if is_masked or (no_value and parameter.default is parameter.empty):
        why = "is masked in the record" if is_masked else "is not in the record"
        raise SpinError(
            f"Parameter {parameter.name!r} of step {step.name!r} {why}. Give its value: --param {parameter.name}=VALUE, or "
            f"spin(…, params={{{parameter.name!r}: value}})."
        )


@contextmanager
def load_step(
    recorded: StepRun, settings: Settings, function: Any = None, *, as_recorded: bool = False
) -> Iterator[Step]:
    """Yield the step of a recorded run: of its current DAG, of a decorated `function`, or of the code as recorded.

    Recorded code is removed after the block. Raises `SpinError` if the code is not available.
    """
    dag_id, task_id = recorded.id.dag_id, recorded.id.task_id
    if function is not None:
        yield _resolve(_make_operator(task_id, function.function, function.kwargs), settings)
        return
    with _parse_recorded_dag(recorded) if as_recorded else nullcontext(_without_log(partial(parse_dag, dag_id))) as dag:
        task = dag.task_dict.get(task_id)
        if task is None or not issubclass(getattr(task, "operator_class", type(task)), MLStepOperator):
            raise SpinError(f"DAG {dag_id!r} has no step {task_id!r} in this version of its code.")
        if task.is_mapped:
            # Airflow makes the operator of a mapped task only when it runs.
            given = task.partial_kwargs
            task = _make_operator(task_id, given.get("python_callable") or task.python_callable, given)
        yield _resolve(task, settings)


def _without_log(parse: Callable[[], T]) -> T:
    """Return the result of a function that parses DAGs, without Airflow's log messages."""
    found: list[T] = []
    suppress_logs_and_warning(lambda args: found.append(parse()))(Namespace(verbose=False))
    return found[0]


def _make_operator(task_id: str, function: Callable[..., Any], options: Mapping[str, Any]) -> MLStepOperator:
    own = {name: options[name] for name in OPTION_TYPES if name in options}
    return MLStepOperator(task_id=task_id, python_callable=function, **own)


def _resolve(operator: MLStepOperator, settings: Settings) -> Step:
    runtime = resolve_runtime({}, operator.runtime, settings)
    return replace(operator.step.with_cache_defaults(settings.cache_defaults), runtime=runtime)


@contextmanager
def _parse_recorded_dag(recorded: StepRun) -> Iterator[Any]:
    """Parse the DAG from the version of its bundle, or from the commit, that a run had."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.models import DagModel

    dag_id, version = recorded.id.dag_id, recorded.code_version
    known = DagModel.get_current(dag_id)
    if not version or known is None:
        why = (
            "no version of its code is recorded: its file was in no git repository"
            if known
            else "Airflow does not know it"
        )
        raise SpinError(f"DAG {dag_id!r} cannot run as recorded: {why}.")
    manager = DagBundlesManager()  # type: ignore[no-untyped-call]
    bundle = manager.get_bundle(known.bundle_name)
    with TemporaryDirectory(prefix="airflow-zen-code-") as directory:
        if bundle.supports_versioning:
            versioned = manager.get_bundle(known.bundle_name, version)
            versioned.initialize()
            folder = versioned.path
        else:
            folder = _check_out(bundle.path, version, Path(directory))
        file = folder / str(known.relative_fileloc)
        with _import_anew(bundle.path, folder):
            bag = _without_log(partial(_parse_file, file, folder, known.bundle_name))
            if dag_id not in bag.dags:
                raise SpinError(
                    f"{file} of {version} does not define DAG {dag_id!r}: {bag.import_errors or 'no error'}."
                )
            yield bag.dags[dag_id]


def _parse_file(file: Path, folder: Path, bundle_name: str) -> Any:
    """Return the DagBag of one file of a bundle."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1, where a bundle has no team
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef,attr-defined,unused-ignore]

        return DagBag(file, bundle_path=folder)
    return DagBag(file, bundle_path=folder, bundle_name=bundle_name)


def _check_out(folder: Path, commit: str, into: Path) -> Path:
    """Write the files of a folder as of a commit of its git repository; return the new folder."""
    command = ["git", "-C", str(folder), "archive", "--format=tar", commit, "."]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", b"").decode(errors="replace").strip() or error
        raise SpinError(f"Commit {commit} cannot be read from the git repository of {folder}: {reason}.") from error
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(into, filter="data")
    return into


@contextmanager
def _import_anew(now: Path, folder: Path) -> Iterator[None]:
    """Import the modules of one folder instead of those of the folder `now`, which are restored after the block."""

    def loaded_from(place: Path) -> dict[str, Any]:
        paths = {name: getattr(module, "__file__", None) or "" for name, module in [*sys.modules.items()]}
        inside = {name for name, path in paths.items() if Path(path).is_relative_to(place)}
        return {name: sys.modules[name] for name in inside if "site-packages" not in paths[name]}

    kept = loaded_from(now)
    for name in kept:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in loaded_from(folder):
            del sys.modules[name]
        sys.modules.update(kept)
