"""matplotlib figures as they are drawn, and as pickles beside that where a deployment allows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.names import type_name
from airflow_zen.materializers.pickle import PickleMaterializer

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
        from airflow_zen.materializers.matplotlib.drawing import render_figure

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
        from airflow_zen.materializers.matplotlib.preview import preview_matplotlib_figure

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
