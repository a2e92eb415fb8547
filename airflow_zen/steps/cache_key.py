"""The cache key of one execution: everything that decides its result, and nothing else."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.caching.code import fingerprint_code
from airflow_zen.caching.external import external_fingerprints
from airflow_zen.errors import FingerprintError, MaterializerNotFound, SaveRefused, ZenError
from airflow_zen.fingerprint import combine_fingerprints, fingerprint
from airflow_zen.materializers.annotations import View, batch_type, is_stream_annotation
from airflow_zen.runs.step_run import mask_secrets
from airflow_zen.steps.annotations import runtime_class
from airflow_zen.steps.arguments import Arguments, replace_refs_by_digest
from airflow_zen.type_names import canonical_type_text, stable_class_name

if TYPE_CHECKING:
    from airflow_zen.stack import Stack
    from airflow_zen.steps.step import Step

# What Airflow hands over under such names is empty until it is asked; but for one that holds its events.
_LAZY_CONTEXT_MODULE, _ASSET_EVENTS_CLASS = "airflow.sdk.execution_time.context", "TriggeringAssetEventsAccessor"


class CacheKey(msgspec.Struct, frozen=True):
    """A key with the labelled fingerprints that were folded into it, and what the code made one wary of.

    `sources` are the texts behind fingerprints of code, normalised, and of parameters, by the same labels.
    """

    key: str
    ingredients: Mapping[str, str]
    sources: Mapping[str, str] = msgspec.field(default_factory=dict)
    warnings: tuple[str, ...] = msgspec.field(default=())


def cache_key(step: Step, arguments: Arguments, stack: Stack, dag_id: str = "") -> CacheKey:
    """Fold code, arguments, input digests, outputs, library versions, and what the step's `Cache` adds, into one key.

    `dag_id` enters the key of a step whose results are its DAG's own. Raises `FingerprintError`, with the
    reason, when any ingredient cannot be fingerprinted soundly.
    """

    def fallback(value: object) -> str | None:
        return _artifact_digest(value, stack)

    included = arguments.excluding(step.cache.ignore)
    ingredients = (
        _custom_key(step, arguments, fallback) if step.cache.key else _argument_ingredients(step, included, fallback)
    )
    values = [] if step.cache.key else included.bound.arguments.values()
    plain = [value for value in values if not isinstance(value, ArtifactRef)]
    code = fingerprint_code(step.function, fallback, arguments=[*plain, *step.materializers])
    ingredients.update(_code_ingredients(step, code.ingredients))
    ingredients.update(_input_ingredients(step, included, stack))
    ingredients.update(_output_ingredients(step, stack))
    ingredients.update(external_fingerprints(step.cache, step.function, stack.environment))
    if step.version not in ("", None):
        ingredients["version"] = fingerprint(step.version)
    if step.cache.scope == "dag":
        ingredients["scope"] = fingerprint(dag_id)
    return CacheKey(
        combine_fingerprints(ingredients),
        ingredients,
        {**code.sources, **_parameter_texts(included, ingredients)},
        code.warnings,
    )


def _parameter_texts(arguments: Arguments, ingredients: Mapping[str, str]) -> dict[str, str]:
    """Write parameters as text, so that people can be told what was 8 and is 10."""
    texts = {f"parameter {name}": value for name, value in mask_secrets(arguments.parameters()).items()}
    return {label: json.dumps(value, ensure_ascii=False) for label, value in texts.items() if label in ingredients}


def _custom_key(step: Step, arguments: Arguments, fallback: Any) -> dict[str, str]:
    """Let the user's function say what of the arguments matters."""
    try:
        value = step.cache.key(**arguments.by_name())  # type: ignore[misc]
        return {"key": fingerprint(replace_refs_by_digest(value), fallback)}
    except Exception as error:
        raise FingerprintError(f"Cache(key=…) of step {step.name!r}: {type(error).__name__}: {error}") from error


