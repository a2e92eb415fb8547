"""Promises of `airflow_zen.steps.arguments`: artifacts are passed as values of the declared types."""

import os
import tempfile
from pathlib import Path
from threading import Barrier
from typing import Annotated, NamedTuple

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from PIL import Image

from airflow_zen import Artifact, Materializer
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.errors import ArtifactCorrupt, ArtifactRefused
from airflow_zen.runs.step_run import StepState
from tests.calls import record_call, recorded_calls


def make(x: int) -> dict:
    record_call(x)
    return {"x": x}


def grow(value: dict, by: int = 1) -> dict:
    record_call("grow")
    return {"x": value["x"] + by}


def frame(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"a": range(rows)})


def load(stack, ref, tmp_path, wanted=None):
    into = tmp_path / os.urandom(4).hex()
    into.mkdir()
    return stack.load(ref, into, wanted)


def test_artifacts_become_values(run, stack, tmp_path):
    """A ref is replaced by its value, at any depth of lists and dicts."""

    def collect(one: dict, many: list[dict], named: dict[str, dict], deep) -> list:
        return [one, many, named, deep]

    a, b = (run(make, x).outputs["output"].to_wire() for x in (1, 2))
    done = run(collect, a, [a, b], {"b": b}, {"k": [(b, 7)]})
    expected = [{"x": 1}, [{"x": 1}, {"x": 2}], {"b": {"x": 2}}, {"k": [({"x": 2}, 7)]}]
    assert load(stack, done.outputs["output"], tmp_path) == expected
    assert set(done.inputs) == {"one", "many[0]", "many[1]", "named.b", "deep.k[0][0]"}


@pytest.mark.parametrize(
    ("wanted", "kind"), [(pl.DataFrame, pl.DataFrame), (pa.Table, pa.Table), (ArtifactRef, ArtifactRef)]
)
def test_a_parameter_asks_for_its_view(run, wanted, kind):
    """The declared type of a parameter chooses the view of the table."""
    seen = []

    def look(table: wanted) -> int:
        seen.append(type(table))
        return 1

    look.__annotations__["table"] = wanted
    run(look, run(frame, 3).outputs["output"].to_wire())
    assert seen == [kind]


def test_path_view_is_the_files(run, stack, tmp_path):
    """A parameter declared Path gets the artifact's files."""

    def names(table: Path) -> list:
        return [path.name for path in table.iterdir()]

    names.__annotations__["table"] = Path
    done = run(names, run(frame, 3).outputs["output"].to_wire())
    assert load(stack, done.outputs["output"], tmp_path) == ["table.parquet"]


def test_another_view_is_other_work(run):
    """Asking for the table as another type is not served from the cache of the first."""
    ref = run(frame, 3).outputs["output"].to_wire()

    def kind(table) -> str:
        return type(table).__module__

    results = []
    for view in (pd.DataFrame, pl.DataFrame):
        kind.__annotations__["table"] = view
        results.append(run(kind, ref).cache)
    assert results == ["miss", "miss"]


def test_damaged_input_fails_the_step(run, stack):
    """An input whose bytes are damaged never reaches the function."""
    ref = run(frame, 3).outputs["output"]
    directory = Path(ref.uri)
    path = next(p for p in directory.iterdir() if p.name != "manifest.json")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactCorrupt):
        run(grow, ref.to_wire())
    assert recorded_calls() == []


def make_files() -> Path:
    directory = Path(tempfile.mkdtemp()) / "files"
    (directory / "empty").mkdir(parents=True)
    (directory / "run.sh").write_text("#!/bin/sh")
    (directory / "run.sh").chmod(0o755)
    return directory


def names_of(files: Path) -> list:
    return sorted(path.name for path in files.iterdir())


def test_a_path_view_is_the_steps_own(run, stack, tmp_path):
    """A file that a step adds to an artifact's files is not seen by other steps, and the files keep their modes."""

    def litter(files: Path) -> int:
        (files / "extra").write_text("x")
        return 1

    litter.__annotations__["files"] = Path
    ref = run(make_files).outputs["output"]
    run(litter, ref.to_wire())
    files = load(stack, ref, tmp_path)
    assert names_of(files) == ["empty", "run.sh"]
    assert os.access(files / "run.sh", os.X_OK)


