"""What a refusal of stored files says to do, done: the value, saved again, is loaded."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.preprocessing import StandardScaler

from airflow_zen.errors import ArtifactCorrupt, ArtifactRefused, SaveRefused
from airflow_zen.materializers.registry import default_registry
from tests.materializers import records as r
from tests.materializers.remedies import REGISTRY, library


@dataclass(frozen=True)
class Changed:
    """A value, what happened to its files or its class since it was saved, and what the refusal says."""

    make: Callable[[], Any]
    change: Callable[[Path], None]
    advice: str
    pickled: bool = False


def _text(name: str, before: str, after: str) -> Callable[[Path], None]:
    """Return a change of the text of a file, such as the name of a field that its class has lost since."""

    def change(directory: Path) -> None:
        text = (directory / name).read_text()
        assert before in text
        (directory / name).write_text(text.replace(before, after))

    return change


def _members(
    change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED
) -> Callable[[Path], None]:
    """Return a change of the members of an estimator's archive."""

    def rewrite(directory: Path) -> None:
        with zipfile.ZipFile(directory / "model.skops") as archive:
            held = {name: archive.read(name) for name in archive.namelist()}
        change(held)
        with zipfile.ZipFile(directory / "model.skops", "w", compression) as archive:
            for name, content in held.items():
                archive.writestr(name, content)

    return rewrite


def _shorten(held: dict[str, bytes]) -> None:
    held["0.npy"] = held["0.npy"][:-8]


def _move_rows(held: dict[str, bytes]) -> None:
    held["model.json"] = re.sub(rb'"start":\d+', b'"start":7', held["model.json"])


def _object_array(held: dict[str, bytes]) -> None:
    content = io.BytesIO()
    np.save(content, np.array([None]), allow_pickle=True)
    held["0.npy"] = content.getvalue()


def _other_category(directory: Path) -> None:
    file = directory / "table.parquet"
    table = pq.read_table(file)
    words = pa.array(["z", "y"]).dictionary_encode().cast(table.schema.field("a").type)
    pq.write_table(pa.table({"a": words}).replace_schema_metadata(table.schema.metadata), file)


def _cut_table(directory: Path) -> None:
    file = directory / "table.parquet"
    file.write_bytes(file.read_bytes()[:-1])


def _estimator() -> Any:
    return Ridge().fit(np.eye(40), np.arange(40))


CHANGED: dict[str, Changed] = {
    "member of an enum": Changed(lambda: r.Color.RED, _text("value.json", "RED", "PINK"), "Save it again"),
    "field of a dataclass": Changed(lambda: r.Params(3), _text("value.json", "depth", "height"), "Save it again"),
    "field of a named tuple": Changed(lambda: r.Point(1, 2), _text("value.json", '"x"', '"z"'), "Save it again"),
    "Python of a pickle": Changed(
        lambda: r.Plain(1), _text("python.json", '"3.', '"2.'), "or save the artifact again", pickled=True
    ),
    "category": Changed(
        lambda: pd.DataFrame({"a": pd.Categorical(["x", "y"])}),
        _other_category,
        "none of its categories. Run the step that made it again",
    ),
    "end of a table": Changed(lambda: pd.DataFrame({"a": [1]}), _cut_table, "run the step that made it again"),
    "rows of an array": Changed(_estimator, _members(_move_rows), "Save the estimator again"),
    "end of an array": Changed(_estimator, _members(_shorten), "Save the estimator again"),
    "array of objects": Changed(_estimator, _members(_object_array), "contains Python objects, which need a pickle"),
    "compressed estimator": Changed(
        _estimator, _members(lambda _: None, zipfile.ZIP_DEFLATED), "Save the estimator again"
    ),
}


@pytest.mark.parametrize("changed", CHANGED.values(), ids=CHANGED.keys())
def test_value_is_saved_again(changed: Changed, tmp_path: Path) -> None:
    """Files that no longer fit are refused with the advice to save the value again, and then they are loaded."""
    registry = default_registry(allow_pickle=changed.pickled)
    saved = registry.save(changed.make(), _new(tmp_path / "artifact"))
    changed.change(tmp_path / "artifact")
    with pytest.raises((ArtifactRefused, ArtifactCorrupt), match=re.escape(changed.advice)):
        registry.load(tmp_path / "artifact", saved.encoding)
    again = registry.save(changed.make(), _new(tmp_path / "again"))
    assert type(registry.load(tmp_path / "again", again.encoding)) is type(changed.make())


class _Offset:
    """A class that skops would have to import."""

    def __init__(self) -> None:
        self.value = 1


def test_estimator_of_skops_with_other_parts(tmp_path: Path) -> None:
    """A file of skops with a part of another class is refused; with scikit-learn's parts only, saved again, it is read."""
    skops_io = pytest.importorskip("skops.io")
    model = LinearRegression().fit(np.eye(2), [1, 2])
    model.offset_ = _Offset()
    skops_io.dump(model, tmp_path / "model.skops")
    with pytest.raises(ArtifactRefused, match="Save the model again with parts of scikit-learn, NumPy and SciPy only"):
        REGISTRY.load(tmp_path, "sklearn.mlflow@1")
    model.offset_ = StandardScaler()
    skops_io.dump(model, tmp_path / "model.skops")
    assert type(REGISTRY.load(tmp_path, "sklearn.mlflow@1").offset_) is StandardScaler


@pytest.mark.ml
def test_method_of_a_module(tmp_path: Path) -> None:
    """A module that holds a method that its class has lost is refused, and is stored with one that it has."""
    torch = library("torch")
    from tests.materializers.torch_modules import Switched

    saved = REGISTRY.save(Switched(), _new(tmp_path / "artifact"))
    file = next(path for path in (tmp_path / "artifact").iterdir() if "halve" in path.read_text(errors="ignore"))
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content).replace("halve", "third"))
    with pytest.raises(ArtifactRefused, match="no longer has the saved method 'third'. Save it again"):
        REGISTRY.load(tmp_path / "artifact", saved.encoding)
    REGISTRY.save(Switched(), _new(tmp_path / "again"))
    loaded = REGISTRY.load(tmp_path / "again", saved.encoding)
    assert loaded(torch.ones(1)).item() == 0.5


@pytest.mark.ml
def test_lazy_arrays_of_xarray(tmp_path: Path) -> None:
    """A dataset of dask arrays is refused, and stored after the call that the refusal names."""
    xarray = library("xarray")
    library("dask")
    lazy = xarray.Dataset({"v": ("x", [1, 2])}).chunk()
    with pytest.raises(SaveRefused, match=r"The variable 'v' is a dask\..*Call \.compute\(\) first"):
        REGISTRY.save(lazy, _new(tmp_path / "refused"))
    saved = REGISTRY.save(lazy.compute(), _new(tmp_path / "artifact"))
    assert REGISTRY.load(tmp_path / "artifact", saved.encoding).identical(lazy.compute())


def _new(directory: Path) -> Path:
    directory.mkdir()
    return directory
