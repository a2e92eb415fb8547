"""Promises of `airflow_zen.steps.conversion`: an artifact is loaded as the requested type, or refused with its own type."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pandera.typing import DataFrame
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression

from airflow_zen import Columns
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.errors import InputError
from airflow_zen.steps.conversion import load_as_type

FRAME = pd.DataFrame({"a": [0.5], "b": [1]})


@dataclass
class Split:
    train: pd.DataFrame
    test: pd.DataFrame


class Predicts(Protocol):
    def predict(self, x: Any) -> Any: ...


@pytest.fixture
def asked(stack, tmp_path):
    """Store a value, and load it as a type."""

    def ask(value, wanted):
        into = tmp_path / "into"
        into.mkdir()
        return load_as_type(stack, stack.save(value).ref, into, wanted, "parameter 'x'")

    return ask


@pytest.mark.parametrize(
    ("value", "wanted", "cls"),
    [
        pytest.param(FRAME, pd.DataFrame, pd.DataFrame, id="its own"),
        pytest.param(FRAME, pl.DataFrame, pl.DataFrame, id="view"),
        pytest.param(FRAME, pa.Table | None, pa.Table, id="optional"),
        pytest.param(FRAME, pd.Series | pd.DataFrame, pd.DataFrame, id="union"),
        pytest.param(FRAME, DataFrame[Any], pd.DataFrame, id="pandera"),
        pytest.param(FRAME, Annotated[pd.DataFrame, Columns("a")], pd.DataFrame, id="columns"),
        pytest.param(FRAME, Iterator[pd.DataFrame], Iterator, id="batches"),
        pytest.param(FRAME, Path, Path, id="files"),
        pytest.param(FRAME, ArtifactRef, ArtifactRef, id="ref"),
        pytest.param(FRAME, Any, pd.DataFrame, id="any"),
        pytest.param(FRAME, None, pd.DataFrame, id="undeclared"),
        pytest.param(Split(FRAME, FRAME), Split, Split, id="dataclass"),
        pytest.param([FRAME], list[pl.DataFrame], list, id="views within"),
        pytest.param(DummyClassifier(), ClassifierMixin, DummyClassifier, id="base"),
        pytest.param(DummyClassifier(), Predicts, DummyClassifier, id="protocol"),
        pytest.param(3, float, float, id="wider"),
        pytest.param(np.int64(3), int, int, id="scalar"),
        pytest.param("a", Literal["a", "b"], str, id="literal"),
        pytest.param(None, pd.DataFrame, type(None), id="nothing"),
    ],
)
def test_value_is_loaded_as_the_requested_type(asked, value, wanted, cls):
    """A value is returned if it has the requested type, has that view, or is a number that can be widened to it."""
    assert isinstance(asked(value, wanted), cls)


@pytest.mark.parametrize(
    ("value", "wanted", "holds"),
    [
        pytest.param(FRAME, np.ndarray, "pandas.DataFrame", id="class"),
        pytest.param(FRAME, dict[str, float], "pandas.DataFrame", id="container"),
        pytest.param(FRAME, Split, "pandas.DataFrame", id="dataclass"),
        pytest.param(FRAME, np.ndarray | int, "pandas.DataFrame", id="union"),
        pytest.param(0.5, int, "builtins.float", id="narrower"),
        pytest.param(LinearRegression(), ClassifierMixin, "sklearn.linear_model.LinearRegression", id="base"),
        pytest.param([1, "a"], list[int], "builtins.str", id="element"),
        pytest.param("c", Literal["a", "b"], "'c'", id="literal"),
    ],
)
def test_value_of_another_type_is_refused(asked, value, wanted, holds):
    """A parameter never silently gets another type than it declares."""
    with pytest.raises(InputError, match=r"parameter 'x'.* is asked for as .*but its artifact holds") as refused:
        asked(value, wanted)
    assert f"holds {holds}, which has no such view. Ask for what it holds" in str(refused.value)
