"""Text that says what it is: HTML, Markdown, CSV and JSON, each a file that other programs open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.names import type_name


class HTMLString(str):
    """Say that a text is an HTML page or a part of one."""

    __slots__ = ()


class MarkdownString(str):
    """Say that a text is Markdown."""

    __slots__ = ()


class CSVString(str):
    """Say that a text is a table of comma-separated values."""

    __slots__ = ()


class JSONString(str):
    """Say that a text is JSON; it is stored as it stands, not parsed."""

    __slots__ = ()


_CLASS_BY_FILE_NAME: dict[str, type[str]] = {
    "text.html": HTMLString,
    "text.md": MarkdownString,
    "text.csv": CSVString,
    "text.json": JSONString,
}


class TextMaterializer(Materializer):
    """Save a marked text as a UTF-8 file, named for what it is."""

    types = tuple(f"{__name__}.{cls.__qualname__}" for cls in _CLASS_BY_FILE_NAME.values())
    encoding = "python.text@1"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `text.html`, `text.md`, `text.csv` or `text.json`, line ends as they are."""
        name = next((name for name, cls in _CLASS_BY_FILE_NAME.items() if type(value) is cls), None)
        if name is None:
            raise SaveRefused(f"{type_name(type(value))} is a subclass that would come back as its base class.")
        try:
            (directory / name).write_bytes(value.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise SaveRefused(
                f"This {type(value).__qualname__} is not UTF-8: {error}. Replace its surrogates."
            ) from None
        return {"shape": f"{len(value)} characters"}

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the text as what it is marked to be."""
        from airflow_zen.materializers.texts_preview import preview_text

        return preview_text(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the text as the class that its file name says."""
        for name, cls in _CLASS_BY_FILE_NAME.items():
            if (directory / name).exists():
                return cls((directory / name).read_bytes().decode("utf-8"))
        raise ArtifactRefused(f"A text artifact is one of {', '.join(_CLASS_BY_FILE_NAME)}, and none of them is in it.")
