"""Promises of matplotlib figures: the drawing comes back, and the figure itself where pickles are allowed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections import deque
from pathlib import Path
from threading import Barrier, Thread
from typing import Annotated, Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.figure import Figure
from PIL import Image

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.registry import default_registry
from tests.materializers import records
from tests.materializers.figure_values import ROWS, lines, pixels
from tests.materializers.round_trip import hash_files, make_directory

REGISTRY = default_registry()
TRUSTING = default_registry(allow_pickle=True)
FIGURES = pytest.mark.parametrize("make", ROWS.values(), ids=ROWS.keys())


@FIGURES
def test_figure_comes_back_as_its_drawing(make: Any, tmp_path: Path) -> None:
    """A figure's picture is, to the pixel, what matplotlib draws before and after; saved again it is the same bytes."""
    before = pixels(make())
    figure = make()
    saved = REGISTRY.save(figure, make_directory(tmp_path, "first"))
    assert (saved.encoding, saved.type) == ("matplotlib.figure@1", "matplotlib.figure.Figure")
    REGISTRY.save(figure, make_directory(tmp_path, "second"))
    assert set(hash_files(tmp_path / "first")) == {"figure.png", "figure.svg"}
    assert hash_files(tmp_path / "first") == hash_files(tmp_path / "second")
    loaded = REGISTRY.load(tmp_path / "first", saved.encoding, Image.Image)
    assert type(loaded) is Image.Image
    assert np.array_equal(np.asarray(loaded), before)
    assert np.array_equal(pixels(figure), before)


@FIGURES
def test_figure_comes_back_itself_where_pickles_are_allowed(make: Any, tmp_path: Path) -> None:
    """With pickles allowed the figure comes back as a figure with the same drawing, and its picture is stored too."""
    figure = make()
    before = pixels(figure)
    saved = TRUSTING.save(figure, tmp_path)
    assert {"figure.png", "figure.svg", "pickle/value.pkl", "pickle/python.json"} == set(hash_files(tmp_path))
    assert "cloudpickle" in saved.libraries
    loaded = TRUSTING.load(tmp_path, saved.encoding)
    assert type(loaded) is Figure
    assert np.array_equal(pixels(loaded), before)
    assert np.array_equal(np.asarray(REGISTRY.load(tmp_path, saved.encoding, Image.Image)), before)


def test_figures_inside_a_container(tmp_path: Path) -> None:
    """Figures in a dict are stored without any setting; the dict comes back where pickles are allowed, its files always."""
    value = {"loss": lines(), "score": 0.5}
    encoding = REGISTRY.save(value, make_directory(tmp_path, "drawn")).encoding
    with pytest.raises(ArtifactRefused, match="allow_pickle"):
        REGISTRY.load(tmp_path / "drawn", encoding)
    assert set(hash_files(REGISTRY.load(tmp_path / "drawn", encoding, Path))) == {
        "value.json",
        "parts/0/figure.png",
        "parts/0/figure.svg",
    }
    TRUSTING.save(value, make_directory(tmp_path, "pickled"))
    loaded = TRUSTING.load(tmp_path / "pickled", encoding)
    assert loaded["score"] == 0.5
    assert np.array_equal(pixels(loaded["loss"]), pixels(value["loss"]))


@pytest.mark.parametrize(
    "make",
    [lambda *of: list(of), lambda *of: tuple(of), lambda *of: dict(zip("ab", of, strict=True)), lambda *of: deque(of)],
)
def test_pictures_of_figures_inside_a_container(make: Any, tmp_path: Path) -> None:
    """A list, tuple, dict or deque of figures is loaded as the pictures that its consumer declares."""
    value = make(lines(), lines(dpi=50))
    encoding = REGISTRY.save(value, tmp_path).encoding
    declared = dict[str, Image.Image] if isinstance(value, dict) else type(value)[Image.Image]
    if isinstance(value, tuple):
        declared = tuple[Image.Image, ...]
    loaded = REGISTRY.load(tmp_path, encoding, declared)
    assert type(loaded) is type(value)
    for figure, picture in zip(members(value), members(loaded), strict=True):
        assert np.array_equal(np.asarray(picture), pixels(figure))


