"""Ask for a version of a named artifact, as JSON that means the same in every process, to be found when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_zen.artifacts.version import LATEST, validate_artifact_name
from airflow_zen.errors import ArtifactRefused

SELECTOR_MARKER = "__airflow_zen_version__"
SELECTOR_WIRE_VERSION = 1


class VersionSelector(msgspec.Struct, frozen=True):
    """Ask for one version of a name; `version` is what `ArtifactNames.get` takes as text."""

    name: str
    version: str = LATEST

    def to_wire(self) -> dict[str, Any]:
        """Write it as a marked JSON dict."""
        return {
            SELECTOR_MARKER: SELECTOR_WIRE_VERSION,
            "name": validate_artifact_name(self.name),
            "version": self.version,
        }

    @staticmethod
    def is_wire(value: object) -> bool:
        """Tell whether a JSON value asks for a version."""
        return isinstance(value, dict) and SELECTOR_MARKER in value

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> VersionSelector:
        """Read it back; raises `ArtifactRefused` for what is malformed or newer than we know."""
        name, version = wire.get("name"), wire.get("version")
        if wire[SELECTOR_MARKER] != SELECTOR_WIRE_VERSION or not isinstance(name, str) or not isinstance(version, str):
            raise ArtifactRefused(
                f"{dict(wire)!r} asks for no version of an artifact that this airflow_zen understands. Write "
                'Artifact("name").latest().'
            )
        return cls(name, version)
