"""Store outputs, make their previews, and describe what the models among them take."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from itertools import islice
from threading import Thread
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_zen.artifacts.folder import PreviewStore
from airflow_zen.errors import OutputError, SaveRefused
from airflow_zen.lineage.recorder import MAX_PREVIEWED_OUTPUTS, preview_files
from airflow_zen.steps.arguments import describe_as_json
from airflow_zen.steps.conformance import BatchError

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.recorder import OpenedRun
    from airflow_zen.runs.step_run import StepRun
    from airflow_zen.stack import SavedArtifact, Stack
    from airflow_zen.steps.step import Step


log = logging.getLogger("airflow_zen.steps")

PREVIEW_TIMEOUT = 10.0
"""Seconds after which a step no longer waits for its previews."""
_FILE_NAME = r"(?a)\w[\w.-]*"
# scikit-learn's API, which XGBoost's and LightGBM's estimators follow; CatBoost; XGBoost's booster.
_NAMES_OF_FEATURES = ("feature_names_in_", "feature_names_", "feature_names")
# The numbers of element types in https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_ONNX_TYPES = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}
_MAX_ROWS, _MAX_BYTES = 5, 100_000


def save_outputs(step: Step, values: Mapping[str, Any], stack: Stack, run: StepRun) -> dict[str, SavedArtifact]:
    """Store all outputs, concurrently; none is committed to the cache unless all are stored.

    An iterator runs in the calling thread: the step's own code runs in it, and expects its MLflow
    run and its interrupts there. An error that it raises is raised unchanged.
    """

    def save(name: str) -> SavedArtifact:
        by = step.output_artifact(name).materializer
        return stack.save(values[name], step.artifact_name(run.id, name), step.declared_class(name), by)

    def save_stream(name: str) -> SavedArtifact:
        try:
            return save(name)
        except BatchError as failure:
            error = failure.__cause__ or failure
            raise error from error.__cause__
        except OutputError as error:
            raise OutputError(f"Step {step.name!r}: {error}") from None

    streams = [name for name, value in values.items() if isinstance(value, Iterator)]
    with ThreadPoolExecutor(8) as pool:
        saving = {name: pool.submit(save, name) for name in values if name not in streams}
        saved = {name: save_stream(name) for name in streams}
        saved |= {name: future.result() for name, future in saving.items()}
    return {name: saved[name] for name in values}


def describe_model_inputs(
    step: Step, result: Mapping[str, Any], saved: Mapping[str, SavedArtifact], arguments: Sequence[Any], stack: Stack
) -> dict[str, Any]:
    """Return by output what the models among the outputs take."""
    models = [name for name, artifact in saved.items() if ".mlflow@" in artifact.ref.encoding]
    found = {
        name: describe_model_input(result[name], arguments, step.has_previews(name, stack.previews)) for name in models
    }
    return {name: described for name, described in found.items() if described}


def describe_model_input(model: Any, arguments: Iterable[Any], with_rows: bool) -> dict[str, Any]:
    """Return the `columns` (name and type) of the first table in which a model's features are, and up to 5 `rows`.

    Of a model without names of features, the `dtype` and `shape` of the array that it takes, with rows of the first
    argument of that shape; of one that takes several arrays `inputs`, each with its `name`. Empty where none of these is
    known. The rows are left out where they are not wanted, or are more than 100 kB as JSON.
    """
    arguments = [*arguments]
    names = _feature_names(model)
    for table in arguments if names else ():
        columns = _columns(table)
        if all(name in columns for name in names):
            described = {"columns": [{"name": name, "type": str(columns[name].dtype)} for name in names]}
            cells = (map(_cell, islice(columns[name], _MAX_ROWS)) for name in names)
            return described | _rows([*map(list, zip(*cells, strict=True))], with_rows)
    inputs = [*_model_inputs(model)]
    if len(inputs) > 1:
        described = {"inputs": [{"name": each.name, **each.tensor()} for each in inputs]}
        has_types = all(each.dtype for each in inputs)
        return described | _rows(_rows_by_input(inputs, arguments), with_rows) if has_types else {}
    for only in inputs:
        for array in filter(only.accepts, _arrays(arguments)):
            head = _as_numpy(array[:_MAX_ROWS])
            return replace(only, dtype=str(head.dtype)).tensor() | _rows(head.tolist(), with_rows)
        return only.tensor() if only.dtype else {}
    return {}


def _rows(rows: Any, wanted: bool) -> dict[str, Any]:
    with suppress(ValueError, TypeError):
        if rows and wanted and len(json.dumps(rows, allow_nan=False)) <= _MAX_BYTES:
            return {"rows": rows}
    return {}


class _ModelInput(msgspec.Struct, frozen=True):
    """An array that a model takes: its shape, None for what varies, and its type where the model has one."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = ""

    def accepts(self, array: Any) -> bool:
        """Whether an array has this shape."""
        sizes = zip(self.shape, array.shape, strict=False)
        return len(array.shape) == len(self.shape) and all(size in (None, other) for size, other in sizes)

    def tensor(self) -> dict[str, Any]:
        """Return shape and type as JSON; -1 is what varies."""
        return {"shape": [-1 if size is None else size for size in self.shape], "dtype": self.dtype}


