"""Tell Airflow's own lineage collector what a step read and made, for whoever listens, such as OpenLineage."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef

log = logging.getLogger("airflow_zen.operators")


def report_inputs(operator: Any, refs: Iterable[ArtifactRef]) -> None:
    """Report what a step is about to read; nothing is done where nobody listens. Never raises."""
    _report("add_input_asset", operator, refs)


def report_outputs(operator: Any, refs: Iterable[ArtifactRef]) -> None:
    """Report what a step made, or reused."""
    _report("add_output_asset", operator, refs)


def _report(method: str, operator: Any, refs: Iterable[ArtifactRef]) -> None:
    try:
        if not _has_lineage_reader():
            return
        from airflow.providers.common.compat.sdk import get_hook_lineage_collector

        add = getattr(get_hook_lineage_collector(), method)
        for ref in {ref.digest: ref for ref in refs}.values():
            add(operator, uri=_asset_uri(ref), asset_extra=_asset_extra(ref))
    except Exception as error:
        log.debug("The lineage collector took nothing: %s", error, exc_info=True)


def _has_lineage_reader() -> bool:
    """Say whether a plugin reads the collector.

    Even the collector that takes nothing loads the asset handlers of every provider when it is made: 0.2 s for Amazon's.
    """
    from airflow.sdk import plugins_manager

    return bool(plugins_manager.get_hook_lineage_readers_plugins())


def _asset_uri(ref: ArtifactRef) -> str:
    return ref.uri if "://" in ref.uri else f"file://{ref.uri}"


def _asset_extra(ref: ArtifactRef) -> dict[str, Any]:
    return {"name": ref.name, "digest": ref.digest, "type": ref.type, "shape": ref.shape, "size": ref.size}
