"""Promises that hold in every runtime: values, views, streams, own classes, metadata, failures, skips."""

import logging
import traceback

from airflow_zen import load
from airflow_zen.artifacts.folder import PreviewStore
from airflow_zen.config.settings import open_stack

_HEADER = """
from __future__ import annotations
import logging, os, sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from airflow.sdk import Asset, Metadata, dag
try:
    from airflow.sdk.exceptions import AirflowSkipException
except ImportError:  # Airflow 3.1
    from airflow.exceptions import AirflowSkipException
from airflow_zen import Artifact, ArtifactRef, Columns, Each, Materializer, Output, log_metadata, ml_step, register_materializer

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("project")
"""

_VALUES = """
@dataclass
class Config:
    depth: int
    names: tuple[str, ...] = ()

    def doubled(self) -> int:
        return self.depth * 2

class Grid:
    def __init__(self, cells):
        self.cells = cells

@register_materializer
class GridMaterializer(Materializer):
    types = ("pipeline.Grid",)
    encoding = "test.grid@1"

    def save(self, value, directory):
        (directory / "grid.txt").write_text(" ".join(map(str, value.cells)))
        return {}

    def load(self, directory, encoding, wanted=None):
        return Grid([int(cell) for cell in (directory / "grid.txt").read_text().split()])

@ml_step
def plain(number: int, config: Config, names: list[str], ratio: float = 0.5, *, ds: str = None) -> Output(
    config=Config, text=str, grid=Grid
):
    log_metadata({"rows": 3})
    log_metadata({"kind": "grid"}, output="grid")
    log.warning("number %d", number)
    print("printed")
    shown = f"{number} {config.doubled()} {names} {ratio} {ds}"
    return Config(config.depth + 1, ("a",)), shown, Grid([1, 2, number])

@ml_step
def read(config: Config, grid: Grid, both: list[Config]) -> int:
    return config.depth + sum(grid.cells) + sum(each.depth for each in both)

@ml_step
async def waited(value: int) -> Annotated[list[int], Each]:
    return [value, value + 1]

@ml_step
def mapped(value: int) -> int:
    return value * 10

@ml_step
def nothing(value: int) -> None:
    print(value)

@dag(schedule=None)
def pipeline():
    found = plain(7, Config(3), ["x", "y"])
    number = read(found["config"], found["grid"], [found["config"], found["config"]])
    nothing(number)
    mapped.expand(value=waited(number))
"""

_TABLES = """
@ml_step
def table(rows: int) -> pd.DataFrame:
    import pandas as pd
    return pd.DataFrame({"a": range(rows), "b": [value / 2 for value in range(rows)]})

@ml_step
def batches(rows: int) -> Iterator[pd.DataFrame]:
    import pandas as pd
    for start in range(0, rows, 2):
        yield pd.DataFrame({"a": range(start, start + 2)})

@ml_step
def views(
    whole: pd.DataFrame,
    part: Annotated[pd.DataFrame, Columns("b")],
    stream: Iterator[pd.DataFrame],
    files: Path,
    ref: ArtifactRef,
) -> dict:
    return {
        "rows": len(whole), "columns": list(part.columns), "sums": [int(batch["a"].sum()) for batch in stream],
        "files": sorted(path.name for path in files.iterdir()), "digest": ref.digest,
    }

@dag(schedule=None)
def pipeline():
    made, streamed = table(4), batches(6)
    views(made, made, streamed, made, streamed)
"""


def error_of(run, task):
    """Return the error of a task that failed."""
    return next(each for each in run.tasks if each.task_id == task).error


def test_values_and_classes_of_the_dag_file(run_file, small, caplog):
    """Arguments, defaults, context, dataclasses, own materializers, `Each`, coroutines: the same values, and digests."""
    caplog.set_level(logging.INFO)
    run = run_file(_HEADER + _VALUES, small)
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    found = run.xcom("plain")
    assert load(found["text"]) == "7 6 ['x', 'y'] 0.5 2026-01-01"
    assert found["grid"]["digest"][:6] == "a26232"
    assert load(run.xcom("read")) == 22
    assert [load(run.xcom("mapped", map_index=at)) for at in range(2)] == [220, 230]
    record = open_stack(lineage=False).records.latest_try("pipeline", "manual__1", "plain")
    assert record.metadata == {"": {"rows": 3}, "output:grid": {"kind": "grid"}}
    assert ("project", logging.WARNING, "number 7") in caplog.record_tuples


def test_tables_streams_and_views(run_file, tables):
    """Tables, batches, and every view of them; the digests are those of a step in the process of the task."""
    run = run_file(_HEADER + _TABLES, tables)
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    table, batches = run.xcom("table"), run.xcom("batches")
    assert (table["digest"][:6], batches["digest"][:6]) == ("c9dd48", "ffb4c9")
    assert load(run.xcom("views")) == {
        "rows": 4,
        "columns": ["b"],
        "sums": [15],
        "files": ["table.parquet"],
        "digest": batches["digest"],
    }
    previews = PreviewStore(open_stack(lineage=False).store.transport).get(table["digest"])
    assert previews.keys() == {"preview.html"}


_FAILURES = """
class Unfit(ValueError):
    def __init__(self, why, limit):
        super().__init__(why)
        self.limit = limit

def check(value):
    if value > 2:
        raise Unfit("too large", 2)

@ml_step
def fails(value: int) -> int:
    try:
        check(value)
    except Unfit as error:
        error.add_note("a note")
        raise RuntimeError("cannot go on") from error

@dag(schedule=None)
def pipeline():
    fails(3)
"""


def test_a_failure_reads_like_the_original(run_file, small):
    """The error has the class, message, cause, notes, and the lines of the DAG file where it was raised."""
    run = run_file(_HEADER + _FAILURES, small)
    error = error_of(run, "fails")
    assert (type(error).__name__, str(error), str(error.__cause__)) == ("RuntimeError", "cannot go on", "too large")
    assert (type(error.__cause__).__name__, error.__cause__.__notes__) == ("Unfit", ["a note"])
    shown = "".join(traceback.format_exception(error))
    lines = (_HEADER + _FAILURES).splitlines()
    for text in ('raise Unfit("too large", 2)', 'raise RuntimeError("cannot go on") from error'):
        number = next(at for at, line in enumerate(lines, 1) if line.strip() == text)
        assert f'pipeline.py", line {number}, in ' in shown
        assert f"    {text}\n" in shown


_SKIP = """
@ml_step
def skips(value: int) -> int:
    raise AirflowSkipException("nothing new")

@dag(schedule=None)
def pipeline():
    skips(1)
"""


def test_a_skip(run_file, small):
    """A step that raises Airflow's exception for it is skipped."""
    run = run_file(_HEADER + _SKIP, small)
    assert run.states == {"skips": "skipped"}, run.tasks[-1].error


_EVENTS = """
news = Asset("news")

@ml_step(outlets=[news])
def tells(value: int) -> Generator[Metadata, None, int]:
    yield Metadata(news, {"rows": value})
    return value

@dag(schedule=None)
def pipeline():
    tells(1)
"""


def test_the_extras_of_asset_events(run_file, small):
    """What a step yields about an asset reaches the event."""
    run = run_file(_HEADER + _EVENTS, small)
    assert run.states == {"tells": "success"}, run.tasks[-1].error
    assert run.task("tells").events["news"]["rows"] == 1