def _model_inputs(model: Any) -> Iterator[_ModelInput]:
    """Yield the arrays that a model takes.

    scikit-learn's API knows the number of features; Keras and ONNX know their inputs.
    """
    features, graph = getattr(model, "n_features_in_", None), getattr(model, "graph", None)
    if isinstance(features, int):
        yield _ModelInput("", (None, features))
        return
    inputs = getattr(model, "inputs", None)
    for name, taken in _named_tensors(model, inputs) if isinstance(inputs, list) else ():
        yield _ModelInput(name, tuple(taken.shape), str(taken.dtype))
    weights = {weight.name for weight in getattr(graph, "initializer", ())}
    for taken in getattr(graph, "input", ()):
        held = taken.type.tensor_type
        if taken.name not in weights:
            shape = tuple(size.dim_value or None for size in held.shape.dim)
            yield _ModelInput(taken.name, shape, _ONNX_TYPES.get(held.elem_type, ""))


def _named_tensors(model: Any, inputs: list[Any]) -> Iterable[tuple[str, Any]]:
    """Return the inputs of a Keras model by name; of one that takes a dict by its keys."""
    structure = getattr(model, "input", None) if len(inputs) > 1 else None
    if isinstance(structure, dict):
        return structure.items()
    return [(each.name, each) for each in inputs if hasattr(each, "shape")]


def _rows_by_input(inputs: Sequence[_ModelInput], arguments: Iterable[Any]) -> dict[str, list[Any]]:
    """Return rows for each input: of the array with its name in a dict, else of the only one of its shape.

    Empty if an input has none, or shares it with another input.
    """
    arguments = [*arguments]
    named = {name: value for held in arguments if isinstance(held, dict) for name, value in held.items()}
    found = {}
    for each in inputs:
        candidates = [*_arrays([named[each.name]])] if each.name in named else [*_arrays(arguments)]
        fitting = {id(array): array for array in candidates if each.accepts(array)}
        if len(fitting) != 1:
            return {}
        found[each.name] = next(iter(fitting.values()))
    if len(set(map(id, found.values()))) < len(found):
        return {}
    return {name: _as_numpy(array[:_MAX_ROWS]).tolist() for name, array in found.items()}


def _arrays(arguments: Iterable[Any]) -> Iterator[Any]:
    """Yield the arrays and tensors among arguments, and those in their lists, tuples and dicts."""
    for value in arguments:
        held = [*value.values()] if isinstance(value, dict) else value
        parts = held if isinstance(held, list | tuple) else (held,)
        yield from (part for part in parts if type(part).__name__ == "ndarray" or hasattr(part, "detach"))


def _as_numpy(array: Any) -> Any:
    return array.detach().cpu().numpy() if hasattr(array, "detach") else array


def _feature_names(model: Any) -> Sequence[str]:
    for attribute in _NAMES_OF_FEATURES:
        try:
            names = getattr(model, attribute)
        except Exception:  # noqa: BLE001, S112 - properties of estimators raise anything when they are not fitted
            continue
        if names is not None and not callable(names) and len(names):
            return [*map(str, names)]
    return []


