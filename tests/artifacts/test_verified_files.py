"""Promises of large local files, which a host verifies once and not for each reader."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from airflow_zen.artifacts import ref as artifact_ref
from airflow_zen.artifacts import verified_files
from airflow_zen.errors import ArtifactCorrupt
from airflow_zen.models.predict import predict_batches
from tests.materializers.views.loading import load, open_stack

FRAME = pd.DataFrame({"x": np.random.default_rng(0).normal(size=200_000)})


@pytest.fixture
def hashed(tmp_path, monkeypatch):
    """The bytes that were read to verify files of at least 1 MB, whose records are in a directory of this test."""
    read = []
    monkeypatch.setattr(verified_files, "MIN_SIZE", 1_000_000)
    monkeypatch.setattr(verified_files.tempfile, "gettempdir", lambda: str(tmp_path))
    original = artifact_ref.file_hash
    monkeypatch.setattr(
        artifact_ref, "file_hash", lambda path, like: read.append(path.stat().st_size) or original(path, like)
    )
    return read


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A stack, and a table of 1.6 MB in it that was stored a minute ago."""
    stack = open_stack(str(tmp_path / "root"), {})
    ref = stack.save(FRAME).ref
    wait(monkeypatch, 60)
    return stack, ref


def wait(monkeypatch, seconds):
    """Let the clock go on."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + seconds)


def test_parts_of_a_table_verify_it_once(stored, hashed):
    """Four parts of a local table, each loaded as its own task does, read all bytes once, and not four times."""
    stack, ref = stored
    model, found = SimpleNamespace(predict=lambda frame: frame["x"] * 2), []
    for part in pairwise([0, 50_000, 100_000, 150_000, 200_000]):
        found += predict_batches(model, load(stack, ref, Iterator[pd.DataFrame]), part=part)
    assert hashed == [ref.size]
    np.testing.assert_array_equal(pd.concat(found)["prediction"], FRAME["x"] * 2)


@pytest.mark.parametrize("change", ["content", "hour", "folder"])
def test_file_is_verified_again(stored, hashed, monkeypatch, tmp_path, change):
    """A file that was changed, also under its old modification time, an old record, and a foreign folder count for nothing."""
    stack, ref = stored
    load(stack, ref, pd.DataFrame)
    path = stack.store.get(ref, tmp_path) / ref.files[0].path
    assert hashed == [ref.size]
    if change == "content":
        before = path.stat()
        path.chmod(0o644)
        content = bytearray(path.read_bytes())
        content[1000] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ArtifactCorrupt, match="differs from its digest"):
            load(stack, ref, pd.DataFrame)
        return
    if change == "hour":
        wait(monkeypatch, 4000)
    else:
        next(tmp_path.glob("airflow-zen-verified-*")).chmod(0o777)
    load(stack, ref, pd.DataFrame)
    assert hashed == [ref.size] * 2


def test_small_and_new_files_are_verified_for_each_reader(tmp_path, hashed):
    """A file that was written a moment ago may be changed in the same tick of the clock: it has no record."""
    stack = open_stack(str(tmp_path / "root"), {})
    for value in (FRAME, FRAME[:10]):
        hashed.clear()
        ref = stack.save(value).ref
        for _ in range(2):
            load(stack, ref, pd.DataFrame)
        assert hashed == [ref.size] * 2
