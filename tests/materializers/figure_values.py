"""Rows of the round-trip table: matplotlib figures, which come back as their drawings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle

_NOISE = np.random.default_rng(0).normal(size=(2, 100))


def pixels(figure: Figure) -> Any:
    """Draw a figure the way matplotlib does, as an array of its pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())


def lines(**options: Any) -> Figure:
    """Draw two lines with a legend, and an image beside them."""
    figure = Figure(figsize=(4, 3), **options)
    left, right = figure.subplots(1, 2)
    left.plot([1, 3, 2], label="é")
    left.plot([2, 1, 4], "--", label="$\\alpha^2$")
    left.legend()
    left.set_xlabel("a long label\nof two lines")
    right.imshow(np.arange(12.0).reshape(3, 4))
    return figure


def _scatter() -> Figure:
    figure = Figure(figsize=(3, 2), facecolor="#ffeecc", dpi=150)
    axes = figure.subplots()
    drawn = axes.scatter(*_NOISE, c=_NOISE[0], s=20, alpha=0.5)
    axes.set_yscale("symlog")
    figure.colorbar(drawn, ax=axes)
    return figure


def _clipped() -> Figure:
    figure = Figure(figsize=(2, 2))
    axes = figure.subplots()
    image = axes.imshow(_NOISE.reshape(10, 20))
    image.set_clip_path(Circle((10, 5), 4, transform=axes.transData))
    axes.bar([1, 2], [3, 4], hatch="//")
    axes.fill_between([0, 5, 9], [1, 2, 1], alpha=0.3)
    return figure


def _subfigures() -> Figure:
    figure = Figure(figsize=(4, 2))
    for at, part in enumerate(figure.subfigures(1, 2)):
        part.suptitle(f"part {at}")
        part.subplots().hist(_NOISE[at], bins=20)
    return figure


def _space() -> Figure:
    figure = Figure(figsize=(2, 2))
    figure.add_subplot(projection="3d").plot_surface(*np.meshgrid(range(5), range(5)), np.arange(25).reshape(5, 5))
    return figure


ROWS: dict[str, Callable[[], Figure]] = {
    "empty figure": Figure,
    "lines": lines,
    "constrained layout": lambda: lines(layout="constrained"),
    "tight layout": lambda: lines(layout="tight"),
    "scatter on a log scale": _scatter,
    "clip paths and hatches": _clipped,
    "subfigures": _subfigures,
    "surface": _space,
}
