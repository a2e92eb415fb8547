"""The cache key of one execution: everything that decides its result, and nothing else."""

from __future__ import annotations

import hashlib
import inspect
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.caching.code import fingerprint_code
from airflow_zen.errors import FingerprintError, MaterializerNotFound, SaveRefused, ZenError
from airflow_zen.fingerprint import combine_fingerprints, fingerprint
from airflow_zen.materializers.annotations import View, batch_type, is_stream_annotation
from airflow_zen.runs.step_run import mask_secrets
from airflow_zen.steps.annotations import runtime_class
from airflow_zen.steps.arguments import Arguments, replace_refs_by_digest
from airflow_zen.type_names import canonical_type_text, stable_class_name

if TYPE_CHECKING:
    from airflow_zen.caching.policy import Cache
    from airflow_zen.stack import Stack
    from airflow_zen.steps.step import Step

# Airflow's lazy context values ask Airflow when they are read; only this one holds its values.
_LAZY_CONTEXT_MODULE, _ASSET_EVENTS_CLASS = "airflow.sdk.execution_time.context", "TriggeringAssetEventsAccessor"


class CacheKey(msgspec.Struct, frozen=True):
    """A key with its labeled ingredients, and warnings about the code.

    `sources` are the texts behind the fingerprints of code, normalized, and of parameters, by the same labels.
    """

    key: str
    ingredients: Mapping[str, str]
    sources: Mapping[str, str] = msgspec.field(default_factory=dict)
    warnings: tuple[str, ...] = msgspec.field(default=())


def cache_key(step: Step, arguments: Arguments, stack: Stack, dag_id: str = "") -> CacheKey:
    """Combine code, arguments, input digests, outputs, library versions, and what the step's `Cache` adds, in one key.

    `dag_id` is in the key of a step whose `Cache` has the scope `dag`. Raises `FingerprintError`, with the reason,
    when an ingredient cannot be fingerprinted soundly.
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
    without_versions = step.cache.packages is False
    for label, value in code.ingredients.items():
        if not (without_versions and label.startswith("distribution ")):
            ingredients[label] = value
    ingredients.update(_input_ingredients(step, included, stack))
    ingredients.update(_output_ingredients(step, stack))
    ingredients.update(external_fingerprints(step.cache, step.function, stack.environment))
    if step.version not in ("", None):
        ingredients["version"] = fingerprint(step.version)
    if step.cache.scope == "dag":
        ingredients["scope"] = fingerprint(dag_id)
    sources = {**code.sources, **_parameter_texts(included, ingredients)}
    return CacheKey(combine_fingerprints(ingredients), ingredients, sources, code.warnings)


def _parameter_texts(arguments: Arguments, ingredients: Mapping[str, str]) -> dict[str, str]:
    """Return parameters as text, so that an explanation can say what was 8 and is 10."""
    texts = {f"parameter {name}": value for name, value in mask_secrets(arguments.parameters()).items()}
    return {label: json.dumps(value, ensure_ascii=False) for label, value in texts.items() if label in ingredients}


def _custom_key(step: Step, arguments: Arguments, fallback: Any) -> dict[str, str]:
    """Return the ingredient that replaces all arguments, from the user's function."""
    try:
        value = step.cache.key(**arguments.by_name())  # type: ignore[misc]
        return {"key": fingerprint(replace_refs_by_digest(value), fallback)}
    except Exception as error:
        raise FingerprintError(f"Cache(key=…) of step {step.name!r}: {type(error).__name__}: {error}") from error


def _argument_ingredients(step: Step, arguments: Arguments, fallback: Any) -> dict[str, str]:
    found = {}
    for name, value in arguments.bound.arguments.items():
        if isinstance(value, ArtifactRef):
            continue
        hint, cls = " (given by Airflow's context)" if name in arguments.context else "", type(value)
        if hint and cls.__module__ == _LAZY_CONTEXT_MODULE and cls.__name__ != _ASSET_EVENTS_CLASS:
            raise FingerprintError(f"argument {name!r}{hint} asks Airflow while the step runs")
        try:
            found[f"parameter {name}"] = fingerprint(replace_refs_by_digest(value), fallback)
        except FingerprintError as error:
            raise FingerprintError(f"argument {name!r}{hint} of step {step.name!r}: {error}") from error
    return found


def _input_ingredients(step: Step, arguments: Arguments, stack: Stack) -> dict[str, str]:
    """Return the digests of inputs, and the views of them that the declared types of parameters ask for."""
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
    """Whether `wanted` is another type than the saved one."""
    is_files = wanted is ArtifactRef or issubclass(wanted, PurePath)
    return is_files or stack.materializers.is_view(ref.encoding, wanted)


def _output_ingredients(step: Step, stack: Stack) -> dict[str, str]:
    """Return the declared type of each output, which values are converted to, and its encoding."""
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
        parts = canonical_type_text(written), encoding, "each" if step.outputs.each else ""
        found[f"output {name}"] = " ".join(filter(None, parts))
    return found


def _artifact_digest(value: object, stack: Stack) -> str | None:
    """Return the digest that an unusual value, such as a DataFrame constant, would have as an artifact.

    None for a lazy table or a stream, whose content is not known before it is read, and is perhaps read only once.
    """
    if isinstance(value, Iterator) or _is_lazy_table(value, stack):
        return None
    with tempfile.TemporaryDirectory(prefix="fingerprint-") as directory:
        try:
            saved = stack.materializers.save(value, Path(directory))
        except (MaterializerNotFound, SaveRefused, ZenError):
            return None
        files = sorted(path for path in Path(directory).rglob("*") if path.is_file())
        parts = {path.relative_to(directory).as_posix(): fingerprint(path.read_bytes()) for path in files}
        return combine_fingerprints({"encoding": saved.encoding, "type": saved.type, **parts})


def _is_lazy_table(value: object, stack: Stack) -> bool:
    try:
        return not isinstance(value, stack.materializers.for_type(type(value)).stored_type(value))
    except MaterializerNotFound:
        return False


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
        raise FingerprintError(
            f"Cache(files=…): {pattern!r} is not a pattern of files, such as 'sql/*.sql': {error}"
        ) from error
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
