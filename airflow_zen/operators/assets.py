"""Named artifacts as Airflow assets: declared when a DAG is parsed, with an event when the content changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote

from airflow_zen.artifacts.ref import VersionSelector
from airflow_zen.models.model import as_selector

if TYPE_CHECKING:
    from airflow.sdk import Asset

    from airflow_zen.models.model import ModelSelector
    from airflow_zen.runs.step_run import StepRun
    from airflow_zen.stack import Stack

_DEFAULT_STACK = "default"


def asset_of(name: str, stack: str = "") -> Asset:
    """Return the asset of a named artifact.

    Airflow has one asset for each name, so in a declared stack the name has a prefix: `staging:features`.
    """
    from airflow.sdk import Asset

    uri = f"zen://{quote(stack or _DEFAULT_STACK)}/{quote(name)}"
    return Asset(name=f"{stack}:{name}" if stack else name, uri=uri)


def asset_of_alias(selector: ModelSelector, stack: str = "") -> Asset:
    """Return the asset of an alias of a registered model, `models/flight_delay@champion`."""
    return asset_of(f"models/{selector}", stack)


def normalize_uri(parts: SplitResult) -> SplitResult:
    """Check an address `zen://<stack>/<name>`, as Airflow requires for each scheme; raises `ValueError`."""
    if not parts.netloc or not parts.path.strip("/") or parts.query:
        raise ValueError(
            f"An artifact's asset has an address such as 'zen://default/features', got {parts.geturl()!r}."
        )
    return parts


def outlets_of(artifact_names: Mapping[str, str], stack: str) -> list[Asset]:
    """Return the assets of a step's named outputs."""
    return [asset_of(name, stack) for name in artifact_names.values()]


def inlets_of(arguments: Any, stack: str) -> list[Asset]:
    """Return the assets of the named artifacts, and of the aliases of models, that arguments select, at any depth."""
    return [asset_of(name, stack) for name in dict.fromkeys(_selected_names(arguments))]


def _selected_names(value: Any) -> Iterator[str]:
    if VersionSelector.is_wire(value):
        yield VersionSelector.from_wire(value).name
    elif (selector := as_selector(value)) and selector.alias:
        yield f"models/{selector}"
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _selected_names(item)


def merge_assets(declared: Iterable[Any], assets: Iterable[Asset]) -> list[Any]:
    """Add assets to those that a task declares; a declared asset stays as written."""
    declared = list(declared)
    uris = {getattr(asset, "uri", None) for asset in declared}
    return [*declared, *(asset for asset in assets if asset.uri not in uris)]


def emit_asset_events(
    operator: Any,
    context: Any,
    run: StepRun,
    artifact_names: Mapping[str, str],
    stack: Stack,
    *,
    stack_overridden: bool,
) -> None:
    """Remove the outlets that get no event, and describe the new content in the events of the others.

    A named output gets an event if its content is new under its name, any other outlet if the step was computed. With
    `stack_overridden` named outputs get none, because nothing is new in the step's own stack. In the DAG run of a
    partition every outlet gets an event, because consumers wait for each partition; an output in quarantine never gets
    one.
    """
    is_partition = getattr(context["dag_run"], "partition_key", None) is not None
    own_outputs = {asset_of(name, operator.stack).uri: output for output, name in artifact_names.items()}
    changed: list[tuple[Any, str | None]] = []
    for outlet in operator.outlets:
        output = own_outputs.get(getattr(outlet, "uri", ""))
        if output is None:
            changed += [(outlet, output)] if is_partition or not run.is_hit else []
            continue
        ref, recorded = run.outputs.get(output), run.versions.get(output)
        # Without a version, which could not be written, a computed output counts as new.
        is_new = is_partition or (recorded.changed if recorded else not run.is_hit)
        is_new = is_new and not (recorded and recorded.quarantined)
        if ref and not stack_overridden and is_new:
            changed.append((outlet, output))
    operator.outlets = [outlet for outlet, _ in changed]
    for outlet, output in changed:
        if output is not None:
            event = context["outlet_events"][outlet]
            event.extra = {**_describe_content(run, output, stack), **event.extra}


def _describe_content(run: StepRun, output: str, stack: Stack) -> dict[str, Any]:
    """Return the extras of the event for a named output; `rows` only if the content has rows."""
    ref, recorded = run.outputs[output], run.versions.get(output)
    # The record of a reused result has no summaries.
    summary = run.summaries[ref.digest] if ref.digest in run.summaries else stack.store.manifest(ref).summary
    rows = summary.get("rows")
    return {
        "name": ref.name,
        **({"version": recorded.version} if recorded else {}),
        **({} if rows is None else {"rows": rows}),
        "digest": ref.digest,
        "type": ref.type,
        "shape": ref.shape,
        "size": ref.size,
        "uri": ref.uri,
    }
