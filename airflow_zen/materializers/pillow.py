"""Pillow images as PNG files, or as raw pixels where PNG would change them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import MAX_PREVIEW_BYTES, PREVIEW_PNG
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from PIL import Image

IMAGE_PNG = "image.png"
PIXELS_FILE = "pixels.npy"
METADATA_FILE = "image.json"
FIGURE_PNG = "figure.png"

# PNG stores other modes too, but they come back as one of these.
_PNG_MODES = frozenset({"1", "L", "LA", "RGB", "RGBA", "I;16"})

# Pillow's own MAX_IMAGE_PIXELS, which a process may change: Pillow warns of larger files, and refuses those twice as large.
_MAX_PNG_PIXELS = (1 << 30) // 4 // 3

_MAX_SIDE, _MIN_SIDE = 512, 32


class PillowMaterializer(Materializer):
    """Save the pixels, mode, palette and `info` of an image.

    Refused: an image that is still bound to the file it was opened from; `image.copy()` is not.
    Loads a matplotlib figure as its drawing.
    """

    types = ("PIL.Image.Image",)
    encoding = "pillow.png@1"
    reads = ("matplotlib.figure@1",)
    libraries = ("pillow",)
    extra = "pillow"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `image.png` or `pixels.npy`, and `image.json` for what they do not contain."""
        import numpy as np

        from airflow_zen.materializers.numpy.arrays import write_npy

        if type_name(type(value)) not in self.types:
            raise SaveRefused(
                f"{type_name(type(value))} is bound to a file and would come back as PIL.Image.Image. Return image.copy()."
            )
        metadata: dict[str, Any] = {"info": value.info} if value.info else {}
        if value.mode in _PNG_MODES and 0 < value.width * value.height <= _MAX_PNG_PIXELS:
            plain = value.copy()
            plain.info = {}
            plain.save(directory / IMAGE_PNG, format="PNG")
        else:
            metadata |= {"mode": value.mode, "size": value.size, "palette": _palette_of(value)}
            write_npy(np.frombuffer(value.tobytes(), dtype=np.uint8), directory / PIXELS_FILE)
        parts = write_typed_json(self, metadata, directory, METADATA_FILE) if metadata else {}
        return {"shape": f"{value.width} × {value.height} {value.mode}", **parts}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the image, or the drawing of a figure, into memory."""
        from PIL import Image

        from airflow_zen.materializers.numpy.arrays import read_npy

        metadata = read_typed_json(self, directory, METADATA_FILE) if (directory / METADATA_FILE).exists() else {}
        if "mode" in metadata:
            image = Image.frombytes(metadata["mode"], metadata["size"], read_npy(directory / PIXELS_FILE).tobytes())
            if metadata["palette"] is not None:
                image.putpalette(*reversed(metadata["palette"]))
        else:
            picture = directory / (IMAGE_PNG if encoding == self.encoding else FIGURE_PNG)
            with Image.open(picture, formats=["PNG"]) as opened:
                image = opened.copy()
        image.info = metadata.get("info", {})
        return image

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show a thumbnail of at most 512 × 512 pixels, smaller where its file is too large."""
        if not value.width or not value.height:
            return {}
        side = _MAX_SIDE
        while len(found := _thumbnail(value, side)) > MAX_PREVIEW_BYTES and side > _MIN_SIDE:
            side //= 2
        return {PREVIEW_PNG: found}


def _palette_of(image: Image.Image) -> tuple[str, bytes] | None:
    if image.palette is None:
        return None
    image.load()
    mode = image.im.getpalettemode()
    return mode, bytes(image.im.getpalette(mode, mode))


def _thumbnail(image: Any, side: int) -> bytes:
    """Return a PNG in a mode that a browser shows; numbers without a fixed range are scaled to their own."""
    import numpy as np
    from PIL import Image

    small = image.copy()
    # A reducing gap would be faster, but Pillow has none for 16-bit images.
    small.thumbnail((side, side), reducing_gap=None)
    if small.mode in {"I", "F"} or small.mode.startswith("I;"):
        numbers = np.nan_to_num(np.asarray(small, dtype=np.float64))
        span = np.ptp(numbers) or 1.0
        small = Image.fromarray(((numbers - numbers.min()) / span * 255).astype(np.uint8))
    elif small.mode not in {"L", "LA", "RGB", "RGBA", "1"}:
        small = small.convert("RGBA" if "A" in small.mode or "transparency" in small.info else "RGB")
    small.info = {}
    file = io.BytesIO()
    small.save(file, "PNG")
    return file.getvalue()
