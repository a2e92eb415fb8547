"""PNG pictures without an image library (W3C PNG specification, third edition)."""

from __future__ import annotations

import base64
import struct
import zlib

from airflow_zen.materializers.previews.page import Markup

_COLOR_TYPES = {1: 0, 3: 2, 4: 6}


def encode_png(width: int, height: int, channels: int, pixels: bytes) -> bytes:
    """Write rows of 8-bit gray, RGB or RGBA pixels as a PNG file."""
    row = width * channels
    lines = b"".join(b"\0" + pixels[at * row : (at + 1) * row] for at in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(lines, 6)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def img_tag(picture: bytes, width: int) -> Markup:
    """Show a PNG within a page, `width` pixels wide."""
    text = base64.b64encode(picture).decode()
    return Markup(f'<img alt="" width="{width}" style="image-rendering:pixelated" src="data:image/png;base64,{text}">')


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
