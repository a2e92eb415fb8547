"""Named artifacts as Airflow assets: declared when a DAG is parsed, with an event when the content changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote

from airflow_zen.artifacts.version import RecordedVersion, VersionSelector

if TYPE_CHECKING:
    from airflow.sdk import Asset

    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.runs.step_run import StepRun

URI_SCHEME = "zen"
_DEFAULT_STACK = "default"


def asset_of(name: str, stack: str = "") -> Asset:
    """Give the asset of a named artifact.

    Airflow has one asset of a name, so a name in a stack that a step declares is another name: `staging:features`.
    """
    from airflow.sdk import Asset

    return Asset(
        name=f"{stack}:{name}" if stack else name, uri=f"{URI_SCHEME}://{quote(stack or _DEFAULT_STACK)}/{quote(name)}"
    )


def normalize_uri(parts: SplitResult) -> SplitResult:
    """Hold an address `zen://<stack>/<name>` to its form, as Airflow asks of each scheme; raises `ValueError`."""
    if not parts.netloc or not parts.path.strip("/") or parts.query:
        raise ValueError(
            f"An artifact's asset has an address such as 'zen://default/features', got {parts.geturl()!r}."
        )
    return parts


def outlets_of(artifact_names: Mapping[str, str], stack: str) -> list[Asset]:
    """Give the assets of a step's named outputs."""
    return [asset_of(name, stack) for name in artifact_names.values()]


def inlets_of(arguments: Any, stack: str) -> list[Asset]:
    """Give the assets of the named artifacts that arguments ask for, at any depth."""
    return [asset_of(name, stack) for name in dict.fromkeys(_requested_names(arguments))]


def merge_assets(declared: Iterable[Any], assets: Iterable[Asset]) -> list[Any]:
    """Add assets to what a task declares; one that is declared already stays as it was written."""
    declared = list(declared)
    uris = {getattr(asset, "uri", None) for asset in declared}
    return [*declared, *(asset for asset in assets if asset.uri not in uris)]


def emit_asset_events(
    operator: Any, context: Any, run: StepRun, artifact_names: Mapping[str, str], *, stack_overridden: bool
) -> None:
    """Leave in the outlets what has news, and say in its event what that is.

    A named output has news when its content is new under its name; whatever else the task declares, when the step
    was computed and not reused. In a stack that the run chose for itself (`stack_overridden`) nothing is new in the step's own.
    """
    own_outputs = {asset_of(name, operator.stack).uri: output for output, name in artifact_names.items()}
    computed = not run.is_hit
    operator.outlets = [
        outlet
        for outlet in operator.outlets
        if (
            _has_changed(run, own_outputs[outlet.uri], computed) and not stack_overridden
            if getattr(outlet, "uri", None) in own_outputs
            else computed
        )
    ]
    for outlet in operator.outlets:
        output = own_outputs.get(getattr(outlet, "uri", ""))
        if output is not None:
            context["outlet_events"][outlet].extra = {
                **_event_extra(run.outputs[output], run.versions.get(output)),
                **context["outlet_events"][outlet].extra,
            }


def _has_changed(run: StepRun, output: str, computed: bool) -> bool:
    """Tell whether content changed; of a version that could not be written, whether it was computed."""
    recorded = run.versions.get(output)
    return output in run.outputs and (recorded.changed if recorded else computed)


def _event_extra(ref: ArtifactRef, recorded: RecordedVersion | None) -> dict[str, Any]:
    extra = {"digest": ref.digest, "type": ref.type, "shape": ref.shape, "size": ref.size, "uri": ref.uri}
    return {"version": recorded.version, **extra} if recorded else extra


def _requested_names(value: Any) -> Iterator[str]:
    if VersionSelector.is_wire(value):
        yield VersionSelector.from_wire(value).name
    elif isinstance(value, dict):
        for item in value.values():
            yield from _requested_names(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _requested_names(item)
