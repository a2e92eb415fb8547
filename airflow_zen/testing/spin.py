"""`spin`: the replay of one task of a recorded run, which writes nothing into the stack."""

from __future__ import annotations

import logging
import pdb  # noqa: T100
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_zen.artifacts.diff import ArtifactDiff, diff_manifests
from airflow_zen.artifacts.named_artifacts import VersionIndex
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache, changed_ingredients
from airflow_zen.config.model_selectors import SelectorResolver
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import ArtifactNotFound, FingerprintError
from airflow_zen.lineage.recorder import log_into_folder
from airflow_zen.operators.stack_selection import check_inputs_in_stack
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun
from airflow_zen.stack import Stack
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.cache_key import cache_key
from airflow_zen.steps.run import run_step
from airflow_zen.steps.runtime import InProcess
from airflow_zen.steps.step import Step
from airflow_zen.testing.step_record import bind_recorded_arguments, find_step_run, load_step, recorded_ingredients
from airflow_zen.transports import open_transport

log = logging.getLogger("airflow_zen.testing")


@dataclass(frozen=True)
class SpunStep:
    """The result of a replayed step, with the recorded one.

    outputs: values by output name. seconds: how long it took to load the inputs, call the function and store the
    outputs. recorded: the record of the replayed run. diffs: by output name, the difference from the recorded output;
    None if that is no longer stored. changes: labels of the cache key's ingredients that differ; None if the step has
    no key, now or then.
    """

    outputs: Mapping[str, Any]
    seconds: float
    recorded: StepRun
    diffs: Mapping[str, ArtifactDiff | None]
    changes: tuple[str, ...] | None
    _directory: TemporaryDirectory[str] = field(repr=False)

    @property
    def output(self) -> Any:
        """The value of a step with one output."""
        (value,) = self.outputs.values()
        return value

    @property
    def same(self) -> bool:
        """Whether every output has the content of the recorded one."""
        return all(diff is not None and diff.same for diff in self.diffs.values())

    @property
    def same_key(self) -> bool | None:
        """Whether the cache key is the recorded one; None where the step has none, now or then."""
        return None if self.changes is None else not self.changes


def spin(
    dag_id: str,
    task_id: str,
    run_id: str | None = None,
    *,
    map_index: int = -1,
    params: Mapping[str, Any] | None = None,
    step: Callable[..., Any] | None = None,
    as_recorded: bool = False,
    debug: bool = False,
    ask: Callable[[str], Any] | None = None,
    stack: str | None = None,
) -> SpunStep:
    """Run one task of a recorded DAG run again on this machine, in the step's runtime, and compare the result.

    Inputs are the recorded artifacts, by digest; parameters are the recorded ones, with `params` in place of those of
    the same names. The code is that of the DAG as it is now, of `step` (a decorated function), or with `as_recorded` of
    the commit or bundle version that the run had. Nothing is written into the cache, the names, the records or MLflow:
    outputs go to a temporary directory, those of a runtime other than this process become artifacts that nothing refers to,
    and what the function logs goes to a temporary directory. With `debug` an error opens the debugger
    where it was raised. `ask` is called with the name of a parameter that is masked in the record, and returns its value.

    run_id: the DAG run; None is the latest. map_index: of a mapped task. stack: None is the active one. Raises
    `SpinError` for a run, a parameter or code that is not to be had, and what the function raises.
    """
    settings = Settings.read(stack)
    source = open_stack(settings, lineage=False)
    recorded = find_step_run(source, dag_id, task_id, run_id, map_index)
    ingredients = cache(partial(recorded_ingredients, source, recorded))
    with load_step(recorded, settings, step, as_recorded=as_recorded) as chosen, _debugger(debug):
        selectors = SelectorResolver(settings, source)
        arguments = bind_recorded_arguments(chosen, recorded, params or {}, selectors, ingredients, ask)
        check_inputs_in_stack(arguments.inputs, settings, f"step {task_id!r}")
        changes = _changed_key(chosen, arguments, source, recorded, ingredients)
        return _replay(chosen, arguments, source, recorded, changes)


