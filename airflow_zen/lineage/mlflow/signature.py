"""The signature and the input example of a model, as MLflow's own `save_model` writes them.

https://mlflow.org/docs/latest/ml/model/signatures/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from airflow_zen.lineage.mlflow.datasets import mlflow_column_type

MLMODEL_FILE = "MLmodel"

_EXAMPLE_FILE, _SERVING_FILE = "input_example.json", "serving_input_example.json"
_OWN_SIGNATURE = re.compile(r"^signature:", re.MULTILINE)


def signature_files(mlmodel: str, described: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files with which a model directory has a signature; none where its `MLmodel` has one already.

    described: the `columns` that the model takes and, where there are any, `rows` of them.
    """
    if _OWN_SIGNATURE.search(mlmodel):
        return {}
    columns = described["columns"]
    inputs = json.dumps([_column(column) for column in columns], ensure_ascii=False).replace("'", "''")
    text = f"{mlmodel.rstrip()}\nsignature:\n  inputs: '{inputs}'\n  outputs: null\n  params: null\n"
    if not described.get("rows"):
        return {MLMODEL_FILE: text.encode()}
    split = {"columns": [column["name"] for column in columns], "data": described["rows"]}
    text += (
        f"saved_input_example_info:\n  artifact_path: {_EXAMPLE_FILE}\n  pandas_orient: split\n"
        f"  serving_input_path: {_SERVING_FILE}\n  type: dataframe\n"
    )
    contents = {_EXAMPLE_FILE: split, _SERVING_FILE: {"dataframe_split": split}}
    return {MLMODEL_FILE: text.encode()} | {name: json.dumps(each).encode() for name, each in contents.items()}


def _column(column: Mapping[str, Any]) -> dict[str, Any]:
    """Return a column of MLflow's schema; MLflow would change categories to texts, so they have no type."""
    name = str(column["type"])
    kind = "any" if re.match("categor|enum", name.lower()) else mlflow_column_type(name)
    return {"type": kind, "name": column["name"], "required": True}
