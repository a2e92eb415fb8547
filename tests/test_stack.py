"""Promises of `airflow_zen.stack`: what a consumer gets of a stored value, as it declares it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import pandas as pd
import polars as pl
import pytest

from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.caching.step_cache import StepCache
from airflow_zen.materializers.annotations import Columns
from airflow_zen.materializers.registry import default_registry
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.stack import Stack
from airflow_zen.transports import open_transport
from tests.materializers.round_trip import make_directory

FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    root = str(tmp_path / "root")
    transport = open_transport(root, {})
    return Stack(ArtifactStore(root, transport), default_registry(), StepCache(transport), StepRunRecords(transport))


@pytest.mark.parametrize("declared", [pl.DataFrame, pl.DataFrame | None, Optional[pl.DataFrame], Annotated[pl.DataFrame, "x"]])  # noqa: UP045  # fmt: skip
def test_annotations_and_none_do_not_hide_a_type(declared: Any, stack: Stack, tmp_path: Path) -> None:
    """A value is loaded as the declared type, with or without annotations and None around it."""
    loaded = stack.load(stack.save(FRAME).ref, make_directory(tmp_path, "into"), declared)
    assert type(loaded) is pl.DataFrame


def test_members_of_a_container_have_the_views_of_tables(stack: Stack, tmp_path: Path) -> None:
    """Columns, batches and scans of a table inside a container can be loaded as of a table alone."""
    ref = stack.save((FRAME, {"x": FRAME}, [FRAME], [FRAME])).ref
    declared = tuple[
        Annotated[pd.DataFrame, Columns("b")], dict[str, pl.LazyFrame], list[Iterator[pd.DataFrame]], list[Any]
    ]
    some, lazy, batches, plain = stack.load(ref, make_directory(tmp_path, "into"), declared)
    assert list(some.columns) == ["b"]
    assert lazy["x"].select("a").collect()["a"].to_list() == [1, 2]
    assert [len(batch) for batch in batches[0]] == [2]
    pd.testing.assert_frame_equal(plain[0], FRAME)


@pytest.mark.parametrize(
    ("make", "declared", "path_of"),
    [
        (lambda path: path, None, lambda found: found),
        (lambda path: [path], None, lambda found: found[0]),
        (lambda path: {"a": (path, np.arange(2000))}, None, lambda found: found["a"][0]),
        (lambda path: [FRAME], list[Path], lambda found: found[0]),
        (lambda path: FRAME, Path, lambda found: found),
    ],
)
def test_files_added_to_a_path_do_not_reach_the_store(
    make: Any, declared: Any, path_of: Any, stack: Stack, tmp_path: Path
) -> None:
    """A directory that a step gets is a private copy: the next step gets it as it was stored."""
    folder = make_directory(tmp_path, "folder")
    (folder / "kept").write_text("x")
    (folder / "empty").mkdir()
    ref = stack.save(make(folder)).ref
    first = path_of(stack.load(ref, make_directory(tmp_path, "first"), declared))
    before = {path.name for path in first.iterdir()}
    (first / "added").write_text("mine")
    second = path_of(stack.load(ref, make_directory(tmp_path, "second"), declared))
    assert {path.name for path in second.iterdir()} == before
    assert not any(path.name == "added" for path in (tmp_path / "root").rglob("*"))
