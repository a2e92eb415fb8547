"""matplotlib figures as they are drawn, and as pickles beside that where a deployment allows them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.cloudpickle import PickleMaterializer
from airflow_zen.materializers.previews.html import MAX_PREVIEW_BYTES, PREVIEW_PNG
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg


FIGURE_PNG = "figure.png"
FIGURE_SVG = "figure.svg"
PICKLE_FOLDER = "pickle"


class FigureMaterializer(Materializer):
    """Save what a figure looks like; and the figure itself only where `[zen] allow_pickle` says so.

    A figure is a graph of objects that only pickle writes, in bytes that differ from process to process (its
    transforms are kept by address), and reading it back needs `getattr` and `functools.partial`, with which a
    forged file does what it likes. What it draws is the same bytes each time.

    Loads as `bytes` (the PNG) too; Pillow and `pathlib.Path` have views of their own.
    """

    types = ("matplotlib.figure.Figure",)
    encoding = "matplotlib.figure@1"
    views = ("builtins.bytes",)
    libraries = ("matplotlib",)
    extra = "matplotlib"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `figure.png`, `figure.svg` unless it is large, and where pickles are allowed `pickle/`."""
        try:
            picture, vectors = render_figure(value)
        except Exception as error:
            raise SaveRefused(
                f"A figure is stored as it is drawn, and this one cannot be drawn: {error}. Try figure.savefig('figure.png')."
            ) from error
        (directory / FIGURE_PNG).write_bytes(picture)
        if vectors:
            (directory / FIGURE_SVG).write_bytes(vectors)
        parts = self._save_pickle(value, directory / PICKLE_FOLDER) if self.registry.allow_pickle else []
        width, height = map(int, value.bbox.size)
        summary = {"shape": f"{width} × {height} pixels"}
        return {**summary, "parts": parts} if parts else summary

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Draw the figure, smaller where it is large."""
        return preview_matplotlib_figure(value)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the PNG for `bytes`, else the pickled figure; raises `ArtifactRefused` without one."""
        if wanted is bytes:
            return (directory / FIGURE_PNG).read_bytes()
        if not self.registry.allow_pickle or not (directory / PICKLE_FOLDER).is_dir():
            raise ArtifactRefused(
                "A matplotlib figure comes back as it was drawn: ask for PIL.Image.Image, for bytes (its PNG), or for "
                "pathlib.Path (PNG and SVG); of figures in a list or dict for list[PIL.Image.Image], dict[str, bytes], or "
                "pathlib.Path (the files of all of it), which also shows those in a dataclass. The figure itself comes back only from a pickle: set [zen] allow_pickle = "
                "True where it is stored and where it is loaded, if everything under the artifact root may be trusted "
                "with that."
            )
        return self.registry.load(directory / PICKLE_FOLDER, PickleMaterializer.encoding)

    def _save_pickle(self, value: Any, directory: Path) -> list[dict[str, str]]:
        """Pickle the figure beside its drawing; one that has no pickle is its drawing alone."""
        directory.mkdir()
        try:
            saved = self.registry.save(value, directory, by=PickleMaterializer)
        except SaveRefused:
            directory.rmdir()
            return []
        return [{"path": PICKLE_FOLDER, "encoding": saved.encoding, "type": type_name(type(value))}]


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
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg

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


_MAX_WIDTH = 1000.0
_MIN_DPI = 20.0


def preview_matplotlib_figure(figure: Any) -> Mapping[str, bytes]:
    """Draw a figure at most 1000 pixels wide, or smaller where that is too large a file."""
    width, height = figure.get_size_inches()
    dpi = min(100.0, _MAX_WIDTH / max(width, height, 1e-3))
    while len(found := render_png(figure, dpi)) > MAX_PREVIEW_BYTES and dpi > _MIN_DPI:
        dpi /= 1.5
    return {PREVIEW_PNG: found}
