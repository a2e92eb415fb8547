"""The deployment step in the task: prepare the model, predict in this process, deploy to the target, set tags."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_zen.artifacts.ref import missing_error
from airflow_zen.deployment.base import Deployment, DeploymentRequest, Target
from airflow_zen.deployment.protocols import Rows, plain_predictions
from airflow_zen.deployment.unfinished import UnfinishedDeployments
from airflow_zen.errors import ArtifactNotFound, DeploymentFailed, SettingsError, log_errors
from airflow_zen.lineage.mlflow.errors import AWAY, MlflowRejected, MlflowUnavailable
from airflow_zen.lineage.mlflow.model_versions import versions_of_content
from airflow_zen.lineage.mlflow.models import ANY_OUTPUT, column_schema, completed_files, tensor_schema
from airflow_zen.lineage.mlflow.offline import mlflow_environment
from airflow_zen.model_files import MLMODEL_FILE
from airflow_zen.transports.timeouts import Timeouts

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.lineage.mlflow.rest import MlflowRest
    from airflow_zen.stack import Stack

log = logging.getLogger("airflow_zen.deployment")

SMOKE_TEST_ROWS = 100
"""The number of rows that a server predicts before it gets traffic, at most."""

_OWN_PACKAGE = "airflow-provider-zen"
_EXAMPLE_ROWS = 5


class DeploymentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a deployment besides its target: the request's fields known when the task starts.

    token_conn_id: the Airflow connection whose password clients send as a bearer token.
    """

    name: str
    model: str
    version: str = ""
    owner: str = ""
    stack: str = ""
    token_conn_id: str = ""
    log_predictions: bool = True


def deploy_model(ref: ArtifactRef, target: Target, rows: Any, options: DeploymentOptions) -> Deployment:
    """Deploy the model of a ref on a target; return the deployment, which may exist already.

    rows: a table or array whose first rows the smoke test predicts, None for no smoke test.
    """
    from airflow_zen.config.settings import Settings, open_stack

    stack = open_stack(Settings.read(options.stack), lineage=False)
    environment = _environment_of(ref, stack)
    request = _make_request(ref, options)
    deployed = target.find_current(request)
    if deployed:
        log.info("Version %s of %r is served already by %s: nothing to do.", deployed.version, deployed.model, target)
    else:
        deployed = target.resume(request) or _deploy_prepared(ref, target, rows, request, stack, environment)
        log.info("%s serves version %s of %r at %s", target, deployed.version, deployed.model, deployed.predict_url)
    UnfinishedDeployments(stack.store.transport).end(request.name)
    # An earlier try may have been killed before it set the tag.
    _tag_version(deployed, options)
    return deployed


def _deploy_prepared(
    ref: ArtifactRef,
    target: Target,
    rows: Any,
    request: DeploymentRequest,
    stack: Stack,
    environment: Mapping[str, Any],
) -> Deployment:
    """Deploy the model's files, with the predictions of `rows` in this process."""
    with stack.scratch_directory() as scratch:
        head = rows if rows is None else _head(rows)
        directory = prepare_model(ref, stack, scratch, environment, head)
        request = replace(request, directory=directory, requirements=_pins(environment, directory))
        if head is not None:
            predicted = predict_in_process(directory, head)
            add_output_schema(directory, predicted)
            request = replace(request, rows=Rows.from_value(head), expected=plain_predictions(predicted))
        UnfinishedDeployments(stack.store.transport).begin(request, target)
        return target.deploy(request, stack)


def prepare_model(ref: ArtifactRef, stack: Stack, into: Path, environment: Mapping[str, Any], rows: Any) -> Path:
    """Return the model's files in a separate directory, with pinned versions, and with a signature if it has none.

    rows: the source of the signature.
    """
    directory = stack.store.get(ref, into, private=True)
    mlmodel = directory / MLMODEL_FILE
    if not mlmodel.exists():
        raise DeploymentFailed(
            f"{ref.name or ref.digest[:12]!r} is {ref.type}, and no MLflow Model. Deploy a model that is stored as one "
            "(docs/steps.md), or return airflow_zen.MLflowModel(directory) from its step."
        )
    if "python_function" not in mlmodel.read_text(encoding="utf-8"):
        raise DeploymentFailed(f"{ref.type} has no MLflow flavor that predicts, so that no server can load it.")
    for name, content in completed_files(mlmodel.read_text(encoding="utf-8"), environment, _describe(rows)).items():
        (directory / name).write_bytes(content)
    return directory


def predict_in_process(directory: Path, rows: Any) -> Any:
    """Return the predictions of an MLflow Model in this process. Raises `DeploymentFailed` where it has none."""
    import mlflow.pyfunc

    try:
        return mlflow.pyfunc.load_model(str(directory)).predict(rows)
    except Exception as error:
        raise DeploymentFailed(
            f"The model does not predict the rows of the smoke test in this process: {error} Pass the table that the model "
            "was trained on, without the target. Where its library is not installed beside Airflow, pass no rows."
        ) from error


def add_output_schema(directory: Path, predicted: Any) -> None:
    """Write what the model predicts into a signature that does not say it: MLServer loads no model with such a one."""
    mlmodel, unknown = directory / MLMODEL_FILE, rf"(?m)^  outputs: (?:null|'{re.escape(ANY_OUTPUT)}')$"
    outputs = json.dumps(_output_schema(predicted)).replace("'", "''")
    text = re.sub(unknown, lambda _: f"  outputs: '{outputs}'", mlmodel.read_text(encoding="utf-8"))
    mlmodel.write_text(text, encoding="utf-8")


