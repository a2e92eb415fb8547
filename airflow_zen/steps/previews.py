"""Make previews of what a step returned, after its result is committed; they can neither fail the step nor delay it long."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from threading import Thread
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.store import PreviewStore
from airflow_zen.errors import SaveRefused
from airflow_zen.lineage.mlflow.run_files import MAX_PREVIEWED_OUTPUTS, preview_files
from airflow_zen.materializers.previews.html import MAX_PREVIEW_BYTES

if TYPE_CHECKING:
    from airflow_zen.lineage.recorder import OpenedRun
    from airflow_zen.runs.step_run import StepRun
    from airflow_zen.stack import SavedArtifact, Stack
    from airflow_zen.steps.step import Step

log = logging.getLogger("airflow_zen.steps")

PREVIEW_TIMEOUT = 10.0
"""Seconds after which a step no longer waits for its previews."""

_FILE_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


class BackgroundPreviews:
    """Make previews in a thread of their own, while the lineage run is being closed.

    They are made of `values` as the function returned them, and stored beside the artifacts: equal content is not
    previewed again.
    """

    def __init__(self, step: Step, values: Mapping[str, Any], saved: Mapping[str, SavedArtifact], stack: Stack) -> None:
        self._step, self._stack = step, stack
        self._store = PreviewStore(stack.store.transport)
        self._values, self._saved = values, saved
        self._files: Future[dict[str, bytes]] = Future()
        self._deadline = time.monotonic() + PREVIEW_TIMEOUT
        wanted = [name for name in saved if self._is_previewed(name)][:MAX_PREVIEWED_OUTPUTS]
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
        by = self._step.output_materializer(name)
        return self._step.has_previews(name, self._stack.previews) and self._stack.can_preview(
            self._values[name], self._saved[name], by
        )

    def _render_all(self, wanted: list[str]) -> None:
        files = {}
        for name in wanted:
            try:
                files[name] = self._store.get(self._saved[name].ref.digest) or self._render_one(name)
            except BaseException as error:  # noqa: BLE001 - a panic of polars is not even an Exception
                log.warning("Output %r of step %r has no preview: %s", name, self._step.name, error)
        self._files.set_result(preview_files(files))

    def _render_one(self, name: str) -> dict[str, bytes]:
        saved, by = self._saved[name], self._step.output_materializer(name)
        files = dict(_check_files(self._stack.preview(self._values[name], saved, by)))
        self._store.put(saved.ref.digest, files)
        return files


def _check_files(files: Mapping[str, bytes | str]) -> Iterator[tuple[str, bytes]]:
    for name, content in files.items():
        written = content.encode(errors="replace") if isinstance(content, str) else content
        if not _FILE_NAME.fullmatch(name):
            raise SaveRefused(f"a preview cannot be named {name!r}. Use letters, digits, '_', '-' and '.'.")
        if len(written) <= MAX_PREVIEW_BYTES:
            yield name, written
        else:
            log.warning("%r is left out: its %d bytes are more than %d.", name, len(written), MAX_PREVIEW_BYTES)
