"""`deploy` and `DeployModelOperator`: a model version that answers requests, as a step whose output is a `Deployment`."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Any

from airflow.sdk.bases.decorator import get_unique_task_id

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.config.model_selectors import SelectorResolver
from airflow_zen.config.settings import Settings
from airflow_zen.deployment.base import Deployment, Target
from airflow_zen.deployment.state import NAME
from airflow_zen.errors import ArtifactNotFound, ModelNameError, StepDefinitionError, log_errors
from airflow_zen.models.model import ModelSelector, as_selector
from airflow_zen.operators.artifact import Artifact
from airflow_zen.operators.ml_step import MLStepOperator
from airflow_zen.operators.validation import is_artifact, unique_task_id

DEPLOYMENTS = "deployments"
"""The prefix of the names of deployments' artifacts."""


class DeployModelOperator(MLStepOperator):
    """Serve a model version on a target, and return the `Deployment` as an artifact.

    `model_to_deploy`: `"name@alias"` or `Model("name").champion()`, which are looked up when the task runs, or the output
    of a step. `to`: the target. `rows`: a table or array, outputs of steps too, whose first 100 rows the new server must
    predict as the model does in this process, before it gets traffic. `deployment`: the name that it is served under, by
    default that of the model. `token_conn_id`: the Airflow connection whose password clients send as a bearer token.
    `log_predictions`: whether requests and answers are stored. Other options are those of `MLStepOperator`; the task
    always runs. Raises `StepDefinitionError` for what cannot be deployed.

    The artifact is named `deployments/<name>`. Its asset has an event when something else is served than before.
    """

    custom_operator_name = "deploy"
    ui_color = "#e3ecf7"

    def __init__(
        self,
        *,
        model_to_deploy: Any,
        to: Target,
        rows: Any = None,
        deployment: str = "",
        token_conn_id: str = "",
        log_predictions: bool = True,
        **options: Any,
    ) -> None:
        model = parse_model(model_to_deploy)
        name = deployment or getattr(as_selector(model), "name", "")
        _check_arguments(model, to, rows, name)
        self.deployment = name
        arguments = {"model": model, "to": to, "rows": rows, "name": name, "model_name": "", "version": "", "owner": ""}
        arguments |= {"stack_name": "", "token_conn_id": token_conn_id, "log_predictions": log_predictions}
        super().__init__(python_callable=_deploying(name), op_kwargs=arguments, **{"cache": False, **options})

    def look_up_arguments(self, selectors: SelectorResolver) -> None:
        """Look up the model, and the number of its version."""
        found = {**self.op_kwargs, "stack_name": selectors.settings.stack, "model_name": self.deployment}
        if selector := as_selector(found["model"]):
            version = selectors.registry.get(selector)
            found |= {"model_name": version.name, "version": version.number}
            found["model"] = selectors.artifact_of(version, selector, "model").to_wire()
        self.op_kwargs = found

    def execute(self, context: Any) -> Any:
        """Deploy the model, for the user that triggered the run or else the owner of the task."""
        owner = getattr(context["dag_run"], "triggering_user_name", None) or self.owner
        self.op_kwargs = {**self.op_kwargs, "owner": str(owner)}
        return super().execute(context)


def deploy(model: Any, to: Target, *, name: str = "", task_id: str = "", **options: Any) -> Any:
    """Add a step to the DAG that serves a model version; return its `Deployment`, for other steps.

    `name` is the deployment's. `options` are those of `DeployModelOperator`: `rows`, `token_conn_id`, `log_predictions` and
    all options of a step. `task_id` is by default `deploy_` with the name, or with that of the model.
    """
    selected = parse_model(model)
    default = f"deploy_{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}"
    operator = DeployModelOperator(
        task_id=task_id or (default if name else unique_task_id("deploy", selected, "model", options)),
        model_to_deploy=selected,
        to=to,
        deployment=name,
        **options,
    )
    return operator.output


def parse_model(model: Any) -> Any:
    """Return an argument that names a model version as its selector; raise `StepDefinitionError` for another text."""
    if not isinstance(model, str):
        return model
    try:
        return ModelSelector.parse(model).to_wire()
    except ModelNameError as error:
        raise StepDefinitionError(f"deploy({model!r}): {error}") from error