def _output_schema(predicted: Any) -> list[dict[str, Any]]:
    """Return a schema of MLflow's, https://mlflow.org/docs/latest/ml/model/signatures/."""
    if hasattr(predicted, "columns"):
        return [column_schema({"name": str(name), "type": str(kind)}) for name, kind in predicted.dtypes.items()]
    kind, shape = getattr(predicted, "dtype", None), getattr(predicted, "shape", ())
    if getattr(kind, "kind", "O") in "biuf":
        # A type of pandas' own is none of NumPy's.
        dtype = str(getattr(kind, "numpy_dtype", kind))
        return [tensor_schema({"dtype": dtype, "shape": [-1, *shape[1:]]})]
    return [{"type": "string", "required": True}]


def _make_request(ref: ArtifactRef, options: DeploymentOptions) -> DeploymentRequest:
    return DeploymentRequest(
        name=options.name,
        model=options.model,
        version=options.version or ref.digest[:12],
        digest=ref.digest,
        uri=ref.uri,
        directory=Path(),
        stack=options.stack,
        owner=options.owner,
        token=read_token(options.token_conn_id),
        log_predictions=options.log_predictions,
        paths=tuple(dict.fromkeys(_project_paths(ref))),
    )


def _environment_of(ref: ArtifactRef, stack: Stack) -> Mapping[str, Any]:
    """Return the versions that a model was made with; empty if its own files contain them."""
    try:
        return dict(stack.store.manifest(ref).summary.get("environment", {}))
    except ArtifactNotFound as error:
        raise missing_error(ref.uri) from error


def _pins(environment: Mapping[str, Any], directory: Path) -> tuple[str, ...]:
    """Return the requirements of a model without this package, which servers import from another folder."""
    lines = environment.get("requirements")
    if lines is None:
        written = directory / "requirements.txt"
        lines = written.read_text().splitlines() if written.exists() else []
    stripped = (line.strip() for line in lines)
    return tuple(line for line in stripped if line and not line.startswith(("#", _OWN_PACKAGE)))


def _head(rows: Any) -> Any:
    """Return the first rows; tables as frames of pandas."""
    if hasattr(rows, "to_pandas"):
        rows = rows.head(SMOKE_TEST_ROWS) if hasattr(rows, "head") else rows.slice(0, SMOKE_TEST_ROWS)
        return rows.to_pandas()
    return rows[:SMOKE_TEST_ROWS]


def _describe(rows: Any) -> dict[str, Any]:
    """Return the description from which `completed_files` makes a signature."""
    if rows is None:
        return {}
    if not hasattr(rows, "columns"):
        return {"dtype": str(rows.dtype), "shape": [-1, *rows.shape[1:]]}
    columns = [{"name": str(name), "type": str(kind)} for name, kind in rows.dtypes.items()]
    return {"columns": columns, "rows": [*Rows.from_value(rows[:_EXAMPLE_ROWS]).data]}


def _project_paths(ref: ArtifactRef) -> Iterator[str]:
    """Yield the folders of the project's modules that the model uses."""
    for name in ref.code:
        with suppress(ImportError):
            module = importlib.import_module(name.partition(":")[0])
            if file := getattr(module, "__file__", None):
                yield str(Path(file).resolve().parents[module.__name__.count(".") + (Path(file).stem == "__init__")])


def read_token(conn_id: str) -> str:
    """Return the password of a connection; empty without one. Raises `SettingsError` if there is no password."""
    if not conn_id:
        return ""
    from airflow.sdk import BaseHook

    try:
        token = BaseHook.get_connection(conn_id).password
    except Exception as error:
        raise SettingsError(f"token_conn_id={conn_id!r} names a connection that cannot be read: {error}") from error
    if not token:
        raise SettingsError(f"Connection {conn_id!r} has no password: set it to the token that clients send.")
    return str(token)


def _tag_version(deployed: Deployment, options: DeploymentOptions) -> None:
    """Set the endpoint as a tag of the model's version in MLflow; while MLflow is away, with the step's lineage later.

    Where the task did not look up the version, it is found by its content. Errors are only logged.
    """
    from airflow_zen.config.settings import Settings, tracking_server
    from airflow_zen.lineage.mlflow.rest import MLFLOW_TIMEOUTS, SET_VERSION_TAG, MlflowRest

    if (server := tracking_server(Settings.read(options.stack))) is None:
        return
    with log_errors(f"Model {deployed.model!r} has no tag of its deployment in MLflow"):
        relayed = dataclasses.replace(server, uri=mlflow_environment().get("MLFLOW_TRACKING_URI", server.uri))
        # Longer than the relay waits for the server.
        rest = MlflowRest(relayed, Timeouts(MLFLOW_TIMEOUTS.connect, float(server.user_timeout) + 3))
        if number := options.version or _version_of_content(rest, deployed):
            tag = {"key": f"zen.deployment.{deployed.name}", "value": deployed.endpoint}
            rest.post(SET_VERSION_TAG, {"name": deployed.model, "version": number, **tag})


def _version_of_content(rest: MlflowRest, deployed: Deployment) -> str:
    """Return the version of the deployed content, empty where there is none.

    While MLflow is away that is the digest: the outbox of the step has it until the version is known.
    """
    try:
        found = versions_of_content(rest, deployed.model, deployed.digest)
    except MlflowUnavailable:
        return deployed.digest
    except MlflowRejected as error:
        # The relay of the step answers so while MLflow is away.
        if error.error_code != AWAY:
            raise
        return deployed.digest
    return str(found[0]["version"]) if found else ""
