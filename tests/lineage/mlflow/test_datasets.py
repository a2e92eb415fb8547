"""Promises of `airflow_zen.lineage.mlflow.datasets`."""

import json
from dataclasses import replace

import pytest

from airflow_zen.lineage.mlflow.datasets import dataset_inputs, mlflow_column_type, schema_json


@pytest.mark.parametrize(
    ("name", "word"),
    [
        *[(t, "long") for t in ("int64", "Int64", "uint32", "UInt64")],
        *[(t, "integer") for t in ("int8", "Int32", "uint16")],
        *[(t, "double") for t in ("float64", "Float64", "double")],
        *[(t, "float") for t in ("float32", "halffloat", "float16")],
        *[(t, "boolean") for t in ("bool", "Boolean")],
        *[(t, "datetime") for t in ("datetime64[ns, UTC]", "timestamp[us]", "date32[day]", "Datetime(time_unit='us')")],
        *[(t, "string") for t in ("object", "str", "large_string", "category", "Utf8", "String")],
        *[(t, "binary") for t in ("binary", "large_binary")],
        *[(t, "any") for t in ("list<item: int64>", "struct<a: int64>", "List(Int64)", "decimal128(10, 2)")],
    ],
)
def test_column_types(name, word):
    """Column types of pandas, Arrow and Polars become MLflow's; any other type is `any`."""
    assert mlflow_column_type(name) == word


@pytest.mark.parametrize(
    ("uri", "source_type"),
    [("s3://b/k", "s3"), ("s3a://b/k", "s3"), ("gs://b/k", "gs"), ("/root/k", "local"), ("abfs://c/k", "abfs")],
)
def test_source_types(ref, uri, source_type):
    """A dataset's source type is MLflow's name for the scheme of its address."""
    (found,) = dataset_inputs([replace(ref("d/x"), uri=uri)], [], {})
    assert found["dataset"]["source_type"] == source_type


def test_an_artifact_that_is_input_and_output(ref):
    """An artifact that is read twice and written is listed once, as an output."""
    frame = ref("d/x")
    (found,) = dataset_inputs([frame, frame], [frame], {})
    assert found["tags"] == [{"key": "mlflow.data.context", "value": "output"}]


def test_the_profile(ref):
    """The profile has scalars and the full digest; nested statistics are in the manifest only."""
    frame = ref("d/x")
    (found,) = dataset_inputs([frame], [], {frame.digest: {"rows": 3, "text": "x" * 9000, "statistics": {"a": 1}}})
    profile = json.loads(found["dataset"]["profile"])
    assert (profile["rows"], profile["sha256"], "statistics" in profile) == (3, frame.digest, False)
    assert len(profile["text"]) == 500
    assert "schema" not in found["dataset"]


def test_very_wide_tables(ref):
    """Columns beyond MLflow's limit are counted in the last one."""
    text = schema_json([{"name": f"column {n}", "type": "int64"} for n in range(30_000)])
    columns = json.loads(text)["mlflow_colspec"]
    assert len(text) <= 1_048_575
    assert columns[-1]["name"] == f"… {30_000 - len(columns) + 1} more columns"
