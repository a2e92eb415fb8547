"""Draw a figure to the same bytes each time, and leave it as it was."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg

MAX_SVG_LENGTH = 4 * 1024 * 1024
"""Characters of an SVG beyond which it is not kept: one of a million points is slower to open than its data."""

_RC_OPTIONS: Any = {
    "svg.hashsalt": "airflow_zen",
    "svg.image_inline": True,
    "savefig.bbox": "standard",
    "savefig.dpi": "figure",
    "savefig.facecolor": "auto",
    "savefig.edgecolor": "auto",
}

_SUBPLOT_POSITIONS = ("left", "right", "bottom", "top", "wspace", "hspace")

# matplotlib's options and fonts belong to the process, and outputs are saved in several threads.
_RENDER_LOCK = Lock()


def render_figure(figure: Any) -> tuple[bytes, bytes | None]:
    """Draw a figure as PNG in its own resolution, and as SVG; None where that is larger than `MAX_SVG_LENGTH`."""
    with _agg_canvas(figure) as canvas, _restore_positions(figure):
        picture = _print_png(canvas)
        with _freeze_layout(figure):
            return picture, _print_svg(canvas)


def render_png(figure: Any, dpi: float) -> bytes:
    """Draw a figure as PNG."""
    with _agg_canvas(figure) as canvas, _restore_positions(figure):
        return _print_png(canvas, dpi)


def _print_png(canvas: FigureCanvasAgg, dpi: float | None = None) -> bytes:
    file = io.BytesIO()
    canvas.print_figure(file, dpi=dpi, format="png", metadata={"Software": None})
    return file.getvalue()


def _print_svg(canvas: FigureCanvasAgg) -> bytes | None:
    file = _BoundedText()
    try:
        canvas.print_figure(file, format="svg", metadata={"Date": None, "Creator": None})
    except _TooLargeError:
        return None
    return file.getvalue().encode()


class _TooLargeError(Exception):
    """Say that drawing goes on for too long."""


class _BoundedText(io.StringIO):
    """Take a text, and raise `_TooLargeError` beyond `MAX_SVG_LENGTH`."""

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.tell() > MAX_SVG_LENGTH:
            raise _TooLargeError
        return written


@contextmanager
def _agg_canvas(figure: Any) -> Iterator[FigureCanvasAgg]:
    """Give a canvas of our own: that of the figure may be a window's."""
    with _RENDER_LOCK, mpl.rc_context(_RC_OPTIONS):
        own = figure.canvas
        try:
            yield FigureCanvasAgg(figure)
        finally:
            figure.set_canvas(own)


@contextmanager
def _restore_positions(figure: Any) -> Iterator[None]:
    """Put the axes back where they were: a tight layout comes out a little different when it starts from another one."""
    engine, held = figure.get_layout_engine(), {name: getattr(figure.subplotpars, name) for name in _SUBPLOT_POSITIONS}
    try:
        yield
    finally:
        if engine is not None and engine.adjust_compatible:
            figure.subplots_adjust(**held)


@contextmanager
def _freeze_layout(figure: Any) -> Iterator[None]:
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
