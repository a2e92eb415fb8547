"""`load`, `save` and `prune` for plain tasks and notebooks: the deployment's own stack, opened for one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.version import VersionSelector
from airflow_zen.config.settings import Settings, open_stack, settings_of_uri
from airflow_zen.errors import ArtifactRefused
from airflow_zen.steps.materialize import load_for_process

if TYPE_CHECKING:
    from airflow_zen.pruning.report import PruneReport

T = TypeVar("T")


@overload
def load(ref: ArtifactRef | Mapping[str, Any], as_type: type[T], stack: str | None = None) -> T: ...


@overload
def load(ref: ArtifactRef | Mapping[str, Any], as_type: None = None, stack: str | None = None) -> Any: ...


def load(ref: ArtifactRef | Mapping[str, Any], as_type: Any = None, stack: str | None = None) -> Any:
    """Give the value of an artifact, from its ref, from what XCom holds of it, or from `Artifact("name").latest()`.

    `as_type` asks for another view, such as `pathlib.Path` or `polars.DataFrame`. `stack` names the stack
    it lies in, else the active one is meant. Raises `ArtifactRefused` for what is no ref of its artifact
    root, `InputError` where it is no `as_type`, `ArtifactNotFound`, `ArtifactCorrupt`.
    """
    settings = Settings.read(stack)
    if not isinstance(ref, ArtifactRef | Mapping):
        raise ArtifactRefused(f"airflow_zen.load takes a ref, or what XCom holds of one, got {ref!r}.")
    if not isinstance(ref, ArtifactRef) and not VersionSelector.is_wire(ref):
        ref = ArtifactRef.from_wire(ref)
    opened_stack = open_stack(settings, lineage=False)
    if not isinstance(ref, ArtifactRef):
        ref = opened_stack.names.resolve(VersionSelector.from_wire(ref))
    _check_ref_in_stack(ref, settings)
    return load_for_process(opened_stack, ref, as_type)


def save(value: Any, name: str = "", stack: str | None = None) -> ArtifactRef:
    """Store a value as an artifact of a stack and give its ref; what `@ml_step` does with its outputs."""
    return open_stack(Settings.read(stack), lineage=False).save(value, name).ref


def prune(
    older_than: str | None = None,
    keep_last: int | None = None,
    grace: str = "1d",
    expire_mlflow_runs: bool = False,
    dry_run: bool = False,
    stack: str | None = None,
) -> PruneReport:
    """Free the artifact root of what nobody refers to; `airflow zen artifacts prune` for tasks and notebooks.

    `older_than`: DAG runs, cache entries and versions of this age (`"90d"`) may go too; `keep_last`: so many newest
    versions of each name stay. What nobody refers to is condemned, and deleted by a prune `grace` later.
    `expire_mlflow_runs` deletes DAG runs of that age in MLflow as well. Raises `SettingsError` for what cannot be
    meant, `PruneBusy` while another prune runs, `LineageError` when MLflow is away.
    """
    from airflow_zen.pruning.collect import prune_stack
    from airflow_zen.pruning.retention import Retention, parse_duration

    age = None if older_than is None else parse_duration(older_than)
    retention = Retention(age, keep_last, parse_duration(grace), expire_mlflow_runs)
    return prune_stack(open_stack(Settings.read(stack)), retention, dry_run=dry_run)


def _check_ref_in_stack(ref: ArtifactRef, settings: Settings) -> None:
    """Say which stack an artifact lies in, where it is another one; the store refuses what no stack knows."""
    owner = None if ref.uri.startswith(f"{settings.artifact_root}/") else settings_of_uri(ref.uri)
    if owner is not None:
        raise ArtifactRefused(
            f"Artifact {ref.digest[:12]} lies in stack {owner.stack!r} ({owner.artifact_root}), not in stack "
            f"{settings.stack!r} ({settings.artifact_root}). Load it with airflow_zen.load(ref, stack={owner.stack!r})."
        )
