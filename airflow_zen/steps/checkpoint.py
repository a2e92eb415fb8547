"""`checkpoint`: states of a running step in the artifact root, from which the next try of its task goes on."""

from __future__ import annotations

import atexit
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from airflow_zen.artifacts.folder import MANIFEST_FILE_NAME, Manifest
from airflow_zen.artifacts.ref import corrupt_error, new_path
from airflow_zen.artifacts.store import list_files
from airflow_zen.errors import ArtifactCorrupt, ArtifactNotFound, CheckpointError
from airflow_zen.runs.step_run import StepRunId
from airflow_zen.steps.conversion import process_directory
from airflow_zen.steps.ranks import process_rank
from airflow_zen.steps.runtime import CheckpointPlace, current_checkpoints
from airflow_zen.steps.spec import StackSpec
from airflow_zen.transports.base import quote_key_part, run_in_parallel

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactFile
    from airflow_zen.stack import Stack

log = logging.getLogger("airflow_zen.steps")

# Step and digest in the name of a checkpoint's folder.
_FOLDER = re.compile(r"(\d{12,})-([0-9a-f]{64})")


def checkpoint(*, keep: int = 2) -> Checkpoints:
    """Return the checkpoints of the running step, of which the last `keep` are kept.

    They are found by the next try of the same task instance with the same cache key, and deleted after its success.
    Outside a step they are stored in a temporary directory, and deleted when the process ends.
    """
    if keep < 1:
        raise CheckpointError(f"checkpoint(keep={keep!r}): keep at least the last checkpoint, keep=1.")
    place = current_checkpoints() or _outside_of_steps()
    place.is_used = True
    return Checkpoints(place, keep)


class Checkpoints:
    """The checkpoints of one step; `step` is that of the state which `latest` returned or `save` stored, None without.

    In a distributed step the process of rank 0 saves, and every rank may read.
    """

    def __init__(self, place: CheckpointPlace, keep: int) -> None:
        self.step: int | None = None
        self._keep = keep
        self._stack = place.stack
        self._folder = f"{instance_folder(place.run)}/{quote_key_part(place.find_key())}"
        environment = place.stack.environment
        self._rank = process_rank(environment)
        self._attempt = f"{place.run.try_number}.{environment.get('TORCHELASTIC_RESTART_COUNT') or 0}"
        self._has_read = False

    def latest(self, wanted: Any = None) -> Any:
        """Return the state with the highest step, None where there is none; a damaged one is left out.

        `wanted` is the type to load it as, where it has several; `pathlib.Path` returns its files. In ranks other than 0
        the first call ignores what rank 0 saved since they started, so that all ranks begin with the same state.
        """
        ignored = self._attempt if self._rank and not self._has_read else None
        self._has_read = True
        for step, folder in reversed(self._folders()):
            with _left_out_when_damaged(folder):
                manifest = self._read_manifest(folder)
                if manifest.summary["attempt"] != ignored:
                    state = self._load(folder, manifest, wanted)
                    self.step = step
                    return state
        return None

    def save(self, state: Any, *, step: int) -> None:
        """Store a state, complete or not at all, and delete the oldest; return when it is stored.

        state: a value that has a materializer, or the path of a file or directory. step: its position, not negative; the
        state of the highest one is the latest. Raises `SaveRefused` and `MaterializerNotFound` as outputs do.
        """
        value: Any = step
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise CheckpointError(f"save(step={step!r}) takes a number of steps that is 0 or more.")
        self.step = step
        if self._rank:
            return
        with self._stack.store.upload_directory() as directory:
            saved = self._stack.materializers.save(state, directory)
            files = tuple(list_files(directory, saved.hashes, self._stack.store.transport))
            facts = {**saved.summary, "attempt": self._attempt}
            manifest = Manifest(saved.encoding, saved.type, files, {}, saved.libraries, facts)
            (directory / MANIFEST_FILE_NAME).write_bytes(manifest.to_json())
            folder = f"{self._folder}/{step:012d}-{manifest.digest}"
            # The manifest is last: its presence means that the upload finished.
            self._stack.store.transport.publish(directory, folder, last=MANIFEST_FILE_NAME)
        self._delete_old(step, folder)

    def _folders(self) -> list[tuple[int, str]]:
        names = self._stack.store.transport.list_prefixes(self._folder)
        found = [match for name in names if (match := _FOLDER.fullmatch(name))]
        return sorted((int(match[1]), f"{self._folder}/{match[0]}") for match in found)

    def _read_manifest(self, folder: str) -> Manifest:
        text = self._stack.store.transport.read(f"{folder}/{MANIFEST_FILE_NAME}")
        return Manifest.from_json(text, folder.rpartition("-")[2])

    def _load(self, folder: str, manifest: Manifest, wanted: Any) -> Any:
        into, transport = process_directory(self._stack), self._stack.store.transport

        def fetch(file: ArtifactFile) -> None:
            key = f"{folder}/{file.path}"
            if transport.download(key, new_path(into, file.path), file.hash) != file.hash:
                raise corrupt_error(key, file)

        run_in_parallel(fetch, manifest.files)
        return self._stack.materializers.load(into, manifest.encoding, wanted)

    def _delete_old(self, step: int, written: str) -> None:
        """Delete other states of the same step, and all but the last ones."""
        folders = self._folders()
        others = [folder for found, folder in folders if found == step and folder != written]
        kept = [folder for _, folder in folders if folder not in others]
        for folder in (*others, *kept[: -self._keep]):
            _delete_folder(self._stack, folder)


def instance_folder(run: StepRunId) -> str:
    """Return the folder with the checkpoints of a task instance."""
    parts = (run.dag_id, run.run_id, run.task_id, str(run.map_index))
    return "/".join(["checkpoints", *map(quote_key_part, parts)])


def delete_checkpoints(stack: Stack, run: StepRunId) -> None:
    """Delete the checkpoints of a task instance, of every cache key."""
    _delete_folder(stack, instance_folder(run))


def _delete_folder(stack: Stack, folder: str) -> None:
    keys = list(stack.store.transport.list(folder))
    # Without its manifest a checkpoint does not exist: no reader finds half of it.
    stack.store.transport.delete([key for key in keys if key.endswith(f"/{MANIFEST_FILE_NAME}")])
    stack.store.transport.delete(keys)


@contextmanager
def _left_out_when_damaged(folder: str) -> Iterator[None]:
    """Log why a checkpoint cannot be read; one without a manifest is the rest of an upload."""
    with suppress(ArtifactNotFound):
        try:
            yield
        except ArtifactCorrupt as error:
            log.warning("Checkpoint %s is left out: %s", folder, error)


@cache
def _outside_of_steps() -> CheckpointPlace:
    directory = tempfile.mkdtemp(prefix="airflow-zen-checkpoints-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    stack = replace(StackSpec(directory).open({}), environment={})
    log.info("checkpoint() was called outside a step: checkpoints are deleted when this process ends.")
    return CheckpointPlace(stack, StepRunId("none", "none", "none"), lambda: "none")