def test_each_member_of_a_container_has_its_own_view(tmp_path: Path) -> None:
    """A declared type applies member by member, as deep as the containers go; each position of a tuple has its own."""
    value = ({"loss": [lines()]}, lines(), [pd.DataFrame({"a": [1]})], 0.5)
    encoding = REGISTRY.save(value, tmp_path).encoding
    declared = tuple[dict[str, list[bytes] | None], Annotated[Image.Image, "plot"], list[pl.DataFrame], float]
    pictures, picture, tables, number = REGISTRY.load(tmp_path, encoding, declared | None)
    assert Image.open(io.BytesIO(pictures["loss"][0])).size == picture.size == (400, 300)
    assert (type(tables[0]), number) == (pl.DataFrame, 0.5)
    files = REGISTRY.load(tmp_path, encoding, tuple[dict[str, list[Path]], Path, list[Path], float])
    assert set(hash_files(files[1])) == {"figure.png", "figure.svg"}


def test_figures_inside_a_record(tmp_path: Path) -> None:
    """A dataclass with a figure is refused with an error that names pathlib.Path, which loads its files."""
    encoding = REGISTRY.save(records.Report("a", lines()), tmp_path).encoding
    with pytest.raises(ArtifactRefused, match=r"pathlib\.Path .* dataclass"):
        REGISTRY.load(tmp_path, encoding, records.Report)
    assert (REGISTRY.load(tmp_path, encoding, Path) / "parts/0/figure.png").is_file()


def members(value: Any) -> list[Any]:
    """Return the members of a container."""
    return list(value.values() if isinstance(value, dict) else value)


def test_the_views_of_a_figure(tmp_path: Path) -> None:
    """A figure can be asked for as its PNG in bytes, and as the directory of PNG and SVG."""
    encoding = REGISTRY.save(lines(), tmp_path).encoding
    content = REGISTRY.load(tmp_path, encoding, bytes)
    assert Image.open(io.BytesIO(content)).size == (400, 300)
    files = REGISTRY.load(tmp_path, encoding, Path)
    assert (files / "figure.png").read_bytes() == content
    root = ET.fromstring((files / "figure.svg").read_text("utf-8"))
    assert (root.tag, root.get("width")) == ("{http://www.w3.org/2000/svg}svg", "288pt")


@pytest.mark.parametrize(("writer", "reader"), [(REGISTRY, REGISTRY), (REGISTRY, TRUSTING), (TRUSTING, REGISTRY)])
def test_figure_without_a_pickle_is_refused(writer: Any, reader: Any, tmp_path: Path) -> None:
    """Loading the figure without a stored or allowed pickle is refused, and the error says what to ask for."""
    encoding = writer.save(lines(), tmp_path).encoding
    for wanted in (Figure, None):
        with pytest.raises(ArtifactRefused, match=r"PIL\.Image\.Image, for bytes .* pathlib\.Path .* allow_pickle"):
            reader.load(tmp_path, encoding, wanted)


CODE = """
import sys
from pathlib import Path
from airflow_zen.materializers.registry import default_registry
from tests.materializers.figure_values import ROWS
from tests.materializers.round_trip import hash_files, make_directory

junk = [bytearray(1 << 12) for _ in range(int(sys.argv[2]))]
for name, make in ROWS.items():
    directory = make_directory(Path(sys.argv[1]), name)
    default_registry().save(make(), directory)
    print(name, sorted(hash_files(directory).items()))
"""


def test_figure_is_the_same_bytes_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes of different hash seeds and memory draw every figure to the same files."""
    monkeypatch.setattr(sys, "argv", ["here", str(make_directory(tmp_path, "here")), "0"])
    exec(CODE, {})
    here = capsys.readouterr().out
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    command = [sys.executable, "-c", CODE, str(make_directory(tmp_path, "there")), "300"]
    environment, root = {**os.environ, "PYTHONHASHSEED": seed}, Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == here
    assert len(here.splitlines()) == len(ROWS)


def test_options_of_the_process_do_not_change_a_drawing(tmp_path: Path) -> None:
    """A process's own options of `savefig` change nothing, and are the same afterwards."""
    encoding = REGISTRY.save(lines(), make_directory(tmp_path, "plain")).encoding
    options = {"savefig.bbox": "tight", "savefig.facecolor": "red", "savefig.dpi": 30, "svg.image_inline": False}
    with mpl.rc_context(options):
        REGISTRY.save(lines(), make_directory(tmp_path, "options"))
        assert {name: mpl.rcParams[name] for name in options} == options
    assert hash_files(tmp_path / "plain") == hash_files(tmp_path / "options")
    assert REGISTRY.load(tmp_path / "options", encoding, Image.Image).size == (400, 300)


