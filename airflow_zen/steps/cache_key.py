"""The cache key of one execution, everything that decides its result; and whether an earlier result has that key."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_zen.artifacts.leases import NO_LEASE, Lease, TaskAttempt
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.caching.code import CodeFingerprint, KnownCode, fingerprint_code
from airflow_zen.caching.step_cache import CacheEntry, KeyRecord, explain_miss
from airflow_zen.errors import FingerprintError, ZenError
from airflow_zen.fingerprint import combine_fingerprints, fingerprint
from airflow_zen.materializers.annotations import View, batch_type, is_stream_annotation
from airflow_zen.runs.step_run import CacheState, StepRun
from airflow_zen.steps.arguments import Arguments, describe_as_json, replace_refs_by_digest
from airflow_zen.steps.outputs import checked_output, runtime_class
from airflow_zen.steps.runtime import InProcess
from airflow_zen.type_names import StandIn, canonical_type_text, resolve_definition, walk_types

if TYPE_CHECKING:
    from airflow_zen.stack import Stack
    from airflow_zen.steps.step import Cache, Step

log = logging.getLogger("airflow_zen.steps")

_PICKLE = "cloudpickle@1"
_ENVIRONMENT = ("python", "distribution ", "module ")
# Airflow's lazy context values ask Airflow when they are read; only this one holds its values.
_LAZY_CONTEXT_PACKAGE, _ASSET_EVENTS_CLASS = "airflow.sdk.execution_time.", "TriggeringAssetEventsAccessor"


class CacheKey(msgspec.Struct, frozen=True, dict=True):
    """A key with its labeled ingredients, and warnings about the code; `describe` returns its `sources`."""

    key: str
    ingredients: Mapping[str, str]
    warnings: tuple[str, ...]
    describe: Callable[[], Mapping[str, str]]

    @cached_property
    def sources(self) -> Mapping[str, str]:
        """The texts behind the fingerprints of code, normalized, and of parameters, by the same labels, without secrets."""
        return {label: text for label, text in self.describe().items() if label in self.ingredients}


class StepPlan(msgspec.Struct, frozen=True):
    """Whether a step reuses a result or computes one.

    `cache` is HIT with an `entry`, MISS with a `key` under which the new result is stored, or OFF. `reason` says why
    there is no entry. `history` are the task's latest keys, None where they are not known. `newest` are the newest
    versions of the outputs' names where they were looked up, as `VersionIndex.lookups` returns them.
    """

    cache: CacheState
    reason: str = ""
    key: CacheKey | None = None
    entry: CacheEntry | None = None
    lease: Lease = NO_LEASE
    history: list[KeyRecord] | None = None
    newest: Mapping[str, str | None] | None = msgspec.field(default_factory=dict)


def plan_step(
    step: Step,
    arguments: Arguments,
    stack: Stack,
    run: StepRun,
    *,
    acquire_lease: bool = False,
    suspended_holder: str = "",
    history: list[KeyRecord] | None = None,
    known_code: KnownCode | None = None,
) -> StepPlan:
    """Decide whether a step reuses an earlier result; a cache that fails costs the reuse, not the step.

    `run.cache` says whether it may. With `acquire_lease` the step is about to run: a miss waits for an equal step that
    computes the result, or takes the lease to compute it; `suspended_holder` had it for this run. `history` has the
    task's latest keys, which explain a miss; None reads them. `known_code` keeps the code for plans of other instances.
    """
    if run.cache is CacheState.OFF:
        return StepPlan(CacheState.OFF, run.why)
    if not (step.outputs.names or step.cache_always):
        return StepPlan(CacheState.OFF, "it returns nothing, so there is nothing to reuse")
    try:
        key = cache_key(step, arguments, stack, run.id.dag_id, known_code)
        plan = StepPlan(CacheState.MISS, run.why, key, history=history)
        if run.cache is not CacheState.RECOMPUTE:
            plan = _find_result(plan, step, stack, run if acquire_lease else None)
        if plan.entry is None and acquire_lease:
            plan = _prepare_computation(plan, step, arguments, stack, run, suspended_holder)
    except FingerprintError as error:
        return StepPlan(CacheState.OFF, str(error))
    except Exception as error:
        log.warning("The cache could not be read: %s", error, exc_info=not isinstance(error, OSError))
        return StepPlan(CacheState.OFF, f"the cache could not be read: {error}")
    if plan.entry or plan.reason:
        return plan
    known, problem = _read_history(stack, run) if plan.history is None else (plan.history, "")
    return replace(plan, reason=problem or explain_miss(key.ingredients, key.sources, known))


def _find_result(plan: StepPlan, step: Step, stack: Stack, run: StepRun | None) -> StepPlan:
    """Return a plan that reuses the entry of the key, or one that says why a known entry cannot be used.

    With a `run` the newest versions of the outputs' names are looked up too, beside the artifacts.
    """
    entry = stack.cache.get(plan.key.key) if plan.key else None
    if entry is None:
        return plan
    age, ttl = stack.clock() - entry.created, step.cache.ttl_seconds
    if age > ttl:
        kept = f"{_duration_text(age)} old, and is kept for {_duration_text(ttl)}"
        return replace(plan, reason=f"the result of {entry.origin} is {kept}")
    newest, lookups = stack.names.lookups(step.version_names(run.id, entry.outputs) if run else {})
    missing, *_ = stack.store.transport.together(lambda: stack.store.missing(entry.outputs.values()), *lookups)
    reason = _misfit(entry, step, stack) if not missing else f"its artifact {missing[0].digest[:12]} is gone or damaged"
    if reason:
        return replace(plan, reason=f"the result of {entry.origin} is known, but {reason}")
    return replace(plan, cache=CacheState.HIT, entry=entry, newest=newest)


def _misfit(entry: CacheEntry, step: Step, stack: Stack) -> str:
    """Return why the outputs of an entry are not those of the step; empty where they are."""
    outputs = {output for output in entry.outputs if not checked_output(output)}
    if entry.outputs and not step.outputs.each and outputs != set(step.outputs.names):
        return f"its entry has the outputs {sorted(entry.outputs)}"
    encodings = {ref.encoding for ref in entry.outputs.values()}
    unread = [encoding for encoding in encodings if not stack.materializers.can_read(encoding)]
    return f"it is stored as {unread[0]!r}, which is not read here" if unread else ""


def _prepare_computation(
    plan: StepPlan, step: Step, arguments: Arguments, stack: Stack, run: StepRun, suspended_holder: str
) -> StepPlan:
    """Return the plan with a lease, or one that reuses what the holder of the lease has computed.

    Meanwhile the history is read, whether a prune is running, and the small inputs of a function in this process.
    """
    wanted = arguments.requested_types(step.light_parameter_types)
    loaded = [ref for path, ref in arguments.inputs.items() if View.of(wanted[path]).cls is not ArtifactRef]
    inputs = stack.absent(loaded) if isinstance(step.runtime, InProcess) else []

    def find_result() -> StepPlan | None:
        found = _find_result(plan, step, stack, run)
        return found if found.entry else None

    def acquire() -> tuple[StepPlan | None, Lease]:
        if plan.key is None or run.cache is CacheState.RECOMPUTE:
            return None, NO_LEASE
        attempt = TaskAttempt(run.id.task_instance, run.id.try_number, suspended_holder)
        return stack.cache.acquire_or_wait(plan.key.key, find_result, attempt)

    (found, lease), (history, problem), *_ = stack.store.transport.together(
        acquire,
        partial(_read_history, stack, run),
        stack.store.prune_notices.look,
        partial(stack.store.prefetch, inputs),
    )
    return found or replace(plan, lease=lease, history=history, reason=plan.reason or problem)


def _duration_text(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _read_history(stack: Stack, run: StepRun) -> tuple[list[KeyRecord], str]:
    """Return the task's latest keys, and why they cannot be read; an explanation is not worth a failed step."""
    try:
        return stack.cache.history.recent_records(run.id.dag_id, run.id.task_id), ""
    except Exception as error:  # noqa: BLE001
        return [], f"what was computed before cannot be read: {error}"