def test_a_path_view_of_a_table_is_its_files(run, tmp_path):
    """A table asked for as Path is a directory with its files and nothing else, so that any reader can read it."""

    def rows(table: Path) -> int:
        return len(pd.read_parquet(table))

    rows.__annotations__["table"] = Path
    assert run(rows, run(frame, 3).outputs["output"].to_wire()).state is StepState.FINISHED


@pytest.mark.parametrize(
    ("declared", "build", "kinds"),
    [
        (dict[str, list[Path]], lambda ref: {"q": [ref]}, ["PosixPath"]),
        (tuple[pl.DataFrame, ArtifactRef], lambda ref: (ref, ref), ["DataFrame", "ArtifactRef"]),
        (list[pa.Table], lambda ref: [ref], ["Table"]),
    ],
)
def test_views_of_elements_of_containers(run, stack, tmp_path, declared, build, kinds):
    """A view is respected at any depth of a container, and another view is other work."""

    def kinds_of(value) -> list:
        flat = [
            part
            for held in (value.values() if isinstance(value, dict) else value)
            for part in (held if isinstance(held, list) else [held])
        ]
        return [type(part).__name__ for part in flat]

    ref = run(frame, 3).outputs["output"].to_wire()
    run(kinds_of, build(ref))
    kinds_of.__annotations__["value"] = declared
    done = run(kinds_of, build(ref))
    assert done.cache == "miss"
    assert load(stack, done.outputs["output"], tmp_path) == kinds


def test_views_of_variable_arguments(run, stack, tmp_path):
    """`*tables: pl.DataFrame` asks for each of them as that."""

    def kinds_of(*tables: pl.DataFrame, **named: pl.DataFrame) -> list:
        return [type(table).__module__.split(".")[0] for table in (*tables, *named.values())]

    ref = run(frame, 3).outputs["output"].to_wire()
    assert load(stack, run(kinds_of, ref, x=ref).outputs["output"], tmp_path) == ["polars", "polars"]


class Pair(NamedTuple):
    left: object
    right: object


def test_artifacts_inside_a_named_tuple(run, stack, tmp_path):
    """A ref inside a NamedTuple is an artifact like any other."""

    def swap(pair: Pair) -> list:
        return [pair.right, pair.left]

    done = run(swap, Pair(run(make, 3).outputs["output"].to_wire(), 2))
    assert load(stack, done.outputs["output"], tmp_path) == [2, {"x": 3}]


def test_each_view_of_a_figure_is_other_work(run):
    """A figure's picture and its bytes are two views, neither of which is served from the cache of the other."""

    def plot() -> Figure:
        return Figure(figsize=(2, 1))

    def kind(picture) -> str:
        return type(picture).__name__

    ref = run(plot).outputs["output"].to_wire()
    for cache in ("miss", "hit"):
        for view in (Image.Image, bytes, Path):
            kind.__annotations__["picture"] = view
            assert run(kind, ref).cache == cache, view
    del kind.__annotations__["picture"]
    with pytest.raises(ArtifactRefused, match="allow_pickle"):
        run(kind, ref)


class MetMaterializer(Materializer):
    """Read a number only when all four readers run at the same time."""

    encoding = "met.text@1"
    meeting: Barrier

    def save(self, value, directory):
        (directory / "number").write_text(str(value))
        return {}

    def load(self, directory, encoding, wanted=None):
        self.meeting.wait(timeout=30)
        return int((directory / "number").read_text())


Met = Annotated[int, Artifact(materializer=MetMaterializer)]


def test_artifacts_of_a_list_are_loaded_at_the_same_time(run, stack, tmp_path):
    """Elements from mapped steps are loaded concurrently, and passed in their order."""

    def made(x: int) -> Met:
        return x

    def total(parts: list[Met]) -> list:
        return parts

    refs = [run(made, x).outputs["output"].to_wire() for x in range(4)]
    MetMaterializer.meeting = Barrier(4)
    done = run(total, refs)
    assert load(stack, done.outputs["output"], tmp_path) == [0, 1, 2, 3]


def test_function_among_the_arguments_is_recorded_by_name(run):
    """A function that is an argument has its name in the record, and not an address that differs each time."""

    def call(value: int, functions: list) -> int:
        return value

    done = run(call, 3, [make])
    assert done.parameters["functions"] == [f"{__name__}.make"]