def test_saving_does_not_change_a_figure(tmp_path: Path) -> None:
    """A figure has the same canvas, resolution and layout after it was saved."""
    figure = lines(layout="constrained", dpi=80)
    held = (figure.canvas, figure.get_layout_engine(), figure.dpi)
    TRUSTING.save(figure, tmp_path)
    assert (figure.canvas, figure.get_layout_engine(), figure.dpi) == held


def test_figure_of_pyplot_is_stored(tmp_path: Path) -> None:
    """A figure that pyplot manages is stored like any other, and pyplot still manages it."""
    try:
        figure, axes = plt.subplots(figsize=(4, 3))
        axes.plot([1, 3, 2])
        drawn = pixels(figure)
        encoding = REGISTRY.save(figure, tmp_path).encoding
        assert np.array_equal(np.asarray(REGISTRY.load(tmp_path, encoding, Image.Image)), drawn)
        assert plt.gcf() is figure
    finally:
        plt.close("all")


def test_large_svg_is_not_stored(tmp_path: Path) -> None:
    """A figure whose SVG would be larger than 4 MB is stored as its PNG only."""
    figure = Figure(figsize=(4, 3))
    figure.subplots().scatter(*np.random.default_rng(0).random((2, 100_000)), s=1)
    drawn = pixels(figure)
    encoding = REGISTRY.save(figure, tmp_path).encoding
    assert set(hash_files(tmp_path)) == {"figure.png"}
    assert np.array_equal(np.asarray(REGISTRY.load(tmp_path, encoding, Image.Image)), drawn)
    assert np.array_equal(pixels(figure), drawn)


def test_figure_that_cannot_be_pickled_is_its_drawing(tmp_path: Path) -> None:
    """A figure with an object that cannot be pickled is stored as its drawing, also where pickles are allowed."""
    figure = lines()
    figure.open_file = (tmp_path / "open").open("w")  # type: ignore[attr-defined]
    with figure.open_file:  # type: ignore[attr-defined]
        saved = TRUSTING.save(figure, make_directory(tmp_path, "artifact"))
    assert set(hash_files(tmp_path / "artifact")) == {"figure.png", "figure.svg"}
    assert "parts" not in saved.summary


def test_figure_that_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    """A figure that matplotlib cannot draw is refused with matplotlib's reason; the call that it names shows when it can."""
    figure = Figure()
    title = figure.suptitle(r"$\notacommand$")
    with pytest.raises(SaveRefused, match=r"(?s)cannot be drawn: .*notacommand.*Try figure\.savefig\('figure\.png'\)"):
        REGISTRY.save(figure, make_directory(tmp_path, "refused"))
    with pytest.raises(ValueError, match="notacommand"):
        figure.savefig(tmp_path / "figure.png")
    title.set_text("a title")
    figure.savefig(tmp_path / "figure.png")
    REGISTRY.save(figure, make_directory(tmp_path, "artifact"))
    assert set(hash_files(tmp_path / "artifact")) == {"figure.png", "figure.svg"}


def test_figures_are_drawn_one_at_a_time(tmp_path: Path) -> None:
    """Figures that are saved in several threads, as outputs of a step are, have the same bytes as one at a time."""
    expected = {}
    for name in ("lines", "scatter on a log scale", "subfigures"):
        REGISTRY.save(ROWS[name](), make_directory(tmp_path, f"alone {name}"))
        expected[name] = hash_files(tmp_path / f"alone {name}")
    shared = [(name, ROWS[name]()) for name in expected]
    start = Barrier(2 * len(shared))
    found: dict[str, Any] = {}

    def save(name: str, figure: Figure, directory: Path) -> None:
        start.wait()
        REGISTRY.save(figure, directory)
        found[directory.name] = hash_files(directory) == expected[name]

    directories = [make_directory(tmp_path, str(at)) for at in range(2 * len(shared))]
    threads = [
        Thread(target=save, args=(*shared[at % len(shared)], directory)) for at, directory in enumerate(directories)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [True] * 2 * len(shared)


def test_matplotlib_is_imported_for_figures_alone() -> None:
    """A process that saves, previews and loads other values does not import matplotlib."""
    code = (
        "import sys, tempfile, pathlib, pandas\n"
        "from airflow_zen.materializers.registry import default_registry\n"
        "registry = default_registry()\n"
        "for value in (pandas.DataFrame({'a': [1]}), {'a': 1}, pathlib.Path(sys.executable)):\n"
        "    directory = pathlib.Path(tempfile.mkdtemp())\n"
        "    saved = registry.save(value, directory)\n"
        "    registry.preview(value, saved.encoding, saved.summary)\n"
        "    registry.load(directory, saved.encoding)\n"
        "print('matplotlib' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