def cache_key(
    step: Step, arguments: Arguments, stack: Stack, dag_id: str = "", known_code: KnownCode | None = None
) -> CacheKey:
    """Combine code, arguments, input digests, outputs, library versions, and what the step's `Cache` adds, in one key.

    `dag_id` is in the key of a step whose `Cache` has the scope `dag`. Raises `FingerprintError`, with the reason,
    when an ingredient cannot be fingerprinted soundly.
    """
    fallback = partial(_artifact_digest, stack=stack)
    included = arguments.excluding(step.cache.ignore)
    ingredients = _custom_key(step, arguments, fallback) if step.cache.key else {}
    plain = {} if step.cache.key else _plain_arguments(included.excluding(included.keyword_context()))
    plain |= {f"checks of {name}": found for name in step.outputs.names if (found := step.checks(name))}
    reached = [*step.materializers, *_code_of_inputs(included, step)]
    code = fingerprint_code(step.function, fallback, plain, reached, known_code)
    elsewhere = step.runtime.ingredients(step, stack)
    for label, value in _code_ingredients(code, elsewhere).items():
        if step.cache.packages is not False or not label.startswith("distribution "):
            ingredients[label] = value
    context = _context_values(step, included, code)
    ingredients |= {f"context {name}": _value_fingerprint(name, value) for name, value in context.items()}
    ingredients |= _input_ingredients(step, included, stack) | _output_ingredients(step, stack) | step.runtime.numerics
    ingredients |= external_fingerprints(step.cache, step.function, stack.environment)
    if step.version not in ("", None):
        ingredients["version"] = fingerprint(step.version)
    if step.cache.scope == "dag":
        ingredients["scope"] = fingerprint(dag_id)
    # The function may change its arguments before they are described.
    given = {"parameter": included.parameters(), "context": {name: describe_as_json(context[name]) for name in context}}
    key = combine_fingerprints(ingredients)
    # Not a partial, whose repr has its arguments.
    return CacheKey(key, ingredients, code.warnings, lambda: _describe_sources(given, code, stack))


