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
from airflow_zen.materializers.tree import read_tree, write_tree

PNG = "image.png"
PIXELS = "pixels.npy"
NOTE = "image.json"
DRAWING = "figure.png"

# PNG has other modes too, and gives them back as one of these.
_KEPT_BY_PNG = frozenset({"1", "L", "LA", "RGB", "RGBA", "I;16"})

# Pillow warns of, and from twice as many on refuses, a file of more: its own MAX_IMAGE_PIXELS, which a process may change.
_MOST_PIXELS_OF_A_PNG = (1 << 30) // 4 // 3


def save_image(materializer: Materializer, image: Any, directory: Path) -> Mapping[str, Any]:
    """Write an image; raises `SaveRefused` for one that would come back as another type."""
    if type(image) is not Image.Image:
        raise SaveRefused(
            f"{type_name(type(image))} is bound to a file and would come back as PIL.Image.Image. Return image.copy()."
        )
    shape = f"{image.width} × {image.height} {image.mode}"
    note: dict[str, Any] = {"info": image.info} if image.info else {}
    if image.mode in _KEPT_BY_PNG and 0 < image.width * image.height <= _MOST_PIXELS_OF_A_PNG:
        plain = image.copy()
        plain.info = {}
        plain.save(directory / PNG, format="PNG")
    else:
        note |= {"mode": image.mode, "size": image.size, "palette": _palette(image)}
        write_npy(np.frombuffer(image.tobytes(), dtype=np.uint8), directory / PIXELS)
    parts = write_tree(materializer, note, directory, NOTE) if note else []
    return {"shape": shape, "parts": parts} if parts else {"shape": shape}


def load_image(materializer: Materializer, directory: Path) -> Image.Image:
    """Read what `save_image` wrote."""
    note = read_tree(materializer, directory, NOTE) if (directory / NOTE).exists() else {}
    if "mode" in note:
        image = Image.frombytes(note["mode"], note["size"], read_npy(directory / PIXELS).tobytes())
        if note["palette"] is not None:
            mode, colors = note["palette"]
            image.putpalette(colors, mode)
    else:
        image = _opened(directory / PNG)
    image.info = note.get("info", {})
    return image


def load_drawing(directory: Path) -> Image.Image:
    """Read the picture of a matplotlib figure."""
    image = _opened(directory / DRAWING)
    image.info = {}
    return image


def _opened(path: Path) -> Image.Image:
    with Image.open(path, formats=["PNG"]) as opened:
        return opened.copy()


def _palette(image: Image.Image) -> tuple[str, bytes] | None:
    if image.palette is None:
        return None
    image.load()
    mode = image.im.getpalettemode()
    return mode, bytes(image.im.getpalette(mode, mode))
