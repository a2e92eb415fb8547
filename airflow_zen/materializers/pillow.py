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


class PillowMaterializer(Materializer):
    """Save the pixels, mode, palette and `info` of an image.

    Refused: an image that is still bound to the file it was opened from; `image.copy()` is not.
    Shows a matplotlib figure as it was drawn.
    """

    types = ("PIL.Image.Image",)
    encoding = "pillow.png@1"
    reads = ("matplotlib.figure@1",)
    libraries = ("pillow",)
    extra = "pillow"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `image.png` or `pixels.npy`; `image.json` for what they cannot say."""
        return save_image(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show a thumbnail."""
        return preview_image(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the image, or the drawing of a figure, into memory."""
        return load_image(self, directory) if encoding == self.encoding else load_figure_image(directory)


IMAGE_PNG = "image.png"
PIXELS_FILE = "pixels.npy"
METADATA_FILE = "image.json"
FIGURE_PNG = "figure.png"

# PNG has other modes too, and gives them back as one of these.
_PNG_MODES = frozenset({"1", "L", "LA", "RGB", "RGBA", "I;16"})

# Pillow warns of, and from twice as many on refuses, a file of more: its own MAX_IMAGE_PIXELS, which a process may change.
_MAX_PNG_PIXELS = (1 << 30) // 4 // 3


def save_image(materializer: Materializer, image: Any, directory: Path) -> Mapping[str, Any]:
    """Write an image; raises `SaveRefused` for one that would come back as another type."""
    import numpy as np
    from PIL import Image

    from airflow_zen.materializers.numpy.arrays import write_npy

    if type(image) is not Image.Image:
        raise SaveRefused(
            f"{type_name(type(image))} is bound to a file and would come back as PIL.Image.Image. Return image.copy()."
        )
    shape = f"{image.width} × {image.height} {image.mode}"
    metadata: dict[str, Any] = {"info": image.info} if image.info else {}
    if image.mode in _PNG_MODES and 0 < image.width * image.height <= _MAX_PNG_PIXELS:
        plain = image.copy()
        plain.info = {}
        plain.save(directory / IMAGE_PNG, format="PNG")
    else:
        metadata |= {"mode": image.mode, "size": image.size, "palette": _palette_of(image)}
        write_npy(np.frombuffer(image.tobytes(), dtype=np.uint8), directory / PIXELS_FILE)
    parts = write_typed_json(materializer, metadata, directory, METADATA_FILE) if metadata else []
    return {"shape": shape, "parts": parts} if parts else {"shape": shape}


def load_image(materializer: Materializer, directory: Path) -> Image.Image:
    """Read what `save_image` wrote."""
    from PIL import Image

    from airflow_zen.materializers.numpy.arrays import read_npy

    metadata = read_typed_json(materializer, directory, METADATA_FILE) if (directory / METADATA_FILE).exists() else {}
    if "mode" in metadata:
        image = Image.frombytes(metadata["mode"], metadata["size"], read_npy(directory / PIXELS_FILE).tobytes())
        if metadata["palette"] is not None:
            mode, colors = metadata["palette"]
            image.putpalette(colors, mode)
    else:
        image = _read_png(directory / IMAGE_PNG)
    image.info = metadata.get("info", {})
    return image


def load_figure_image(directory: Path) -> Image.Image:
    """Read the picture of a matplotlib figure."""
    image = _read_png(directory / FIGURE_PNG)
    image.info = {}
    return image


def _read_png(path: Path) -> Image.Image:
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as opened:
        return opened.copy()


def _palette_of(image: Image.Image) -> tuple[str, bytes] | None:
    if image.palette is None:
        return None
    image.load()
    mode = image.im.getpalettemode()
    return mode, bytes(image.im.getpalette(mode, mode))


_MAX_SIDE = 512
_MIN_SIDE = 32


def preview_image(value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes]:
    """Give the image at most 512 pixels wide and high, or smaller where that is still too large a file."""
    if not value.width or not value.height:
        return {}
    side = _MAX_SIDE
    while len(found := _thumbnail(value, side)) > MAX_PREVIEW_BYTES and side > _MIN_SIDE:
        side //= 2
    return {PREVIEW_PNG: found}


def _thumbnail(image: Any, side: int) -> bytes:
    scale = min(1.0, side / max(image.width, image.height))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    seen = _to_browser_mode(image.resize(size) if size != image.size else image.copy())
    seen.info = {}
    file = io.BytesIO()
    seen.save(file, "PNG")
    return file.getvalue()


def _to_browser_mode(image: Any) -> Any:
    """Give a mode that a browser shows: numbers without a scale of their own from the least to the greatest."""
    import numpy as np
    from PIL import Image

    if image.mode in {"I", "F"} or image.mode.startswith("I;"):
        numbers = np.nan_to_num(np.asarray(image, dtype=np.float64))
        span = np.ptp(numbers) or 1.0
        return Image.fromarray(((numbers - numbers.min()) / span * 255).astype(np.uint8))
    if image.mode in {"L", "LA", "RGB", "RGBA", "1"}:
        return image
    return image.convert("RGBA" if "A" in image.mode or "transparency" in image.info else "RGB")