def _describe_sources(given: Mapping[str, Any], code: CodeFingerprint, stack: Stack) -> dict[str, str]:
    """Return parameters as text, so that an explanation can say what was 8 and is 10, and the texts of code."""
    shown = {kind: stack.redactor.mapping(values).items() for kind, values in given.items()}
    texts = {f"{kind} {name}": json.dumps(text, ensure_ascii=False) for kind in shown for name, text in shown[kind]}
    return texts | {label: stack.redactor.text(source) for label, source in code.sources.items()}


def _code_ingredients(code: CodeFingerprint, elsewhere: Mapping[str, str] | None) -> dict[str, str]:
    """Return the ingredients of the code; those of the environment are not this process's where it runs elsewhere."""
    if elsewhere is None:
        return dict(code.ingredients)
    own = code.sources.keys() | {label for label in code.ingredients if not label.startswith(_ENVIRONMENT)}
    return {label: value for label, value in code.ingredients.items() if label in own} | dict(elsewhere)


def _custom_key(step: Step, arguments: Arguments, fallback: Any) -> dict[str, str]:
    """Return the ingredient that replaces all arguments, from the user's function."""
    try:
        value = step.cache.key(**arguments.by_name())  # type: ignore[misc]
        return {"key": fingerprint(replace_refs_by_digest(value), fallback)}
    except Exception as error:
        raise FingerprintError(f"Cache(key=…) of step {step.name!r}: {type(error).__name__}: {error}") from error


def _plain_arguments(arguments: Arguments) -> dict[str, Any]:
    """Return the arguments that are not artifacts, with digests instead of artifacts inside them."""
    found = {}
    for name, value in arguments.bound.arguments.items():
        if isinstance(value, ArtifactRef):
            continue
        cls = type(value)
        is_lazy = cls.__module__.startswith(_LAZY_CONTEXT_PACKAGE) and cls.__name__ != _ASSET_EVENTS_CLASS
        if name in arguments.context and is_lazy:
            raise FingerprintError(f"argument {name!r} (given by Airflow's context) asks Airflow while the step runs")
        found[name] = replace_refs_by_digest(value)
    return found


def _context_values(step: Step, arguments: Arguments, code: CodeFingerprint) -> dict[str, Any]:
    """Return what the step's code reads of the task run's context, by name; raise `FingerprintError` for what is not known."""
    found = [(arguments.task_context, path) for path in code.context]
    if (options := arguments.keyword_context()) and not step.cache.key:
        from airflow_zen.caching.code.task_context import keyword_reads

        found += [(options, path) for path in keyword_reads(step.function) if path[0].name in options]
    if not found:
        return {}
    from airflow_zen.caching.code.task_context import context_value

    return dict(context_value(*each) for each in found)


def _value_fingerprint(name: str, value: Any) -> str:
    try:
        return fingerprint(value)
    except FingerprintError as error:
        raise FingerprintError(f"{name!r} of the task run's context: {error}") from error


def _code_of_inputs(arguments: Arguments, step: Step) -> list[Any]:
    """Return the classes that parameters declare, and those of the project of which the inputs are built, and functions.

    A step calls methods of such a class. Classes of libraries are stand-ins where the file imports them late.
    """
    declared = (within for written in step.light_parameter_types.values() for within in walk_types(written))
    found: list[Any] = [cls for cls in declared if isinstance(cls, type)]
    wanted = arguments.requested_types(step.light_parameter_types)
    for path, ref in arguments.inputs.items():
        for name in ref.code:
            try:
                found.append(resolve_definition(name, wanted[path]))
            except ZenError as error:
                raise FingerprintError(
                    f"input {path!r} is built of {name}, whose code is not found: {error}"
                ) from error
    return found


