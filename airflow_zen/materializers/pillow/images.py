"""Images to PNG files or raw pixels, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.numpy.arrays import read_npy, write_npy
from airflow_zen.materializers.tree import read_typed_json, write_typed_json

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
    with Image.open(path, formats=["PNG"]) as opened:
        return opened.copy()


def _palette_of(image: Image.Image) -> tuple[str, bytes] | None:
    if image.palette is None:
        return None
    image.load()
    mode = image.im.getpalettemode()
    return mode, bytes(image.im.getpalette(mode, mode))
