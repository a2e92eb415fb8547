"""Build a Bento of an MLflow Model: `python -m airflow_zen.deployment.programs.bento_build NAME VERSION DIRECTORY`.

It runs in an environment with bentoml and mlflow, which becomes that of the Bento.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bentoml
from bentoml.exceptions import NotFound
from mlflow.models import Model
from mlflow.types.schema import DataType

import airflow_zen

# JSON has no missing number but null.
_TYPES = {
    DataType.double: "float | None",
    DataType.float: "float | None",
    DataType.integer: "int",
    DataType.long: "int",
    DataType.boolean: "bool",
    DataType.string: "str | None",
    DataType.binary: "str",
    DataType.datetime: "datetime",
}
_OWN = "airflow-provider-zen"
_SERVICE = '''"""The service of model {tag}, as its signature describes it."""

from datetime import datetime
from typing import Any

import bentoml
from bentoml.exceptions import InvalidArgument
from typing_extensions import NotRequired, TypedDict

with bentoml.importing():
    from airflow_zen.deployment.programs.served_model import BadRows, ServedModel, json_predictions

{row}


@bentoml.service(name={name!r})
class MLflowModel:
    model = bentoml.models.BentoModel({tag!r})

    def __init__(self) -> None:
        self.served = ServedModel(bentoml.models.get(self.model.tag).path_of("mlflow_model"))

    @bentoml.api
    def predict(self, rows: list[Row]) -> {answer}:
        """Return what the model predicts, one item a row."""
        try:
            return json_predictions(self.served.predict_rows(rows))
        except BadRows as error:
            raise InvalidArgument(str(error)) from error
'''


def build(name: str, version: str, directory: Path) -> None:
    """Build the Bento of a version, unless the store in BENTOML_HOME has it."""
    tag = f"{name}:{version}"
    if _exists(bentoml.bentos.get, tag):
        return
    if not _exists(bentoml.models.get, tag):
        bentoml.mlflow.import_model(tag, str(directory))
    with TemporaryDirectory(prefix="bento-") as context:
        Path(context, "service.py").write_text(service_text(name, tag, Model.load(directory)))
        package = Path(airflow_zen.__file__).parent
        shutil.copytree(package, Path(context, package.name), ignore=shutil.ignore_patterns("__pycache__"))
        python = {"packages": sorted(_installed()), "lock_packages": False}
        bentoml.bentos.build(
            "service:MLflowModel", name=name, version=version, models=[tag], python=python, build_ctx=context
        )


def service_text(name: str, tag: str, model: Model) -> str:
    """Return the source of a service whose API has the types of the model's signature."""
    inputs, outputs = model.get_input_schema(), model.get_output_schema()
    return _SERVICE.format(name=name, tag=tag, row="\n".join(_row(inputs)), answer=_answer(outputs))


def _installed() -> set[str]:
    # This package is in the build context, and what makes it importable here is in no registry.
    found = (each for each in distributions() if each.name != "bentoml" and not each.name.startswith(_OWN))
    return {f"{each.name}=={each.version}" for each in found}


def _row(schema: Any) -> Iterator[str]:
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        yield "Row = dict[str, Any] | list[Any]"
        return
    yield 'Row = TypedDict("Row", {'
    for column in schema.inputs:
        kind = _TYPES.get(column.type, "Any")
        yield f"    {column.name!r}: {kind if column.required else f'NotRequired[{kind}]'},"
    yield "})"


def _answer(schema: Any) -> str:
    if schema is None or len(schema.inputs) > 1 or (not schema.is_tensor_spec() and schema.has_input_names()):
        return "list[Any]"
    (output,) = schema.inputs
    if not schema.is_tensor_spec():
        return f"list[{_TYPES.get(output.type, 'Any')}]"
    kind = {"i": "int", "u": "int", "f": "float | None", "b": "bool"}.get(output.type.kind, "Any")
    for _ in output.shape:
        kind = f"list[{kind}]"
    return kind


def _exists(get: Any, tag: str) -> bool:
    try:
        get(tag)
    except NotFound:
        return False
    return True


if __name__ == "__main__":
    build(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
