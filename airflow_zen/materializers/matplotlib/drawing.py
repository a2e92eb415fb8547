"""Draw a figure to the same bytes each time, and leave it as it was."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg

MOST_SVG = 4 * 1024 * 1024
"""Characters of an SVG beyond which it is not kept: one of a million points is slower to open than its data."""

_OPTIONS: Any = {
    "svg.hashsalt": "airflow_zen",
    "svg.image_inline": True,
    "savefig.bbox": "standard",
    "savefig.dpi": "figure",
    "savefig.facecolor": "auto",
    "savefig.edgecolor": "auto",
}

_POSITIONS = ("left", "right", "bottom", "top", "wspace", "hspace")

# matplotlib's options and fonts belong to the process, and outputs are saved in several threads.
_ONE_AT_A_TIME = Lock()


def drawn(figure: Any) -> tuple[bytes, bytes | None]:
    """Draw a figure as PNG in its own resolution, and as SVG; None where that is larger than `MOST_SVG`."""
    with _canvas(figure) as canvas, _kept_positions(figure):
        picture = _png(canvas)
        with _kept_layout(figure):
            return picture, _svg(canvas)


def png(figure: Any, dpi: float) -> bytes:
    """Draw a figure as PNG."""
    with _canvas(figure) as canvas, _kept_positions(figure):
        return _png(canvas, dpi)


def _png(canvas: FigureCanvasAgg, dpi: float | None = None) -> bytes:
    file = io.BytesIO()
    canvas.print_figure(file, dpi=dpi, format="png", metadata={"Software": None})
    return file.getvalue()


def _svg(canvas: FigureCanvasAgg) -> bytes | None:
    file = _Bounded()
    try:
        canvas.print_figure(file, format="svg", metadata={"Date": None, "Creator": None})
    except _TooLargeError:
        return None
    return file.getvalue().encode()


class _TooLargeError(Exception):
    """Say that drawing goes on for too long."""


class _Bounded(io.StringIO):
    """Take a text, and raise `_TooLargeError` beyond `MOST_SVG`."""

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.tell() > MOST_SVG:
            raise _TooLargeError
        return written


@contextmanager
def _canvas(figure: Any) -> Iterator[FigureCanvasAgg]:
    """Give a canvas of our own: that of the figure may be a window's."""
    with _ONE_AT_A_TIME, mpl.rc_context(_OPTIONS):
        own = figure.canvas
        try:
            yield FigureCanvasAgg(figure)
        finally:
            figure.set_canvas(own)


@contextmanager
def _kept_positions(figure: Any) -> Iterator[None]:
    """Put the axes back where they were: a tight layout comes out a little different when it starts from another one."""
    engine, held = figure.get_layout_engine(), {name: getattr(figure.subplotpars, name) for name in _POSITIONS}
    try:
        yield
    finally:
        if engine is not None and engine.adjust_compatible:
            figure.subplots_adjust(**held)


@contextmanager
def _kept_layout(figure: Any) -> Iterator[None]:
    """Give the SVG the layout of the picture, and not one for the 72 dots per inch that it has."""
    engine = figure.get_layout_engine()
    if engine is None:
        yield
        return
    figure.set_layout_engine("none")
    try:
        yield
    finally:
        figure.set_layout_engine(engine)
