"""Promises of the previews of containers and records: their members are shown, and all their text is escaped."""

from __future__ import annotations

import io
import json
import re
from collections import OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.linear_model import LinearRegression

from airflow_zen.materializers.evaluation import ClassificationEvaluation
from airflow_zen.materializers.pandas import PandasMaterializer
from airflow_zen.materializers.registry import default_registry
from airflow_zen.materializers.texts import HTMLString
from airflow_zen.materializers.typed_json.member_previews import NestedWalker
from airflow_zen.type_names import type_name
from tests.materializers import library_values
from tests.materializers import records as r
from tests.materializers.page_reading import HOSTILE, read_preview_page

REGISTRY = default_registry()
FRAME = pd.DataFrame({"a": [1.5, 2.0, 4.0]})


def previews(value: Any, directory: Path) -> Any:
    """Return the previews of a saved value."""
    saved = REGISTRY.save(value, directory)
    return REGISTRY.preview(value, saved.encoding, saved.summary)


def figure() -> Figure:
    drawn = Figure(figsize=(2, 1))
    drawn.subplots().plot([1, 3, 2])
    return drawn


def test_a_dict_of_frames_shows_each_under_its_key(tmp_path: Path) -> None:
    """Each frame of a dict has the same page as alone, and another page lists them with type and shape."""
    files = previews({"train": FRAME, "rows": 3, "test": pl.DataFrame({"b": ["x"]})}, tmp_path)
    assert set(files) == {"preview.html", "train.html", "test.html"}
    listed = read_preview_page({"preview.html": files["preview.html"]}).text
    assert "trainpandas.DataFrame3 rows × 1 columntrain.html" in listed
    assert "testpolars.DataFrame1 row × 1 columntest.html" in listed
    alone = REGISTRY.preview(FRAME, "pandas.parquet@1", {"shape": "3 rows × 1 column"})["preview.html"]
    assert files["train.html"] == alone


def test_large_bytes_are_members_of_their_own(tmp_path: Path) -> None:
    """Large bytes are stored as files, and the members after them are matched with their own summaries."""
    files = previews({"model": b"a" * 1_500_000, "small": b"a", "frame": FRAME}, tmp_path)
    assert set(files) == {"preview.html", "model.html", "frame.html"}
    assert "1500000 bytes" in read_preview_page({"preview.html": files["model.html"]}).text
    assert "3 rows × 1 column" in read_preview_page({"preview.html": files["frame.html"]}).text


def test_a_list_of_figures_shows_each_as_a_picture(tmp_path: Path) -> None:
    """Figures and images in a list are pictures, named by their number."""
    files = previews([figure(), Image.new("RGB", (3, 2))], tmp_path)
    assert set(files) == {"preview.html", "0.png", "1.png"}
    assert [Image.open(io.BytesIO(files[name])).size for name in ("0.png", "1.png")] == [(200, 100), (3, 2)]


HELD: dict[str, tuple[Any, set[str]]] = {
    "dataclass": (r.Report("x", FRAME), {"table.html"}),
    "pydantic model": (r.Frames(table=FRAME, by_name={"big": np.arange(1100), "small": np.arange(2)}), {"table.html", "by_name.big.html"}),
    "namedtuple": (r.Fitted(LinearRegression().fit([[1], [2]], [1, 2]), np.arange(1100)), {"model.html", "scores.html"}),
    "tuple in a list in a dict": ({"folds": [(1, FRAME), (2, FRAME)]}, {"folds.0.1.html", "folds.1.1.html"}),
    "deque": (deque([FRAME]), {"0.html"}),
    "keys that are no texts": ({(1, "a"): FRAME, 2: FRAME}, {"1-a.html", "2.html"}),
    "marked text": ({"report": HTMLString("<b>x</b>"), "note": "x"}, {"report.html"}),
    "keys that are alike": ({"a b": FRAME, "a-b": FRAME, "A.b": FRAME, "A-B": FRAME}, {"a-b.html", "a-b-2.html", "A.b.html", "A-B-3.html"}),
    "keys of no letters": ({"é": FRAME, "": FRAME, "..": FRAME}, {"member.html", "member-2.html", "member-3.html"}),
    "key like the list": ({"preview": FRAME}, {"preview-2.html"}),
}  # fmt: skip


@pytest.mark.parametrize(("value", "names"), HELD.values(), ids=HELD.keys())
def test_files_are_named_after_the_paths_of_members(value: Any, names: set[str], tmp_path: Path) -> None:
    """The file of a member is named after its path of fields, keys and positions; no two have the same name."""
    files = previews(value, tmp_path)
    assert set(files) == {"preview.html", *names}
    for content in files.values():
        assert read_preview_page({"preview.html": content}).text


WALKED = {
    **library_values.CONTAINERS,
    "state of every kind": {
        "frames": OrderedDict(a=FRAME, b=defaultdict(list, {"x": [FRAME]})),
        "records": [r.Slotted(1, FRAME), r.Child(1, extra=np.arange(2000)), r.Open(a=1, more=FRAME)],
        "none": [None, {1, 2}, np.arange(3), r.Color.RED, pd.Timestamp("2024"), b"x"],
        "last": pl.Series([1]),
    },
}