def _columns(table: Any) -> Mapping[str, Any]:
    """Return the columns of a table of pandas, Polars or Arrow by name; none of another value."""
    if hasattr(table, "column_names") and hasattr(table, "slice"):
        table = table.slice(0, _MAX_ROWS).to_pandas()
    names = getattr(table, "columns", ()) if hasattr(table, "head") and hasattr(table, "dtypes") else ()
    head = table.head(_MAX_ROWS) if len(names) else {}
    return {str(name): head[name] for name in names}


def _cell(value: Any) -> Any:
    """Return a cell as JSON; what is missing is None."""
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else describe_as_json(value)


class BackgroundPreviews:
    """Make previews in a thread of their own, while the lineage run is being closed.

    They are made of `values` as the function returned them, and stored beside the artifacts. Content that is stored
    already is not previewed again: what is not among the `new` outputs, which became new versions, is looked up, and of
    an output that was not `saved` now the stored ones are taken.
    """

    def __init__(
        self,
        step: Step,
        stack: Stack,
        outputs: Mapping[str, ArtifactRef],
        values: Mapping[str, Any] = MappingProxyType({}),
        saved: Mapping[str, SavedArtifact] = MappingProxyType({}),
        new: Collection[str] = (),
    ) -> None:
        self._step, self._stack = step, stack
        self._store = PreviewStore(stack.store.transport)
        self._outputs, self._values, self._saved, self._new = outputs, values, saved, new
        self._files: Future[dict[str, bytes]] = Future()
        self._deadline = time.monotonic() + PREVIEW_TIMEOUT
        wanted = [name for name in outputs if self._is_previewed(name)][:MAX_PREVIEWED_OUTPUTS]
        if wanted:
            # Not a thread of a pool: the interpreter would wait for it at its end.
            Thread(target=self._render_all, args=(wanted,), name="airflow-zen-previews", daemon=True).start()
        else:
            self._files.set_result({})

    def attach(self, run: StepRun, opened: OpenedRun) -> None:
        """Attach them to the closed lineage run; mark its record as undelivered if that fails."""
        try:
            files = self._files.result(max(0.0, self._deadline - time.monotonic()))
            if not self._stack.lineage.attach_files(run, opened, files):
                self._stack.records.put(run, delivered=False)
        except FutureTimeout:
            log.warning(
                "The previews of %s took too long, and MLflow does not show them. Artifact(previews=False) on an output, "
                "@ml_step(previews=False), or [zen] previews = False, makes none.",
                run.id,
            )
        except Exception as error:  # noqa: BLE001 - a step keeps its outcome, whatever the store says
            log.warning("The previews of %s are not noted as owed to MLflow: %s", run.id, error)

    def _is_previewed(self, name: str) -> bool:
        if not self._step.has_previews(name, self._stack.previews):
            return False
        by, saved = self._step.output_artifact(name).materializer, self._saved.get(name)
        if saved is None:
            # A value that is one JSON object has no preview.
            return not self._outputs[name].inline
        return self._stack.can_preview(self._values[name], saved, by)

    def _render_all(self, wanted: list[str]) -> None:
        files = {}
        for name in wanted:
            try:
                by, digest = self._step.output_artifact(name).materializer, self._outputs[name].digest
                files[name] = {} if name in self._new else self._store.get(digest)
                if not files[name] and name in self._saved:
                    made = self._stack.preview(self._values[name], self._saved[name], by)
                    files[name] = dict(_check_files(made))
                    self._store.put(digest, files[name])
            except BaseException as error:  # noqa: BLE001 - a panic of polars is not even an Exception
                log.warning("Output %r of step %r has no preview: %s", name, self._step.name, error)
        self._files.set_result(preview_files(files))


def _check_files(files: Mapping[str, bytes | str]) -> Iterator[tuple[str, bytes]]:
    from airflow_zen.materializers.previews.html import MAX_PREVIEW_BYTES

    for name, content in files.items():
        written = content.encode(errors="replace") if isinstance(content, str) else content
        if not re.fullmatch(_FILE_NAME, name):
            raise SaveRefused(f"a preview cannot be named {name!r}. Use letters, digits, '_', '-' and '.'.")
        if len(written) <= MAX_PREVIEW_BYTES:
            yield name, written
        else:
            log.warning("%r is left out: its %d bytes are more than %d.", name, len(written), MAX_PREVIEW_BYTES)
