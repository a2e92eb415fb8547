"""Tests of previews: they show what was stored, and run nothing of it."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas
import lightgbm
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import shapely
import xarray as xr
import xgboost
from matplotlib.figure import Figure
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from airflow_zen.materializers.previews.html import MAX_PREVIEW_BYTES
from airflow_zen.materializers.registry import default_registry
from airflow_zen.materializers.texts import CSVString, HTMLString, JSONString, MarkdownString
from tests.materializers import arrow_values, library_values, ml_values, numpy_values, pandas_values, sparse_values
from tests.materializers.page_reading import HOSTILE, read_preview_page

REGISTRY = default_registry(allow_pickle=True)


def previews(value: Any, tmp_path: Path) -> Any:
    """Return the previews of a value, made after it was saved."""
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
    page = read_preview_page(previews(value, tmp_path))
    assert [tag for tag, _ in page.elements].count("svg") == 5
    assert [tag for tag, _ in page.elements].count("tr") == 1 + 20
    for seen in ("50000 rows × 5 columns", "number", "red", "green", "2024-01-01", "1 missing"):
        assert seen in page.text, seen


def test_a_chart_counts_values(tmp_path: Path) -> None:
    """The bars of a histogram count the values, and the most frequent names have their shares."""
    frame = pd.DataFrame({"x": [0.0] * 3 + [10.0], "name": ["b", "a", "a", "a"]})
    text = previews(frame, tmp_path)["preview.html"]
    assert "<title>3</title>" in text
    assert "<title>1</title>" in text
    assert text.index(">a<title>") < text.index(">b<title>")
    assert "75%" in text


def test_few_integers_have_a_bar_each(tmp_path: Path) -> None:
    """A histogram of seven different integers has seven bars, and no gaps between them."""
    page = read_preview_page(previews(pd.DataFrame({"day": np.arange(700) % 7}), tmp_path))
    assert [tag for tag, _ in page.elements].count("rect") == 7
    assert page.text.count("100") == 7


@pytest.mark.parametrize("library", TABLES)
def test_names_and_cells_are_escaped(library: str, tmp_path: Path) -> None:
    """Column names, cells and frequent values are text in the page, whatever they contain."""
    value = TABLES[library]({name: list(HOSTILE) for name in HOSTILE})
    page = read_preview_page(previews(value, tmp_path))
    assert page.text.count("<svg onload=alert(1)>") >= 1 + len(HOSTILE)


def test_labels_and_objects_are_escaped(tmp_path: Path) -> None:
    """Row labels, categories, lists and objects are text in the page."""
    frame = pd.DataFrame({"c": pd.Categorical(HOSTILE), "l": [[name] for name in HOSTILE]}, index=list(HOSTILE))
    assert "<svg onload=alert(1)>" in read_preview_page(previews(frame, tmp_path)).text
    read_preview_page(previews(pd.Series(list(HOSTILE), name=HOSTILE[0]), tmp_path))
    read_preview_page(previews(pd.MultiIndex.from_product([HOSTILE, HOSTILE[:2]]), tmp_path))
    read_preview_page(previews(np.array(HOSTILE), tmp_path))
    read_preview_page(previews(np.array([(1,)], dtype=[("<script>", "i4")]), tmp_path))


def test_a_wide_table_is_cut_with_a_note(tmp_path: Path) -> None:
    """A table of many columns and long cells is shown in part, and the page says so."""
    frame = pd.DataFrame({f"column {n}": ["<" * 5000] * 40 for n in range(500)})
    page = read_preview_page(previews(frame, tmp_path))
    assert "470 more columns" in page.text
    assert "more rows, too large for a preview" in page.text
    assert "column 29" in page.text
    assert "column 30" not in page.text


@pytest.mark.parametrize("value", [*pandas_values.ROWS.values()], ids=pandas_values.ROWS.keys())
def test_every_pandas_value_is_shown(value: Any, tmp_path: Path) -> None:
    """Every frame, series and index that is stored has a page."""
    files = previews(value, tmp_path)
    if isinstance(value, pd.DataFrame | pd.Series | pd.Index):
        read_preview_page(files)


OTHERS = {**arrow_values.ARROW, **arrow_values.POLARS, **numpy_values.ROWS}


@pytest.mark.parametrize("value", OTHERS.values(), ids=OTHERS.keys())
def test_every_table_and_array_is_shown(value: Any, tmp_path: Path) -> None:
    """Every Arrow and polars table, and every array that is a file of its own, has a page."""
    files = previews(value, tmp_path)
    if isinstance(value, np.ndarray | pa.Table | pl.DataFrame):
        read_preview_page(files)


def test_a_preview_changes_nothing(tmp_path: Path) -> None:
    """A value is the same after its preview."""
    frame = pd.DataFrame(columns())
    before = frame.copy()
    previews(frame, tmp_path)
    pd.testing.assert_frame_equal(frame, before)


def test_an_array_shows_its_distribution_and_a_matrix_its_picture(tmp_path: Path) -> None:
    """An array shows dtype, shape and distribution; a matrix also a picture."""
    page = read_preview_page(previews(np.arange(10_000, dtype="f4").reshape(100, 100), tmp_path))
    assert "(100, 100) float32" in page.text
    assert [tag for tag, _ in page.elements].count("img") == 1
    assert [tag for tag, _ in page.elements].count("rect") == 20
    assert "img" not in [tag for tag, _ in read_preview_page(previews(np.arange(10_000), tmp_path)).elements]


@pytest.mark.parametrize("image", library_values.IMAGES.values(), ids=library_values.IMAGES.keys())
def test_an_image_has_a_thumbnail(image: Any, tmp_path: Path) -> None:
    """An image of every mode has a PNG that opens; a list of images has one for each."""
    files = previews(image, tmp_path)
    if isinstance(image, list):
        sizes = [Image.open(io.BytesIO(files[f"{number}.png"])).size for number in range(len(image))]
        assert sizes == [one.size for one in image]
        return
    if not isinstance(image, Image.Image) or not image.width:
        assert files == {}
        return
    assert Image.open(io.BytesIO(files["preview.png"])).size == image.size


def test_wide_image_of_numbers_has_a_thumbnail(tmp_path: Path) -> None:
    """An image of 16-bit numbers is scaled down like any other."""
    content = previews(Image.fromarray(np.zeros((2, 3000), dtype=np.uint16)), tmp_path)["preview.png"]
    assert Image.open(io.BytesIO(content)).size == (512, 1)


def test_a_large_image_has_a_small_thumbnail(tmp_path: Path) -> None:
    """The thumbnail of incompressible noise is within the size limit, and keeps its proportions."""
    noise = np.random.default_rng(0).integers(0, 255, (900, 1800, 3), dtype=np.uint8)
    content = previews(Image.fromarray(noise), tmp_path)["preview.png"]
    assert len(content) <= MAX_PREVIEW_BYTES
    width, height = Image.open(io.BytesIO(content)).size
    assert width == 2 * height


X = pd.DataFrame(
    np.random.default_rng(0).normal(size=(200, 4)), columns=["age", "income", HOSTILE[0].replace("<", "‹"), "x"]
)
Y = (X["age"] + X["income"] / 5 > 0).astype(int)
QUIET = {"n_estimators": 4, "n_jobs": 1, "verbose": -1}
MODELS: dict[str, Any] = {
    "forest": lambda: RandomForestClassifier(5, random_state=0).fit(X, Y),
    "linear": lambda: LogisticRegression().fit(X, Y),
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=4, n_jobs=1).fit(X.iloc[:, :2], Y),
    "xgboost booster": lambda: xgboost.XGBRegressor(n_estimators=4, n_jobs=1).fit(X.iloc[:, :2], Y).get_booster(),
    "lightgbm": lambda: lightgbm.LGBMClassifier(**QUIET).fit(X.iloc[:, :2], Y),
    "lightgbm booster": lambda: lightgbm.LGBMClassifier(**QUIET).fit(X.iloc[:, :2], Y).booster_,
}
UNWEIGHTED: dict[str, Any] = {
    "not fitted": lambda: RandomForestClassifier(max_depth=3),
    "neighbours": lambda: KNeighborsClassifier().fit(X, Y),
    "not fitted xgboost": lambda: xgboost.XGBClassifier(max_depth=3),
    "linear xgboost": lambda: xgboost.XGBRegressor(n_estimators=4, booster="gblinear", n_jobs=1).fit(X.iloc[:, :2], Y),
    "not fitted lightgbm": lambda: lightgbm.LGBMClassifier(max_depth=3),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_a_model_shows_its_parameters_and_features(make: Any, tmp_path: Path) -> None:
    """A fitted model shows the weights of its features, the greatest first, by name where it has names."""
    page = read_preview_page(previews(make(), tmp_path))
    assert [tag for tag, _ in page.elements].count("rect") >= 2
    first = "feature 0" if isinstance(make(), Pipeline) else "age"
    second = "feature 1" if isinstance(make(), Pipeline) else "income"
    assert page.text.index(first) < page.text.index(second)


@pytest.mark.parametrize("make", UNWEIGHTED.values(), ids=UNWEIGHTED.keys())
def test_a_model_without_weights_shows_its_parameters(make: Any, tmp_path: Path) -> None:
    """A model that is not fitted, or has no weights, shows its parameters alone."""
    page = read_preview_page(previews(make(), tmp_path))
    assert "Parameters" in page.text
    assert any(name in page.text for name in ("max_depth", "n_neighbors", "gblinear"))


def test_feature_names_are_escaped(tmp_path: Path) -> None:
    """Names of features and values of parameters are text in the page."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, len(HOSTILE))), columns=list(HOSTILE))
    page = read_preview_page(previews(LogisticRegression().fit(frame, frame[HOSTILE[0]] > 0), tmp_path))
    assert page.text.count("alert(1)") >= 5
    unfitted = RandomForestClassifier(criterion=HOSTILE[0])
    assert HOSTILE[0] in read_preview_page(REGISTRY.preview(unfitted, "sklearn.mlflow@3", {"shape": HOSTILE[1]})).text


