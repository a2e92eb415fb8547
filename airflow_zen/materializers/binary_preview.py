"""Previews of bytes: the first of them, as numbers and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_zen.materializers.previews.page import PREVIEW_HTML, Markup, html_page, preformatted, truncation_note

_MAX_BYTES_SHOWN = 1024
_BYTES_PER_LINE = 16


def preview_bytes(value: bytes, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show where each line begins, its bytes, and those of them that are printable ASCII."""
    return {PREVIEW_HTML: html_page("bytes", str(summary.get("shape", "")), _byte_sections(value))}


def _byte_sections(value: bytes) -> Iterator[Markup]:
    shown = value[:_MAX_BYTES_SHOWN]
    yield preformatted(
        "\n".join(_hex_line(at, shown[at : at + _BYTES_PER_LINE]) for at in range(0, len(shown), _BYTES_PER_LINE))
    )
    if len(value) > _MAX_BYTES_SHOWN:
        yield truncation_note(f"{len(value) - _MAX_BYTES_SHOWN} more bytes")


def _hex_line(at: int, some: bytes) -> str:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in some)
    return f"{at:08x}  {some.hex(' '):{_BYTES_PER_LINE * 3 - 1}}  {text}"
