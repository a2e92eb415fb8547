"""matplotlib figures as drawings, with a pickle beside them where pickles are allowed."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import MAX_PREVIEW_BYTES, PREVIEW_PNG
from airflow_zen.type_names import type_name

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

FIGURE_PNG = "figure.png"
FIGURE_SVG = "figure.svg"
PICKLE_FOLDER = "pickle"
_PICKLE = "cloudpickle@1"

MAX_SVG_LENGTH = 4 * 1024 * 1024
"""Characters of the largest SVG that is kept: one of a million points opens more slowly than its data."""

_MAX_PREVIEW_WIDTH = 1000.0
_MIN_PREVIEW_DPI = 20.0
_SUBPLOT_POSITIONS = ("left", "right", "bottom", "top", "wspace", "hspace")
_RC_OPTIONS: Any = {
    "svg.hashsalt": "airflow_zen",
    "svg.image_inline": True,
    "savefig.bbox": "standard",
    "savefig.dpi": "figure",
    "savefig.facecolor": "auto",
    "savefig.edgecolor": "auto",
}

# matplotlib's options and fonts belong to the process, and outputs are saved in several threads.
_RENDER_LOCK = Lock()


class FigureMaterializer(Materializer):
    """Save the drawing of a figure, and the figure itself only where `[zen] allow_pickle` is set.

    A figure is a graph of objects that only pickle writes, in bytes that differ from process to process (its
    transforms are kept by address). Reading it needs `getattr` and `functools.partial`, with which a
    forged file can run anything. Its drawing is the same bytes each time.

    Loads as `bytes` (the PNG) too; Pillow and `pathlib.Path` have their own views.
    """

    types = ("matplotlib.figure.Figure",)
    encoding = "matplotlib.figure@1"
    views = ("builtins.bytes",)
    libraries = ("matplotlib",)
    extra = "matplotlib"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `figure.png`, `figure.svg` unless it is large, and where pickles are allowed `pickle/`."""
        try:
            with _agg_canvas(value) as canvas:
                picture, vectors = _print_png(canvas), _print_svg(canvas)
        except Exception as error:
            raise SaveRefused(
                f"A figure is stored as its drawing, and this one cannot be drawn: {error}. Try figure.savefig('figure.png')."
            ) from error
        (directory / FIGURE_PNG).write_bytes(picture)
        if vectors:
            (directory / FIGURE_SVG).write_bytes(vectors)
        parts = self._save_pickle(value, directory / PICKLE_FOLDER) if self.registry.allow_pickle else {}
        width, height = map(int, value.bbox.size)
        return {"shape": f"{width} × {height} pixels", **parts}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the PNG for `bytes`, else the pickled figure; raises `ArtifactRefused` without one."""
        if wanted is bytes:
            return (directory / FIGURE_PNG).read_bytes()
        if not self.registry.allow_pickle or not (directory / PICKLE_FOLDER).is_dir():
            raise ArtifactRefused(
                "A matplotlib figure is loaded as its drawing: ask for PIL.Image.Image, for bytes (its PNG), or for "
                "pathlib.Path (PNG and SVG). For figures in a list or dict ask for list[PIL.Image.Image] or "
                "dict[str, bytes]. For any value with figures inside, also a dataclass, ask for pathlib.Path (all its "
                "files). The figure itself is loaded from a pickle only: set [zen] allow_pickle = True where it is "
                "stored and where it is loaded, if everything under the artifact root may be trusted with that."
            )
        return self.registry.load(directory / PICKLE_FOLDER, _PICKLE)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Draw the figure at most 1000 pixels wide, smaller where its file is too large."""
        dpi = min(100.0, _MAX_PREVIEW_WIDTH / max(*value.get_size_inches(), 1e-3))
        with _agg_canvas(value) as canvas:
            while len(picture := _print_png(canvas, dpi)) > MAX_PREVIEW_BYTES and dpi > _MIN_PREVIEW_DPI:
                dpi /= 1.5
        return {PREVIEW_PNG: picture}

    def _save_pickle(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Pickle the figure beside its drawing, and return it as a part; nothing if it cannot be pickled."""
        directory.mkdir()
        try:
            saved = self.registry.save(value, directory, by=type(self.registry.for_encoding(_PICKLE)))
        except SaveRefused:
            directory.rmdir()
            return {}
        return {"parts": [{"path": PICKLE_FOLDER, "encoding": saved.encoding, "type": type_name(type(value))}]}


def _print_png(canvas: FigureCanvasAgg, dpi: float | None = None) -> bytes:
    file = io.BytesIO()
    canvas.print_figure(file, dpi=dpi, format="png", metadata={"Software": None})
    return file.getvalue()


def _print_svg(canvas: FigureCanvasAgg) -> bytes | None:
    """Return the SVG; None if it is longer than `MAX_SVG_LENGTH`.

    It has the layout of the last picture, because 72 dots per inch would change the layout.
    """
    file, figure = _BoundedText(), canvas.figure
    engine = figure.get_layout_engine()
    if engine:
        figure.set_layout_engine("none")
    try:
        canvas.print_figure(file, format="svg", metadata={"Date": None, "Creator": None})
    except BufferError:
        return None
    finally:
        if engine:
            figure.set_layout_engine(engine)
    return file.getvalue().encode()


class _BoundedText(io.StringIO):
    """A text that raises `BufferError` where it would exceed `MAX_SVG_LENGTH`."""

    def write(self, text: str) -> int:
        if self.tell() + len(text) > MAX_SVG_LENGTH:
            raise BufferError
        return super().write(text)


@contextmanager
def _agg_canvas(figure: Any) -> Iterator[FigureCanvasAgg]:
    """Yield a separate canvas, because that of the figure may be a window's; restore canvas and layout afterwards."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with _RENDER_LOCK, mpl.rc_context(_RC_OPTIONS):
        own, engine = figure.canvas, figure.get_layout_engine()
        positions = {name: getattr(figure.subplotpars, name) for name in _SUBPLOT_POSITIONS}
        try:
            yield FigureCanvasAgg(figure)
        finally:
            # A tight layout that starts from other positions ends with slightly different ones.
            if engine is not None and engine.adjust_compatible:
                figure.subplots_adjust(**positions)
            figure.set_canvas(own)
