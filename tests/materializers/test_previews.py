"""Promises of `preview`: people see what was stored, and nothing that was stored can do anything."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

from airflow_zen.materializers.previews.page import MOST_BYTES
from airflow_zen.materializers.registry import default_registry
from tests.materializers import arrow_values, library_values, numpy_values, pandas_values
from tests.materializers.page_reading import HOSTILE, read

REGISTRY = default_registry(allow_pickle=True)


def previews(value: Any, tmp_path: Path) -> Any:
    """Give the previews of a value as they are made after it was saved."""
    directory = tmp_path / str(len(list(tmp_path.iterdir())))
    directory.mkdir()
    saved = REGISTRY.save(value, directory)
    return REGISTRY.preview(value, saved.encoding, saved.summary)


def columns() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "number": rng.normal(size=50_000),
        "name": np.array(["red", "green", "blue"])[rng.integers(0, 3, 50_000)],
        "when": pd.date_range("2024-01-01", periods=50_000, freq="min"),
        "yes": rng.random(50_000) > 0.5,
    }


TABLES = {
    "pandas": pd.DataFrame,
    "polars": lambda held: pl.from_pandas(pd.DataFrame(held)),
    "arrow": lambda held: pa.Table.from_pandas(pd.DataFrame(held), preserve_index=False),
}


@pytest.mark.parametrize("library", TABLES)
def test_a_table_shows_its_head_and_its_columns(library: str, tmp_path: Path) -> None:
    """A table shows its first 20 rows, and of each column type, missing values, and a chart of a sample."""
    value = TABLES[library]({**columns(), "gap": [None, *["x"] * 49_999]})
    page = read(previews(value, tmp_path))
    assert [tag for tag, _ in page.elements].count("svg") == 5
    assert [tag for tag, _ in page.elements].count("tr") == 1 + 20
    for seen in ("50000 rows × 5 columns", "number", "red", "green", "2024-01-01", "1 missing"):
        assert seen in page.text, seen


def test_a_chart_tells_how_values_are_spread(tmp_path: Path) -> None:
    """The bars of a histogram count the values, and the most frequent names stand with their share."""
    frame = pd.DataFrame({"x": [0.0] * 3 + [10.0], "name": ["b", "a", "a", "a"]})
    text = previews(frame, tmp_path)["preview.html"]
    assert "<title>3</title>" in text
    assert "<title>1</title>" in text
    assert text.index(">a<title>") < text.index(">b<title>")
    assert "75%" in text


@pytest.mark.parametrize("library", TABLES)
def test_names_and_cells_cannot_break_out(library: str, tmp_path: Path) -> None:
    """Column names, cells and frequent values are text in the page, whatever they look like."""
    value = TABLES[library]({name: list(HOSTILE) for name in HOSTILE})
    page = read(previews(value, tmp_path))
    assert page.text.count("<svg onload=alert(1)>") >= 1 + len(HOSTILE)


def test_labels_and_objects_cannot_break_out(tmp_path: Path) -> None:
    """Nor can row labels, categories, lists and objects."""
    frame = pd.DataFrame({"c": pd.Categorical(HOSTILE), "l": [[name] for name in HOSTILE]}, index=list(HOSTILE))
    assert "<svg onload=alert(1)>" in read(previews(frame, tmp_path)).text
    read(previews(pd.Series(list(HOSTILE), name=HOSTILE[0]), tmp_path))
    read(previews(pd.MultiIndex.from_product([HOSTILE, HOSTILE[:2]]), tmp_path))
    read(previews(np.array(HOSTILE), tmp_path))
    read(previews(np.array([(1,)], dtype=[("<script>", "i4")]), tmp_path))


def test_a_wide_table_is_cut_visibly(tmp_path: Path) -> None:
    """Of a table of many columns and long cells a part is shown, of bounded size, and the page says so."""
    frame = pd.DataFrame({f"column {n}": ["<" * 5000] * 40 for n in range(500)})
    page = read(previews(frame, tmp_path))
    assert "470 more columns" in page.text
    assert "more rows, too large for a preview" in page.text
    assert "column 29" in page.text
    assert "column 30" not in page.text


@pytest.mark.parametrize("value", [*pandas_values.ROWS.values()], ids=pandas_values.ROWS.keys())
def test_every_pandas_value_is_shown(value: Any, tmp_path: Path) -> None:
    """Every frame, series and index that is stored has a page."""
    files = previews(value, tmp_path)
    if isinstance(value, pd.DataFrame | pd.Series | pd.Index):
        read(files)


OTHERS = {**arrow_values.ARROW, **arrow_values.POLARS, **numpy_values.ROWS}


@pytest.mark.parametrize("value", OTHERS.values(), ids=OTHERS.keys())
def test_every_table_and_array_is_shown(value: Any, tmp_path: Path) -> None:
    """Every Arrow and polars table, and every array that is a file of its own, has a page."""
    files = previews(value, tmp_path)
    if isinstance(value, np.ndarray | pa.Table | pl.DataFrame):
        read(files)


def test_a_preview_changes_nothing(tmp_path: Path) -> None:
    """A value is the same after it was shown."""
    frame = pd.DataFrame(columns())
    before = frame.copy()
    previews(frame, tmp_path)
    pd.testing.assert_frame_equal(frame, before)


def test_an_array_shows_its_distribution_and_a_matrix_its_picture(tmp_path: Path) -> None:
    """An array shows dtype, shape and how its values are spread; a matrix is a picture too."""
    page = read(previews(np.arange(10_000, dtype="f4").reshape(100, 100), tmp_path))
    assert "float32 · shape (100, 100)" in page.text
    assert [tag for tag, _ in page.elements].count("img") == 1
    assert [tag for tag, _ in page.elements].count("rect") == 20
    assert "img" not in [tag for tag, _ in read(previews(np.arange(10_000), tmp_path)).elements]


@pytest.mark.parametrize("image", library_values.IMAGES.values(), ids=library_values.IMAGES.keys())
def test_an_image_has_a_thumbnail(image: Any, tmp_path: Path) -> None:
    """An image of every mode has a PNG that opens."""
    files = previews(image, tmp_path)
    if not isinstance(image, Image.Image) or not image.width:
        assert files == {}
        return
    assert Image.open(io.BytesIO(files["preview.png"])).size == image.size


def test_a_large_image_has_a_small_thumbnail(tmp_path: Path) -> None:
    """The thumbnail of noise, which does not compress, is as small as any other, and keeps its proportions."""
    noise = np.random.default_rng(0).integers(0, 255, (900, 1800, 3), dtype=np.uint8)
    content = previews(Image.fromarray(noise), tmp_path)["preview.png"]
    assert len(content) <= MOST_BYTES
    width, height = Image.open(io.BytesIO(content)).size
    assert width == 2 * height


def test_what_says_nothing_has_no_preview(tmp_path: Path) -> None:
    """A number, a text and a record need no picture."""
    for value in (1, "x", [1, 2], {"a": 1}, datetime(2024, 1, 1, tzinfo=UTC)):
        assert previews(value, tmp_path) == {}