@pytest.mark.parametrize("value", WALKED.values(), ids=WALKED.keys())
def test_members_are_matched_with_their_summaries(value: Any, tmp_path: Path) -> None:
    """The walk over a value visits its parts in the order in which they were saved."""
    parts = REGISTRY.save(value, tmp_path).summary["parts"]
    members = list(NestedWalker(REGISTRY, iter(parts)).members(value))
    assert [type_name(type(member.value)) for member in members] == [part["type"] for part in parts]
    assert [member.encoding for member in members] == [part["encoding"] for part in parts]


@pytest.mark.ml
def test_a_state_dict_inside_is_one_member(tmp_path: Path) -> None:
    """A dict of tensors that is stored in one file has one preview."""
    torch = pytest.importorskip("torch", reason="torch is not installed: make test-ml")
    files = previews({"epoch": 1, "weights": torch.nn.Linear(3, 2).state_dict(), "x": torch.zeros(3)}, tmp_path)
    assert set(files) == {"preview.html", "weights.html", "x.html"}
    assert "weight(2, 3)torch.float32" in read_preview_page({"preview.html": files["weights.html"]}).text


def test_many_members_are_cut_visibly(tmp_path: Path) -> None:
    """The first eight members are shown, and the page has the number of the others."""
    files = previews({f"frame {at}": FRAME for at in range(20)}, tmp_path)
    assert set(files) == {"preview.html", *(f"frame-{at}.html" for at in range(8))}
    assert "12 more members" in read_preview_page({"preview.html": files["preview.html"]}).text


def test_deep_members_are_not_shown(tmp_path: Path) -> None:
    """A member inside more than four containers is counted, not shown."""
    files = previews([{"a": {"b": [FRAME, [pl.DataFrame({"x": [1]})]]}}], tmp_path)
    assert set(files) == {"preview.html", "0.a.b.0.html"}
    assert "1 more member" in read_preview_page({"preview.html": files["preview.html"]}).text


def test_a_long_value_is_not_searched(tmp_path: Path) -> None:
    """A frame after more than 10,000 other values is counted, not shown."""
    files = previews([FRAME, [{"n": at} for at in range(10_000)], FRAME], tmp_path)
    assert set(files) == {"preview.html", "0.html"}
    assert "1 more member" in read_preview_page({"preview.html": files["preview.html"]}).text


def test_names_of_members_cannot_break_out(tmp_path: Path) -> None:
    """Keys are text in the page, and no file is named by anything but letters, digits, dots and dashes."""
    files = previews(dict.fromkeys(HOSTILE[:8], FRAME), tmp_path)
    assert all(re.fullmatch(r"\w[\w.-]*", name, re.ASCII) for name in files)
    assert len(files) == 1 + min(8, len(HOSTILE))
    page = read_preview_page({"preview.html": files["preview.html"]})
    assert "<script>" in page.text


def test_a_failed_member_does_not_affect_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member without preview because of an error is listed with it, and the others are shown."""
    monkeypatch.setattr(PandasMaterializer, "preview", lambda *_: 1 / 0)
    files = previews({"frame": FRAME, "array": np.arange(2000)}, tmp_path)
    assert set(files) == {"preview.html", "array.html"}
    assert "none: division by zero" in read_preview_page({"preview.html": files["preview.html"]}).text


def test_an_evaluation_inside_is_shown_as_one(tmp_path: Path) -> None:
    """Evaluations of several models in a dict are shown as confusion matrices, not as their columns."""
    true = pd.Series([0, 1, 1, 0])
    value = {name: ClassificationEvaluation(true, y_pred=np.array([0, 1, 0, 0])) for name in ("small", "large")}
    files = previews({**value, "frame": FRAME}, tmp_path)
    assert set(files) == {"preview.html", "small.html", "large.html", "frame.html"}
    assert "Confusion matrix" in read_preview_page({"preview.html": files["large.html"]}).text
    assert "more member" not in files["preview.html"]


def test_what_is_one_small_object_has_no_preview(tmp_path: Path) -> None:
    """Containers of numbers, texts and small arrays have no previews of members."""
    for at, value in enumerate(([1, 2], {"a": np.arange(10)}, r.Params(1), {"a": {"b": [datetime_like()]}})):
        directory = tmp_path / str(at)
        directory.mkdir()
        saved = REGISTRY.save(value, directory)
        assert not REGISTRY.can_preview(value, saved.encoding, saved.summary)


def datetime_like() -> Any:
    return pd.Timestamp("2024")


def test_shapes_of_parts_are_not_in_the_typed_json(tmp_path: Path) -> None:
    """The shape of a part is in the summary, and not in the typed JSON."""
    saved = REGISTRY.save({"a": FRAME}, tmp_path)
    reference = {"path": "parts/0", "encoding": "pandas.parquet@1", "type": "pandas.DataFrame"}
    assert saved.summary["parts"] == [{**reference, "shape": "3 rows × 1 column"}]
    assert json.loads((tmp_path / "value.json").read_text()) == {"a": {"$": "part", **reference}}