def _replay(
    step: Step, arguments: Arguments, source: Stack, recorded: StepRun, changes: tuple[str, ...] | None
) -> SpunStep:
    directory = TemporaryDirectory(prefix="airflow-zen-spin-", ignore_cleanup_errors=True)
    scratch = _ScratchStack.of(source, Path(directory.name), is_remote=not isinstance(step.runtime, InProcess))
    with log_into_folder(Path(directory.name)):
        run = run_step(step, arguments, scratch, StepRun(recorded.id, why="the step is replayed"))
    outputs = {name: _load(scratch, ref) for name, ref in run.outputs.items()}
    diffs = {name: _diff(source, recorded.outputs.get(name), scratch, ref) for name, ref in run.outputs.items()}
    return SpunStep(outputs, run.seconds, recorded, diffs, changes, directory)


class _ScratchStack(Stack, frozen=True, kw_only=True):
    """A stack that writes into a directory, and reads the artifacts of another one."""

    source: Stack
    own: ArtifactStore

    @property
    def names(self) -> VersionIndex:
        """The versions of names in the directory."""
        return VersionIndex(self.own)

    @classmethod
    def of(cls, source: Stack, directory: Path, *, is_remote: bool) -> _ScratchStack:
        """Return a stack in an empty directory; `source` has the artifacts that it reads.

        With `is_remote` outputs become artifacts of `source` too: another runtime reads and writes one artifact root.
        """
        root = str(directory / "root")
        transport = open_transport(root, {}, sync_to_disk=False)
        own = ArtifactStore(root, transport)
        return cls(
            store=source.store if is_remote else own,
            own=own,
            materializers=source.materializers,
            cache=StepCache(transport),
            records=StepRunRecords(transport, source.redactor),
            previews=False,
            redactor=source.redactor,
            storage_environment=source.storage_environment,
            source=source,
        )

    def load(self, ref: ArtifactRef, into: Path, wanted: Any = None) -> Any:
        """Return the value of a ref of either stack."""
        is_own = ref.uri.startswith(f"{self.own.root}/")
        return super().load(ref, into, wanted) if is_own else self.source.load(ref, into, wanted)


@contextmanager
def _debugger(wanted: bool) -> Iterator[None]:
    """Open the debugger where the block raised an error, and raise it again."""
    try:
        yield
    except Exception as error:
        if wanted:
            pdb.post_mortem(error.__traceback__)
        raise


def _changed_key(
    step: Step,
    arguments: Arguments,
    stack: Stack,
    recorded: StepRun,
    ingredients: Callable[[], Mapping[str, str]],
) -> tuple[str, ...] | None:
    """Return the labels of the ingredients of the cache key that are not as recorded; None without a key."""
    try:
        now = cache_key(step, arguments, step.extend_stack(stack), recorded.id.dag_id)
    except FingerprintError as error:
        log.info("Step %r has no cache key: %s", step.name, error)
        return None
    if not recorded.cache_key:
        return None
    if now.key == recorded.cache_key:
        return ()
    before = ingredients()
    changed = tuple(label for label, _, _ in changed_ingredients(now.ingredients, before)) if before else ()
    return changed or ("what the recorded key is made of is no longer stored",)


def _load(stack: _ScratchStack, ref: ArtifactRef) -> Any:
    return stack.load(ref, Path(tempfile.mkdtemp(dir=Path(stack.own.root).parent)))


def _diff(source: Stack, recorded: ArtifactRef | None, scratch: Stack, ref: ArtifactRef) -> ArtifactDiff | None:
    if recorded is None:
        return None
    if recorded.digest == ref.digest:
        return ArtifactDiff(same=True, changes=())
    try:
        return diff_manifests(source.store.manifest(recorded), scratch.store.manifest(ref))
    except ArtifactNotFound:
        return None
