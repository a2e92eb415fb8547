"""Named artifacts as Airflow assets: declared when a DAG is parsed, with an event when the content changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote

from airflow_zen.artifacts.asked import AskedVersion
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.version import Made
from airflow_zen.lineage.step_run import StepRun

if TYPE_CHECKING:
    from airflow.sdk import Asset

SCHEME = "zen"
_ANY_STACK = "default"


def asset_of(name: str, stack: str = "") -> Asset:
    """Give the asset of a named artifact.

    Airflow has one asset of a name, so a name in a stack that a step declares is another name: `staging:features`.
    """
    from airflow.sdk import Asset

    return Asset(
        name=f"{stack}:{name}" if stack else name, uri=f"{SCHEME}://{quote(stack or _ANY_STACK)}/{quote(name)}"
    )


def normalise_uri(parts: SplitResult) -> SplitResult:
    """Hold an address `zen://<stack>/<name>` to its form, as Airflow asks of each scheme; raises `ValueError`."""
    if not parts.netloc or not parts.path.strip("/") or parts.query:
        raise ValueError(
            f"An artifact's asset has an address such as 'zen://default/features', got {parts.geturl()!r}."
        )
    return parts


def outlets_of(called: Mapping[str, str], stack: str) -> list[Asset]:
    """Give the assets of a step's named outputs."""
    return [asset_of(name, stack) for name in called.values()]


def inlets_of(arguments: Any, stack: str) -> list[Asset]:
    """Give the assets of the named artifacts that arguments ask for, at any depth."""
    return [asset_of(name, stack) for name in dict.fromkeys(_asked(arguments))]


def added(declared: Iterable[Any], assets: Iterable[Asset]) -> list[Any]:
    """Add assets to what a task declares; one that is declared already stays as it was written."""
    declared = list(declared)
    uris = {getattr(held, "uri", None) for held in declared}
    return [*declared, *(asset for asset in assets if asset.uri not in uris)]


def tell_assets(operator: Any, context: Any, run: StepRun, called: Mapping[str, str], *, elsewhere: bool) -> None:
    """Leave in the outlets what has news, and say in its event what that is.

    A named output has news when its content is new under its name; whatever else the task declares, when the step
    was computed and not reused. In a stack that the run chose for itself (`elsewhere`) nothing is new in the step's own.
    """
    own = {asset_of(name, operator.stack).uri: output for output, name in called.items()}
    computed = run.cache != "hit"
    operator.outlets = [
        held
        for held in operator.outlets
        if (_is_news(run, own[held.uri], computed) and not elsewhere if getattr(held, "uri", None) in own else computed)
    ]
    for held in operator.outlets:
        output = own.get(getattr(held, "uri", ""))
        if output is not None:
            context["outlet_events"][held].extra = {
                **_facts(run.outputs[output], run.versions.get(output)),
                **context["outlet_events"][held].extra,
            }


def _is_news(run: StepRun, output: str, computed: bool) -> bool:
    """Tell whether content changed; of a version that could not be written, whether it was computed."""
    made = run.versions.get(output)
    return output in run.outputs and (made.changed if made else computed)


def _facts(ref: ArtifactRef, made: Made | None) -> dict[str, Any]:
    facts = {"digest": ref.digest, "type": ref.type, "shape": ref.shape, "size": ref.size, "uri": ref.uri}
    return {"version": made.version, **facts} if made else facts


def _asked(value: Any) -> Iterator[str]:
    if AskedVersion.is_wire(value):
        yield AskedVersion.from_wire(value).name
    elif isinstance(value, dict):
        for held in value.values():
            yield from _asked(held)
    elif isinstance(value, list | tuple):
        for held in value:
            yield from _asked(held)
