"""Previews of artifacts in the store: small files for people, made once for each content."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_zen.artifacts.parallel import run_in_parallel
from airflow_zen.artifacts.transport import Transport


class PreviewStore:
    """Keep previews at `previews/<digest[:2]>/<digest>/`; unlike artifacts they may be deleted at any time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, digest: str) -> dict[str, bytes]:
        """Read the previews of an artifact by file name; empty where none were made."""
        prefix = _preview_prefix(digest)
        keys = list(self._transport.list(prefix))
        return {key.removeprefix(f"{prefix}/"): self._transport.read(key) for key in keys}

    def put(self, digest: str, files: Mapping[str, bytes]) -> None:
        """Store the previews of an artifact."""
        prefix = _preview_prefix(digest)
        run_in_parallel(lambda name: self._transport.write(f"{prefix}/{name}", files[name]), files)


def _preview_prefix(digest: str) -> str:
    return f"previews/{digest[:2]}/{digest}"
