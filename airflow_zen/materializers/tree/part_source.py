"""The files of a part, which are here already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from airflow_zen.artifacts.arriving import VerifiedStream
from airflow_zen.artifacts.source import ArtifactReader


class DirectoryReader(ArtifactReader):
    """Open what lies in one directory as what an artifact of its own would be."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def directory(self) -> Path:
        """Give the directory."""
        return self._directory

    def open(self, name: str) -> Path:
        """Give the path of a file."""
        return self._directory / name

    def stream(self, name: str) -> VerifiedStream | None:
        """Give nothing: no file is on its way."""
        return None

    def object_store_url(self, name: str) -> tuple[str, Mapping[str, str]] | None:
        """Give nothing: the file is opened here."""
        return None