@pytest.mark.ml
def test_a_catboost_model_shows_its_features(tmp_path: Path) -> None:
    """A CatBoost model shows how much each feature changes predictions."""
    catboost = pytest.importorskip("catboost", reason="catboost is not installed: make test-ml")
    options = {"iterations": 3, "depth": 2, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    page = read_preview_page(previews(catboost.CatBoostClassifier(**options).fit(X.iloc[:, :2], Y), tmp_path))
    assert page.text.index("age") < page.text.index("income")
    read_preview_page(previews(catboost.CatBoostClassifier(**options), tmp_path))


def test_html_is_shown_in_a_sandbox(tmp_path: Path) -> None:
    """An HTML text is shown in a sandboxed frame, with its source below."""
    page = read_preview_page(previews(HTMLString("<h1>Report</h1>\n<script>alert(1)</script>"), tmp_path))
    ((_, frame),) = [element for element in page.elements if element[0] == "iframe"]
    assert frame == {"sandbox": "", "srcdoc": "<h1>Report</h1>\n<script>alert(1)</script>"}
    assert "<script>alert(1)</script>" in page.text


def test_bytes_show_the_first_of_them(tmp_path: Path) -> None:
    """The first bytes are shown as a hex dump."""
    page = read_preview_page(previews(b"\x89PNG<script>" + bytes(range(256)) * 5_000, tmp_path))
    assert "00000000  89 50 4e 47 3c 73 63 72 69 70 74 3e 00 01 02 03  .PNG<script>...." in page.text
    assert "000003f0  " in page.text
    assert "00000400" not in page.text
    assert "1278988 more bytes" in page.text


TEXTS = {
    "html": HTMLString('"' * 2_000_000),
    "markdown": MarkdownString("# <script>alert(1)</script>\n\n" + "é" * 500_000),
    "csv": CSVString("a,<script>\n" + "<b>,2\n" * 100_000),
    "broken csv": CSVString('a,"b\n\r\x00'),
    "json": JSONString('{"<script>": [1, 2]}'),
    "large json": JSONString('["' + "<" * 500_000 + '"]'),
    "broken json": JSONString("{<script>"),
    "deep json": JSONString("[" * 50_000),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_every_text_is_shown(text: Any, tmp_path: Path) -> None:
    """A marked text is shown as text, whatever it contains, within the size limit."""
    assert read_preview_page(previews(text, tmp_path)).text


def test_a_csv_is_a_table(tmp_path: Path) -> None:
    """A CSV text shows its first rows as a table."""
    page = read_preview_page(previews(CSVString("a,b\n" + "1,2\n" * 100), tmp_path))
    assert [tag for tag, _ in page.elements].count("tr") == 21


@pytest.mark.parametrize("figure", library_values.FIGURES.values(), ids=library_values.FIGURES.keys())
def test_a_plotly_figure_shows_its_traces(figure: Any, tmp_path: Path) -> None:
    """A Plotly figure shows its traces in a table."""
    page = read_preview_page(previews(figure, tmp_path))
    assert [tag for tag, _ in page.elements].count("tr") == 1 + len(figure.data)


def test_lines_of_a_plotly_figure_are_sketched(tmp_path: Path) -> None:
    """Lines, points and bars of numbers are drawn; names and titles are text."""
    name = HOSTILE[0]
    figure = go.Figure([go.Scatter(y=np.arange(9_000.0), name=name), go.Bar(y=[1, None, 2]), go.Pie(values=[1, 2])])
    figure.update_layout(title=name, xaxis_title=name, yaxis_title=name)
    page = read_preview_page(previews(figure, tmp_path))
    (line,) = [held["points"] for tag, held in page.elements if tag == "polyline"]
    assert 200 <= len(line.split()) <= 301
    assert page.text.count("<script>") >= 4


def test_a_figure_of_matplotlib_is_shown(tmp_path: Path) -> None:
    """A figure is shown as a PNG of its proportions, pickled or not, and keeps its canvas."""
    figure = Figure(figsize=(20, 10))
    figure.subplots().plot([1, 2, 3])
    canvas, dpi = figure.canvas, figure.dpi
    content = previews(figure, tmp_path)["preview.png"]
    picture = Image.open(io.BytesIO(content))
    assert picture.size == (1000, 500)
    assert len(picture.getcolors(1 << 20)) > 10
    assert (figure.canvas, figure.dpi) == (canvas, dpi)
    assert default_registry().preview(figure, "matplotlib.figure@1", {}) == {"preview.png": content}


def test_a_large_figure_has_a_small_picture(tmp_path: Path) -> None:
    """A figure full of noise is drawn so small that its file is bounded."""
    figure = Figure(figsize=(10, 10))
    figure.figimage(np.random.default_rng(0).random((1000, 1000, 3)), resize=False)
    assert len(previews(figure, tmp_path)["preview.png"]) <= MAX_PREVIEW_BYTES


def test_a_path_shows_its_file_or_directory(tmp_path: Path) -> None:
    """A PNG is shown as it is, a text as text, a directory as a list of its files; a file that is no PNG is not shown as one."""
    folder = tmp_path / "<b>folder"
    folder.mkdir()
    Image.new("RGB", (3, 2)).save(folder / "figure.png")
    (folder / "note.md").write_text("# <script>alert(1)</script>" + "x" * 100_000)
    (folder / "fake.png").write_text("<script>alert(1)</script>")
    assert previews(folder / "figure.png", tmp_path)["preview.png"] == (folder / "figure.png").read_bytes()
    assert "# <script>alert(1)</script>" in read_preview_page(previews(folder / "note.md", tmp_path)).text
    assert "alert" not in read_preview_page(previews(folder / "fake.png", tmp_path)).text
    assert "figure.png" in read_preview_page(previews(folder, tmp_path)).text


OTHER_LIBRARIES = {
    **library_values.GEOGRAPHIC,
    **library_values.LABELLED,
    **{f"sparse {name}": value for name, value in sparse_values.ROWS.items()},
}


@pytest.mark.parametrize("value", OTHER_LIBRARIES.values(), ids=OTHER_LIBRARIES.keys())
def test_values_of_other_libraries_are_shown(value: Any, tmp_path: Path) -> None:
    """GeoPandas, xarray and SciPy values have a page each."""
    files = previews(value, tmp_path)
    if not isinstance(value, list | dict):
        assert read_preview_page(files).text


def test_names_of_other_libraries_are_escaped(tmp_path: Path) -> None:
    """Names, attributes and labels of GeoPandas and xarray are text in the page."""
    name = HOSTILE[0]
    frame = geopandas.GeoDataFrame({name: list(HOSTILE)}, geometry=[shapely.Point(0, 0)] * len(HOSTILE))
    assert read_preview_page(previews(frame, tmp_path)).text.count("<svg onload=alert(1)>") >= 1
    data = xr.Dataset({name: ("x", list(HOSTILE))}, attrs={"title": name})
    assert "<script>" in read_preview_page(previews(data, tmp_path)).text


def test_a_sparse_matrix_shows_where_its_entries_are(tmp_path: Path) -> None:
    """The picture of a sparse matrix is dark where it has entries."""
    page = read_preview_page(previews(scipy.sparse.csr_array(np.eye(1000)), tmp_path))
    ((_, found),) = [element for element in page.elements if element[0] == "img"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["src"].partition(",")[2]))))
    assert pixels.shape == (200, 200)
    assert (pixels.diagonal() == 0).all()
    assert (pixels == 255).sum() == 200 * 199
    assert "0.1000%" in page.text


ML = [pytest.param(row, id=name, marks=pytest.mark.ml) for name, row in ml_values.ROWS.items()]


@pytest.mark.parametrize("row", ML)
def test_values_of_large_libraries_are_shown(row: ml_values.Row, tmp_path: Path) -> None:
    """Tensors, state dicts, modules, models and datasets of the large libraries have a page each."""
    row.skip_if_absent()
    value = row.make(tmp_path)
    files = previews(value, tmp_path)
    if not isinstance(value, list | tuple | dict):
        assert read_preview_page(files).text


@pytest.mark.ml
def test_a_state_dict_is_shown(tmp_path: Path) -> None:
    """A dict of tensors is shown with its names and shapes."""
    torch = pytest.importorskip("torch", reason="torch is not installed: make test-ml")
    page = read_preview_page(previews(torch.nn.Linear(3, 2).state_dict(), tmp_path))
    assert "weight(2, 3)torch.float32" in page.text


def test_plain_values_have_no_preview(tmp_path: Path) -> None:
    """A number, a text and a record have no preview."""
    for value in (1, "x", [1, 2], {"a": 1}, datetime(2024, 1, 1, tzinfo=UTC)):
        assert previews(value, tmp_path) == {}