def _input_ingredients(step: Step, arguments: Arguments, stack: Stack) -> dict[str, str]:
    """Return the digests of inputs, and the views of them that the declared types of parameters ask for."""
    wanted = arguments.requested_types(step.light_parameter_types)
    found = {}
    for path, ref in arguments.inputs.items():
        if not step.cache.key:
            found[f"input {path}"] = ref.digest
        view = View.of(wanted[path])
        if view.cls and str(view) == ref.type:
            continue
        if stack.materializers.is_partial_view(ref.encoding, view):
            found[f"view {path}"] = str(view)
        elif view.cls is not None:
            is_files = view.cls is ArtifactRef or issubclass(view.cls, PurePath)
            if is_files or isinstance(view.cls, StandIn) or stack.materializers.is_view(ref.encoding, view.cls):
                found[f"view {path}"] = str(view)
    return found


def _output_ingredients(step: Step, stack: Stack) -> dict[str, str]:
    """Return the declared type of each output, which values are converted to, and the encoding of a materializer of its own.

    The encodings of built-in materializers are left out: what a hit returns is read in whichever of them it was stored.
    """
    found = {}
    for name in step.outputs.names:
        written, named = step.light_output_types.get(name), step.output_artifact(name).materializer
        encoding = named.encoding if named else stack.materializers.custom_encoding(_saved_class(written))
        if encoding is None:
            # Only the class itself tells whether it has a base that a materializer of the project saves.
            encoding = stack.materializers.custom_encoding(_saved_class(step.output_types.get(name)))
        parts = canonical_type_text(written), encoding, "each" if step.outputs.each else ""
        found[f"output {name}"] = " ".join(filter(None, parts))
    return found


def _saved_class(written: Any) -> type | None:
    return runtime_class(batch_type(written) if is_stream_annotation(written) else written)


def _artifact_digest(value: object, stack: Stack) -> str | None:
    """Return the digest that an unusual value, such as a DataFrame constant, would have as an artifact.

    None for a lazy table or a stream, whose content is not known before it is read, and is perhaps read only once.
    """
    if isinstance(value, Iterator):
        return None
    with tempfile.TemporaryDirectory(prefix="fingerprint-") as directory:
        try:
            if not isinstance(value, stack.materializers.for_type(type(value)).stored_type(value)):
                return None
            saved = stack.materializers.save(value, Path(directory))
        except ZenError:
            return None
        if saved.encoding == _PICKLE or "code" in saved.summary:
            # Its bytes only name code of the project, which is reached where the value is taken apart.
            return None
        files = sorted(path for path in Path(directory).rglob("*") if path.is_file())
        parts = {path.relative_to(directory).as_posix(): fingerprint(path.read_bytes()) for path in files}
        return combine_fingerprints({"encoding": saved.encoding, "type": saved.type, **parts})


def external_fingerprints(
    policy: Cache, function: Callable[..., Any], environment: Mapping[str, str]
) -> dict[str, str]:
    """Fingerprint the files and environment variables that a `Cache` names; labeled `file …` and `env …`.

    Raises `FingerprintError` for a pattern that matches no file.
    """
    found = {f"env {name}": fingerprint(environment.get(name)) for name in policy.env}
    for pattern in policy.files:
        found.update(_file_digests(_source_folder(function), pattern))
    return found


def _file_digests(folder: Path, pattern: str) -> Iterator[tuple[str, str]]:
    """Yield label and digest of each file; labels are relative, so that the path of the checkout does not matter."""
    parts = PurePosixPath(pattern).parts
    above = [part for part in parts if part == ".."]
    start, rest = folder.joinpath(*above), "/".join(parts[len(above) :])
    try:
        # Before Python 3.13 a final `**` matches only folders.
        found = sorted(start.glob(f"{rest}/*" if rest.endswith("**") else rest))
    except (ValueError, IndexError, NotImplementedError) as error:
        what = f"{pattern!r} is not a pattern of files, such as 'sql/*.sql'"
        raise FingerprintError(f"Cache(files=…): {what}: {error}") from error
    paths = [path for path in found if path.is_file() and "__pycache__" not in path.parts]
    if not paths:
        instead = f"; for all in the folder write {f'{pattern}/**/*'!r}" if found else ""
        raise FingerprintError(f"Cache(files=…): {pattern!r} matches no file in {folder}{instead}")
    for path in paths:
        label = PurePosixPath(*above, path.relative_to(start).as_posix())
        with path.open("rb") as file:
            yield f"file {label}", hashlib.file_digest(file, "sha256").hexdigest()


def _source_folder(function: Callable[..., Any]) -> Path:
    file = inspect.getsourcefile(inspect.unwrap(function))
    if not file or not Path(file).is_file():
        raise FingerprintError(
            f"Cache(files=…) is relative to the file of {function.__qualname__}(), which is defined in no file"
        )
    return Path(file).resolve().parent
