"""Previews of bytes: the first of them, as numbers and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_zen.materializers.previews.page import HTML, Markup, cut_note, page, preformatted

_SHOWN = 1024
_IN_A_LINE = 16


def preview(value: bytes, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show where each line begins, its bytes, and those of them that are printable ASCII."""
    return {HTML: page("bytes", str(summary.get("shape", "")), _sections(value))}


def _sections(value: bytes) -> Iterator[Markup]:
    shown = value[:_SHOWN]
    yield preformatted("\n".join(_line(at, shown[at : at + _IN_A_LINE]) for at in range(0, len(shown), _IN_A_LINE)))
    if len(value) > _SHOWN:
        yield cut_note(f"{len(value) - _SHOWN} more bytes")


def _line(at: int, some: bytes) -> str:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in some)
    return f"{at:08x}  {some.hex(' '):{_IN_A_LINE * 3 - 1}}  {text}"
