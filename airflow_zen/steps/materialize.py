"""Store outputs with their versions and previews, and load artifacts as declared types."""

from __future__ import annotations

import atexit
import logging
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.store import PreviewStore
from airflow_zen.errors import InputError, OutputError, SaveRefused
from airflow_zen.lineage.recorder import MAX_PREVIEWED_OUTPUTS, preview_files
from airflow_zen.materializers.annotations import contains_path, is_stream_annotation, strip_annotation
from airflow_zen.materializers.previews.html import MAX_PREVIEW_BYTES
from airflow_zen.steps.conformance import BatchError, ValuePath, coerce

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.recorder import OpenedRun
    from airflow_zen.runs.step_run import StepRun
    from airflow_zen.stack import SavedArtifact, Stack
    from airflow_zen.steps.step import Step


log = logging.getLogger("airflow_zen.steps")

PREVIEW_TIMEOUT = 10.0
"""Seconds after which a step no longer waits for its previews."""
_FILE_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


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


def process_directory(stack: Stack) -> Path:
    """Return a directory that lives as long as the process: a loaded value may map its files into memory."""
    directory = stack.store.temporary_directory()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def load_for_process(stack: Stack, ref: ArtifactRef, wanted: Any) -> Any:
    """Load a value as `load_as_type` does, for as long as the process lives."""
    directory = process_directory(stack)
    value = load_as_type(stack, ref, directory, wanted)
    if ref.inline and ref.encoding.startswith("python.json@") and not contains_path(wanted):
        shutil.rmtree(directory, ignore_errors=True)
    with suppress(OSError):
        # Most values leave nothing in it; what is fetched later creates it again.
        directory.rmdir()
    return value


def load_as_type(stack: Stack, ref: ArtifactRef, into: Path, wanted: Any, name: str = "") -> Any:
    """Return the value of a ref as `Stack.load` does, after a check that it is what is `wanted`; widen numbers to it.

    `name` is what the error calls the value. Raises `InputError` for a value that neither is what is asked for nor has
    that view. None is not checked, and neither are batches, which are read one by one.
    """
    if isinstance(wanted, str):
        raise InputError(f"A type is asked for as itself, such as pandas.DataFrame, got the text {wanted!r}.")
    value = stack.load(ref, into, wanted)
    if value is None or is_stream_annotation(strip_annotation(wanted)):
        return value
    return coerce(value, wanted, ValuePath(name or f"artifact {ref.name or ref.digest[:12]}", is_input=True))


class BackgroundPreviews:
    """Make previews in a thread of their own, while the lineage run is being closed.

    They are made of `values` as the function returned them, and stored beside the artifacts: equal content is not
    previewed again, and of an output that was not `saved` now the stored ones are taken.
    """

    def __init__(
        self,
        step: Step,
        stack: Stack,
        outputs: Mapping[str, ArtifactRef],
        values: Mapping[str, Any] = MappingProxyType({}),
        saved: Mapping[str, SavedArtifact] = MappingProxyType({}),
    ) -> None:
        self._step, self._stack = step, stack
        self._store = PreviewStore(stack.store.transport)
        self._outputs, self._values, self._saved = outputs, values, saved
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
                files[name] = self._store.get(digest)
                if not files[name] and name in self._saved:
                    made = self._stack.preview(self._values[name], self._saved[name], by)
                    files[name] = dict(_check_files(made))
                    self._store.put(digest, files[name])
            except BaseException as error:  # noqa: BLE001 - a panic of polars is not even an Exception
                log.warning("Output %r of step %r has no preview: %s", name, self._step.name, error)
        self._files.set_result(preview_files(files))


def _check_files(files: Mapping[str, bytes | str]) -> Iterator[tuple[str, bytes]]:
    for name, content in files.items():
        written = content.encode(errors="replace") if isinstance(content, str) else content
        if not _FILE_NAME.fullmatch(name):
            raise SaveRefused(f"a preview cannot be named {name!r}. Use letters, digits, '_', '-' and '.'.")
        if len(written) <= MAX_PREVIEW_BYTES:
            yield name, written
        else:
            log.warning("%r is left out: its %d bytes are more than %d.", name, len(written), MAX_PREVIEW_BYTES)
