"""Promises of `pandera.typing.DataFrame[Model]` on steps: what comes in and goes out conforms to the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pandera.pandas as pp
import pandera.polars as pap
import polars as pl
import pytest
from pandera.typing import DataFrame
from pandera.typing.polars import DataFrame as PolarsFrame

from airflow_zen.config.settings import open_stack
from airflow_zen.errors import InputError, OutputError
from airflow_zen.steps.conformance import ValuePath, coerce, coerce_output
from airflow_zen.steps.conversion import load_as_type
from tests.validation.flights import flights


class Delays(pp.DataFrameModel):
    dep_delay: float = pp.Field(le=600, nullable=True)


class Coerced(pp.DataFrameModel):
    number: int = pp.Field(ge=1, coerce=True)


class Warned(pp.DataFrameModel):
    number: int = pp.Field(lt=100, coerce=True, raise_warning=True)


class PolarsDelays(pap.DataFrameModel):
    dep_delay: float = pap.Field(le=600)


LATE = pd.DataFrame({"dep_delay": [1.0, 601.0, 2.0, 700.0]}, index=list("pqrs"))


def test_output_that_does_not_conform_is_refused() -> None:
    """The error names the output, the model, the check, the number of rows and the first of them."""
    message = (
        r"output 'table' is declared with the schema Delays, .*less_than_or_equal_to\(dep_delay\) fails in 2 rows, "
        r"first at 'q': 601.0.*validate\(…, Pandera\(Delays\)\)"
    )
    with pytest.raises(OutputError, match=message):
        coerce_output(LATE, DataFrame[Delays], "table")
    with pytest.raises(OutputError, match=r"column_in_dataframe\(dep_delay\)"):
        coerce_output(LATE.rename(columns=str.upper), Annotated[DataFrame[Delays], "mark"], "table")


def test_conforming_frame_is_returned_as_it_is() -> None:
    """A frame that conforms is not copied; None and other choices stay allowed."""
    frame = LATE.head(1)
    assert coerce(frame, DataFrame[Delays], ValuePath("table")) is frame
    assert coerce(None, DataFrame[Delays] | None, ValuePath("table")) is None


def test_coercion_of_the_model_is_applied() -> None:
    """With `coerce`, the function gets, and the store has, the converted frame."""
    frame = coerce(pd.DataFrame({"number": ["1", "2"]}), DataFrame[Coerced], ValuePath("table"))
    assert frame["number"].tolist() == [1, 2]
    with pytest.raises(OutputError, match=r"coerce_dtype\(number\)"):
        coerce(pd.DataFrame({"number": ["1", "b"]}), DataFrame[Coerced], ValuePath("table"))


@pytest.mark.filterwarnings("error")
def test_check_that_warns_is_logged_without_the_values(caplog: pytest.LogCaptureFixture) -> None:
    """A failed check with `raise_warning` lets the converted frame pass, and is one line in the log."""
    frame = coerce(pd.DataFrame({"number": [str(n) for n in range(500)]}), DataFrame[Warned], ValuePath("table"))
    assert frame["number"].tolist() == list(range(500))
    assert [record.getMessage() for record in caplog.records] == ["less_than(number) fails in 400 rows of Warned"]


def test_frames_of_polars() -> None:
    """A model of pandera.polars is enforced on frames of Polars."""
    with pytest.raises(OutputError, match=r"less_than_or_equal_to\(dep_delay\) fails in 2 rows"):
        coerce(pl.from_pandas(LATE), PolarsFrame[PolarsDelays], ValuePath("table"))


def test_rows_are_counted_in_all_parts() -> None:
    """All failing rows of a large frame are counted, though it is checked in parts."""
    late = flights()["dep_delay"] > 600
    with pytest.raises(OutputError, match=f"fails in {late.sum()} rows, first at '{late.idxmax()}'"):
        coerce(flights(), DataFrame[Delays], ValuePath("table"))


def test_input_is_checked_when_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact that does not conform is refused as an argument, whole or when the batch comes."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    stack = open_stack(lineage=False)
    good, late = (stack.save(frame).ref for frame in (LATE.iloc[[0, 2]], LATE))

    def load(ref: Any, wanted: Any) -> Any:
        return load_as_type(stack, ref, tmp_path, wanted, "parameter 'table'")

    assert len(load(good, DataFrame[Delays])) == 2
    with pytest.raises(InputError, match="parameter 'table' is declared with the schema Delays"):
        load(late, DataFrame[Delays])
    assert len(pd.concat(load(good, Iterator[DataFrame[Delays]]))) == 2
    batches = load(late, Iterator[DataFrame[Delays]])
    with pytest.raises(InputError, match=r"parameter 'table'\[0\]"):
        next(batches)
