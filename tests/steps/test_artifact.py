"""Promises of `Artifact(materializer=…)` on outputs and parameters."""

from dataclasses import replace
from typing import Annotated, NamedTuple

import pandas as pd
import pytest

from airflow_zen import Artifact, Materializer
from airflow_zen.errors import MaterializerNotFound, StepDefinitionError
from airflow_zen.runs.step_run import StepState
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.cache_key import cache_key
from airflow_zen.steps.outputs import Each, Output
from airflow_zen.steps.step import Step


class CsvMaterializer(Materializer):
    encoding = "mine.csv@1"

    def save(self, value, directory):
        value.to_csv(directory / "table.csv", index=False)
        return {}

    def load(self, directory, encoding, wanted=None):
        return pd.read_csv(directory / "table.csv")


Csv = Annotated[pd.DataFrame, Artifact(materializer=CsvMaterializer)]


class Parts(NamedTuple):
    train: Csv
    test: pd.DataFrame


def one() -> Csv:
    return pd.DataFrame({"a": [1]})


def written() -> "Annotated[pd.DataFrame, 'table', Artifact(materializer=CsvMaterializer)]":
    return pd.DataFrame({"a": [1]})


def several() -> Output(train=Csv, test=pd.DataFrame):
    return one(), one()


def annotated() -> tuple[
    Annotated[pd.DataFrame, "train", Artifact(materializer=CsvMaterializer)], Annotated[pd.DataFrame, "test"]
]:
    return one(), one()


def fields() -> Parts:
    return Parts(one(), one())


def reads(table: Csv) -> int:
    return len(table)


def reads_plainly(table: pd.DataFrame) -> int:
    return len(table)


def maybe() -> Csv | None:
    return one()


@pytest.mark.parametrize(
    ("function", "encodings"),
    [
        (one, {"output": "mine.csv@1"}),
        (written, {"table": "mine.csv@1"}),
        (maybe, {"output": "mine.csv@1"}),
        (several, {"train": "mine.csv@1", "test": "pandas.parquet@1"}),
        (annotated, {"train": "mine.csv@1", "test": "pandas.parquet@1"}),
        (fields, {"train": "mine.csv@1", "test": "pandas.parquet@1"}),
    ],
)
def test_output_is_stored_by_the_named_materializer(run, function, encodings):
    """However an output is declared, the materializer its annotation names stores it, and no other output."""
    assert {name: ref.encoding for name, ref in run(function).outputs.items()} == encodings


def test_parameter_names_the_materializer_that_reads(run):
    """A parameter annotated with the same materializer reads what it wrote; any other is told that it is not registered."""
    ref = run(one).outputs["output"]
    assert run(reads, ref).state is StepState.FINISHED
    hint = "CsvMaterializer is a Materializer for it, but is not registered. Decorate it with @register_materializer"
    with pytest.raises(MaterializerNotFound, match=hint):
        run(reads_plainly, ref)
    unknown = replace(ref, encoding="mine.csv@9")
    with pytest.raises(MaterializerNotFound, match=r"mine\.csv@9.*register_materializer"):
        run(reads_plainly, unknown)


def test_named_encoding_is_in_the_key(stack):
    """A step whose output has another encoding does not reuse a result of the old encoding."""
    key = cache_key(Step(one, "one"), Arguments.bind(one, (), {}), stack)
    assert "mine.csv@1" in key.ingredients["output output"]


def test_the_code_of_a_materializer_is_part_of_the_work(stack):
    """A step's own materializer is part of its code: when it changes, the result is computed again."""
    found = cache_key(Step(one, "one"), Arguments.bind(one, (), {}), stack).ingredients
    named = [label for label in found if "CsvMaterializer" in label]
    assert named == ["class CsvMaterializer"], sorted(found)
    plain = cache_key(Step(reads_plainly, "plain"), Arguments.bind(reads_plainly, (1,), {}), stack).ingredients
    assert not any("Materializer" in label for label in plain)


def elements() -> list[Csv]:
    return [one()]


def named_elements() -> dict[str, Annotated[pd.DataFrame, Artifact("features")]]:
    return {"a": one()}


def one_of_several() -> Output(train=list[Csv], test=pd.DataFrame):
    return [one()], one()


def marked_elements() -> Annotated[list[Csv], Each]:
    return [one()]


def test_elements_that_are_no_artifacts_have_no_materializer(run):
    """An `Artifact(…)` around elements that are no artifacts is refused."""
    for function in (elements, named_elements, one_of_several):
        with pytest.raises(StepDefinitionError, match=r"around its elements, .*Annotated\[list\[T\], Artifact"):
            run(function)
    assert run(marked_elements).outputs["output[0]"].encoding == "mine.csv@1"
