"""Load, save and prune artifacts in plain tasks and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.version import VersionSelector
from airflow_zen.config.settings import Settings, open_stack, settings_of_uri
from airflow_zen.errors import ArtifactRefused
from airflow_zen.steps.materialize import load_for_process

if TYPE_CHECKING:
    from airflow_zen.pruning.collect import PruneReport

T = TypeVar("T")


@overload
def load(ref: ArtifactRef | Mapping[str, Any], as_type: type[T], stack: str | None = None) -> T: ...


@overload
def load(ref: ArtifactRef | Mapping[str, Any], as_type: None = None, stack: str | None = None) -> Any: ...


def load(ref: ArtifactRef | Mapping[str, Any], as_type: Any = None, stack: str | None = None) -> Any:
    """Return the value of an artifact.

    ref: the ref, its form in XCom, or `Artifact("name").latest()`. as_type: the type to load it as, such as
    `pathlib.Path` or `polars.DataFrame`. stack: the stack that contains it, by default the active one.

    Raises `ArtifactRefused` for anything but a ref of the stack's artifact root, `InputError` where it cannot be loaded
    as `as_type`, `ArtifactNotFound`, `ArtifactCorrupt`.
    """
    settings = Settings.read(stack)
    if not isinstance(ref, ArtifactRef | Mapping):
        raise ArtifactRefused(f"airflow_zen.load takes a ref, or its form in XCom, got {ref!r}.")
    if not isinstance(ref, ArtifactRef) and not VersionSelector.is_wire(ref):
        ref = ArtifactRef.from_wire(ref)
    opened_stack = open_stack(settings, lineage=False)
    if not isinstance(ref, ArtifactRef):
        ref = opened_stack.names.resolve(VersionSelector.from_wire(ref))
    _check_ref_in_stack(ref, settings)
    return load_for_process(opened_stack, ref, as_type)


def save(value: Any, name: str = "", stack: str | None = None) -> ArtifactRef:
    """Store a value as an artifact of a stack, as `@ml_step` does with its outputs, and return the ref."""
    return open_stack(Settings.read(stack), lineage=False).save(value, name).ref


def prune(
    older_than: str | None = None,
    keep_last: int | None = None,
    grace: str = "1d",
    expire_mlflow_runs: bool = False,
    dry_run: bool = False,
    stack: str | None = None,
) -> PruneReport:
    """Delete unreferenced artifacts from the artifact root, as `airflow zen artifacts prune` does.

    An unreferenced artifact is marked first, and deleted by a prune that runs `grace` later.

    older_than: also expire DAG runs, cache entries and versions of this age (`"90d"`). keep_last: keep this many of the
    newest versions of each name. expire_mlflow_runs: delete DAG runs of that age in MLflow too.

    Raises `SettingsError` for an invalid duration, `PruneBusy` while another prune runs, and `LineageError` when MLflow
    is unavailable.
    """
    from airflow_zen.pruning.collect import prune_stack
    from airflow_zen.pruning.retention import Retention

    retention = Retention.parse(older_than, keep_last, grace, expire_mlflow_runs)
    return prune_stack(open_stack(Settings.read(stack)), retention, dry_run=dry_run)


def _check_ref_in_stack(ref: ArtifactRef, settings: Settings) -> None:
    """Raise `ArtifactRefused` for a ref of another stack; the store refuses a ref of no stack."""
    owner = None if ref.uri.startswith(f"{settings.artifact_root}/") else settings_of_uri(ref.uri)
    if owner is not None:
        raise ArtifactRefused(
            f"Artifact {ref.digest[:12]} is in stack {owner.stack!r} ({owner.artifact_root}), not in stack "
            f"{settings.stack!r} ({settings.artifact_root}). Load it with airflow_zen.load(ref, stack={owner.stack!r})."
        )
