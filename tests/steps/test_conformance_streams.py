"""Promises of steps that return their table batch by batch."""

import os
import threading
from collections.abc import Generator, Iterator
from typing import Annotated

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from airflow_zen.errors import OutputError, StepInterrupted
from airflow_zen.materializers.annotations import Columns
from airflow_zen.runs.step_run import StepState
from airflow_zen.steps.outputs import Output
from airflow_zen.steps.step import Step
from tests.calls import CALLS_FILE_VARIABLE, record_call, recorded_calls


@pytest.fixture(autouse=True)
def _calls(tmp_path, monkeypatch):
    monkeypatch.setenv(CALLS_FILE_VARIABLE, str(tmp_path / "calls"))


def table(batches: int) -> Iterator[pd.DataFrame]:
    record_call(batches)
    for n in range(batches):
        yield pd.DataFrame({"a": [n, n + 1]})


def records(batches: int) -> Generator[pa.RecordBatch, None, None]:
    for n in range(batches):
        yield pa.record_batch({"a": [n]})


def reader(batches: int) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64())]), records(batches))


def plan(rows: int) -> pl.LazyFrame:
    return pl.LazyFrame({"a": range(rows)})


def undeclared(batches):
    yield pd.DataFrame({"a": range(batches)})


def load(stack, ref, tmp_path):
    into = tmp_path / os.urandom(4).hex()
    into.mkdir()
    return stack.load(ref, into)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (table, "pandas.DataFrame"),
        (undeclared, "pandas.DataFrame"),
        (records, "pyarrow.Table"),
        (reader, "pyarrow.Table"),
        (plan, "polars.DataFrame"),
    ],
)
def test_batches_become_one_artifact(function, kind, run, stack, tmp_path):
    """A step that yields its table in batches stores one table, which equal work reuses."""
    ref = run(function, 3).outputs["output"]
    assert ref.type == kind
    assert len(load(stack, ref, tmp_path)) in (3, 6)
    assert run(function, 3).cache == "hit"


def test_one_of_several_outputs_may_come_in_batches(run, stack, tmp_path):
    """An iterator beside another output is stored as any output is."""

    def both() -> Output(table=Iterator[pd.DataFrame], count=int):
        return table(2), 2

    done = run(both)
    assert list(done.outputs) == ["table", "count"]
    assert len(load(stack, done.outputs["table"], tmp_path)) == 4


def test_declared_batches_are_part_of_the_key(run):
    """Another declared type of batches is other work."""

    def one() -> Iterator[pd.DataFrame]:
        yield pd.DataFrame({"a": [1]})

    first = run(one)
    one.__annotations__["return"] = Iterator
    assert (run(one).cache, first.cache) == ("miss", "miss")


def test_error_of_the_function_is_the_error_of_the_step(run, stack, recorder):
    """An error of a generator fails the step unchanged, and nothing is stored."""

    def half() -> Iterator[pd.DataFrame]:
        yield pd.DataFrame({"a": [1]})
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        run(half)
    assert recorder.runs[-1][1].state is StepState.FAILED
    assert recorder.runs[-1][1].error == "KeyError: 'no more'"
    assert list(stack.store.transport.list("artifacts")) == []


def test_interrupt_between_batches_kills_the_step(run, recorder):
    """An interrupted generator cleans up, and its step ends as killed."""
    cleaned = []

    def interrupted() -> Iterator[pd.DataFrame]:
        try:
            yield pd.DataFrame({"a": [1]})
            raise StepInterrupted
        finally:
            cleaned.append(True)

    with pytest.raises(StepInterrupted):
        run(interrupted)
    assert (recorder.runs[-1][1].state, cleaned) == (StepState.KILLED, [True])


def test_batch_of_another_type_is_refused(run):
    """Each batch is checked against the declared type, and the error names its number."""

    def wrong() -> Iterator[pd.DataFrame]:
        yield pd.DataFrame({"a": [1]})
        yield {"a": 1}

    with pytest.raises(OutputError, match=r"Step 'wrong': output 'output\[1\]' is declared DataFrame"):
        run(wrong)


def test_list_is_no_iterator(run):
    """A list where batches are declared is refused."""

    def listed() -> Iterator[pd.DataFrame]:
        return [pd.DataFrame({"a": [1]})]

    with pytest.raises(OutputError, match="builtins.list"):
        run(listed)


def test_generator_runs_inside_its_lineage_run(run, recorder):
    """While batches are made, the environment of the MLflow run is set, in the thread that called the function."""
    recorder.environment["MLFLOW_RUN_ID"] = "run-1"
    seen = []

    def looking() -> Iterator[pd.DataFrame]:
        seen.append((os.environ.get("MLFLOW_RUN_ID"), threading.current_thread() is threading.main_thread()))
        yield pd.DataFrame({"a": [1]})

    run(looking)
    assert seen == [("run-1", True)]
    assert "MLFLOW_RUN_ID" not in os.environ


def test_generator_that_a_function_closes_over_is_not_consumed(run):
    """The cache key does not consume an iterator that the code refers to; such a step is not cached."""
    numbers = iter([pd.DataFrame({"a": [1]})])

    def consuming() -> int:
        record_call("consuming")
        return len(list(numbers))

    done = run(consuming, step=Step(consuming, "consuming"))
    assert (done.cache, done.state) == ("off", StepState.FINISHED)
    assert recorded_calls() == ["consuming"]
    assert next(numbers, None) is None


def test_part_that_is_read_is_part_of_the_key(run):
    """The same function with another view of the same table is other work; with the same view it is not."""
    made = run(table, 3).outputs["output"].to_wire()

    def reading(part) -> int:
        return len(list(part))

    views = [
        pd.DataFrame,
        Annotated[pd.DataFrame, Columns("a")],
        Iterator[pd.DataFrame],
        Iterator[pa.RecordBatch],
        pa.Table,
        pa.RecordBatchReader,
        pl.DataFrame,
    ]
    for cache in ("miss", "hit"):
        for view in views:
            reading.__annotations__["part"] = view
            assert run(reading, made).cache == cache, view

    def counting(part) -> int:
        return 1

    for view in (ds.Dataset, pl.LazyFrame, Iterator[pl.DataFrame]):
        counting.__annotations__["part"] = view
        assert run(counting, made).cache == "miss", view


def test_stream_in_and_stream_out(run, stack, tmp_path):
    """A step may read a table batch by batch and yield one batch by batch at the same time."""

    def doubled(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            yield batch * 2

    made = run(table, 3).outputs["output"].to_wire()
    assert list(load(stack, run(doubled, made).outputs["output"], tmp_path)["a"]) == [0, 2, 2, 4, 4, 6]
