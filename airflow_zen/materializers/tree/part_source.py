"""The files of a part, which are here already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from airflow_zen.artifacts.arriving import ArrivingFile
from airflow_zen.artifacts.source import ArtifactSource


class PartSource(ArtifactSource):
    """Open what lies in one directory as what an artifact of its own would be."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def directory(self) -> Path:
        """Give the directory."""
        return self._directory

    def open(self, name: str) -> Path:
        """Give the path of a file."""
        return self._directory / name

    def arriving(self, name: str) -> ArrivingFile | None:
        """Give nothing: no file is on its way."""
        return None

    def address(self, name: str) -> tuple[str, Mapping[str, str]] | None:
        """Give nothing: the file is opened here."""
        return None