class ReadPredictionsOperator(MLStepOperator):
    """Return what deployments of a model were asked and answered, as a table artifact.

    `model_name`: the registered model. `since`, `until`: limits of the time, ISO 8601 in UTC or the start of it; templates
    such as `"{{ data_interval_start }}"` too. A line has the inputs by their names, `prediction`, `predicted_at`,
    `model_version`, `deployment` and `latency_ms`. The same parts of the log are not read again.
    """

    custom_operator_name = "predictions"
    ui_color = "#e3ecf7"

    def __init__(self, *, model_name: str, since: str = "", until: str = "", **options: Any) -> None:
        arguments = {"model": model_name, "since": since, "until": until, "stack_name": "", "parts": ""}
        super().__init__(python_callable=read_logged_predictions, op_kwargs=arguments, **options)

    def look_up_arguments(self, selectors: SelectorResolver) -> None:
        """Look up which parts there are: their hash is in the cache key."""
        from airflow_zen.deployment.client import ServiceClient
        from airflow_zen.deployment.prediction_log import prediction_parts

        found = dict(self.op_kwargs)
        with log_errors("The latest predictions may be missing"):
            ServiceClient.configured().flush()
        parts = prediction_parts(selectors.stack.store.transport, found["model"], found["since"], found["until"])
        if not parts:
            raise ArtifactNotFound(
                f"No predictions of model {found['model']!r} are logged from {found['since'] or 'the start'!r} to "
                f"{found['until'] or 'now'!r}. Deploy it with log_predictions=True, and send a request."
            )
        digest = sha256("\n".join(parts).encode()).hexdigest()[:16]
        self.op_kwargs = found | {"stack_name": selectors.settings.stack, "parts": f"{len(parts)} parts, {digest}"}


def predictions(model: str, *, since: str = "", until: str = "", task_id: str = "", **options: Any) -> Any:
    """Add a step to the DAG that reads the prediction log of a model; return the table, for other steps.

    The arguments are those of `ReadPredictionsOperator`. `task_id` is by default `predictions_of_` with the model.
    """
    name = task_id or get_unique_task_id(
        f"predictions_of_{re.sub(r'[^A-Za-z0-9_.-]', '_', model)}", options.get("dag"), options.get("task_group")
    )
    return ReadPredictionsOperator(task_id=name, model_name=model, since=since, until=until, **options).output


def read_logged_predictions(model: str, since: str, until: str, stack_name: str, parts: str) -> Any:
    """Return the table, which is stored part by part; `parts` says in the cache key which parts there are."""
    from airflow_zen.config.settings import open_stack
    from airflow_zen.deployment.prediction_log import prediction_parts, read_predictions

    transport = open_stack(Settings.read(stack_name), lineage=False).store.transport
    return read_predictions(transport, prediction_parts(transport, model, since, until))


def _deploying(name: str) -> Callable[..., Any]:
    """Return the function of the step, whose output has the name of the deployment."""

    def deploy_model(
        model: ArtifactRef,
        to: Any,
        rows: Any,
        name: str,
        model_name: str,
        version: str,
        owner: str,
        stack_name: str,
        token_conn_id: str,
        log_predictions: bool,
    ) -> Deployment:
        from airflow_zen.deployment import step

        options = step.DeploymentOptions(
            name=name,
            model=model_name,
            version=version,
            owner=owner,
            stack=stack_name,
            token_conn_id=token_conn_id,
            log_predictions=log_predictions,
        )
        return step.deploy_model(model, to, rows, options)

    deploy_model.__annotations__["return"] = Annotated[Deployment, Artifact(f"{DEPLOYMENTS}/{name}")]
    return deploy_model


def _check_arguments(model: Any, to: Any, rows: Any, name: str) -> None:
    if not is_artifact(model):
        raise StepDefinitionError(
            f"deploy(…) takes 'name@alias' of a registered model, Model('name').champion(), or the output of a step, got "
            f"{model!r}."
        )
    if not isinstance(to, Target):
        raise StepDefinitionError(f"deploy(to=…) takes a target such as MLflowServing(), got {to!r}.")
    if not (rows is None or is_artifact(rows)):
        raise StepDefinitionError(
            f"deploy(rows=…) takes the output of a step, or a version of an artifact such as "
            f"Artifact('features').latest(), got {rows!r}."
        )
    if not name:
        raise StepDefinitionError(
            "deploy(…) of a step's output needs the name it is served under: deploy(…, name='…')."
        )
    if not re.fullmatch(NAME, name):
        raise StepDefinitionError(
            f"A deployment cannot be named {name!r}: use letters, digits, '_', '-' and '.', not 'log' or 'service'."
        )