def _code_ingredients(step: Step, ingredients: Mapping[str, str]) -> dict[str, str]:
    """Leave the versions of libraries out where the step's `Cache` says so."""
    if step.cache.packages is not False:
        return dict(ingredients)
    return {label: value for label, value in ingredients.items() if not label.startswith("distribution ")}


def _argument_ingredients(step: Step, arguments: Arguments, fallback: Any) -> dict[str, str]:
    found = {}
    for name, value in arguments.bound.arguments.items():
        if isinstance(value, ArtifactRef):
            continue
        if (
            name in arguments.context
            and type(value).__module__ == _LAZY_CONTEXT_MODULE
            and type(value).__name__ != _ASSET_EVENTS_CLASS
        ):
            raise FingerprintError(f"argument {name!r} (given by Airflow's context) asks Airflow while the step runs")
        try:
            found[f"parameter {name}"] = fingerprint(replace_refs_by_digest(value), fallback)
        except FingerprintError as error:
            hint = " (given by Airflow's context)" if name in arguments.context else ""
            raise FingerprintError(f"argument {name!r}{hint} of step {step.name!r}: {error}") from error
    return found


def _input_ingredients(step: Step, arguments: Arguments, stack: Stack) -> dict[str, str]:
    """Fingerprint inputs by digest, and the view of them that the parameter's declared type asks for."""
    wanted = arguments.requested_types(step.parameter_types)
    found = {}
    for path, ref in arguments.inputs.items():
        if not step.cache.key:
            found[f"input {path}"] = ref.digest
        view = View.of(wanted[path])
        if stack.materializers.is_partial_view(ref.encoding, view):
            found[f"view {path}"] = str(view)
        elif view.cls is not None and _is_view(ref, view.cls, stack):
            found[f"view {path}"] = stable_class_name(view.cls)
    return found


def _is_view(ref: ArtifactRef, wanted: type, stack: Stack) -> bool:
    """Tell whether `wanted` shows the artifact as another type than the one that was saved."""
    if wanted is ArtifactRef or issubclass(wanted, PurePath):
        return True
    return stack.materializers.is_view(ref.encoding, wanted)


def _output_ingredients(step: Step, stack: Stack) -> dict[str, str]:
    """Name each output with its declared type, which it is fitted to, and its encoding, so that a new one is written."""
    found = {}
    for name in step.outputs.names:
        written = step.output_types.get(name)
        declared = runtime_class(batch_type(written) if is_stream_annotation(written) else written)
        try:
            named = step.output_materializer(name)
            known = named or (stack.materializers.for_type(declared) if declared else None)
            encoding = known.encoding if known else ""
        except MaterializerNotFound:
            encoding = ""
        each = "each" if step.outputs.each else ""
        found[f"output {name}"] = " ".join(
            filter(None, [canonical_type_text(step.output_types.get(name)), encoding, each])
        )
    return found


def _is_lazy_plan(value: object, stack: Stack) -> bool:
    try:
        return not isinstance(value, stack.materializers.for_type(type(value)).stored_type(value))
    except MaterializerNotFound:
        return False


def _artifact_digest(value: object, stack: Stack) -> str | None:
    """Give the digest that an unusual value (a DataFrame constant, say) would have as an artifact.

    None for a plan or a stream, which is not what it will give, and may be gone through only once.
    """
    if isinstance(value, Iterator) or _is_lazy_plan(value, stack):
        return None
    with tempfile.TemporaryDirectory(prefix="fingerprint-") as directory:
        try:
            saved = stack.materializers.save(value, Path(directory))
        except (MaterializerNotFound, SaveRefused, ZenError):
            return None
        files = sorted(path for path in Path(directory).rglob("*") if path.is_file())
        parts = {path.relative_to(directory).as_posix(): fingerprint(path.read_bytes()) for path in files}
        return combine_fingerprints({"encoding": saved.encoding, "type": saved.type, **parts})
