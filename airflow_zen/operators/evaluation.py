"""`evaluate` and `EvaluateOperator`: the evaluation of a model as a step, whose output is an `EvaluationReport`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.standard.utils.skipmixin import SkipMixin
from airflow.sdk.bases.decorator import get_unique_task_id
from msgspec.structs import replace

from airflow_zen.artifacts.folder import MANIFEST_FILE_NAME, Manifest, artifact_prefix
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.version import VersionSelector
from airflow_zen.config.settings import Settings, tracking_server
from airflow_zen.errors import ArtifactNotFound, InputError, LineageNotFound, SettingsError, StepDefinitionError
from airflow_zen.materializers.annotations import FAIL, WARN, validate_failure_action
from airflow_zen.materializers.base import installed_version
from airflow_zen.operators.ml_step import MLStepOperator
from airflow_zen.operators.validation import artifact_name, is_artifact
from airflow_zen.stack import Stack
from airflow_zen.steps.step import Step
from airflow_zen.validation.evaluation import RESAMPLES, as_thresholds, evaluate_model

_EVALUATION_VERSION = 1
"""Raised when the same evaluation finds something else in the same model; it is in the cache key."""

_TASKS = ("", "regression", "binary", "multiclass", "ranking")


class EvaluateOperator(MLStepOperator, SkipMixin):
    """Evaluate a model on a table, and return the report as an artifact.

    `model`, `table`: outputs of steps, or versions of named artifacts; `target` is the column that the model predicts.
    `metrics`: names, or functions of the true and the predicted values, greater is better; by default the usual ones of
    the task. `slices`: columns whose values are evaluated one by one. `baseline`: `"name@alias"` of a registered model in
    MLflow, which is looked up when the task runs, or an artifact; there is nothing to compare with where it does not
    exist yet. `thresholds`: numbers or `Threshold`s by metric. `checks`: functions of the model and the table. `task`:
    `"regression"`, `"binary"`, `"multiclass"` or `"ranking"`; by default what model and target tell. `resamples`: samples
    of the bootstrap. `max_bytes`: the greatest size of the model's artifact. `max_latency`: the seconds that 95% of
    predictions of one row may take. `on_failure` is that of `ValidateOperator`; other options are those of `MLStepOperator`. Raises
    `StepDefinitionError` or `ValidationDefinitionError` for what cannot be evaluated.
    """

    custom_operator_name = "evaluate"
    ui_color = "#eef3e2"

    def __init__(
        self,
        *,
        model_to_evaluate: Any,
        table: Any,
        target: str,
        metrics: Sequence[Any] | None = None,
        slices: Sequence[str] = (),
        baseline: Any = None,
        thresholds: Mapping[str, Any] | None = None,
        checks: Sequence[Any] = (),
        task: str = "",
        resamples: int = RESAMPLES,
        max_bytes: int | None = None,
        max_latency: float | None = None,
        on_failure: Any = FAIL,
        **options: Any,
    ) -> None:
        _check_arguments(model_to_evaluate, table, baseline, task, resamples)
        _check_limits(max_bytes, max_latency)
        arguments = {
            "model": model_to_evaluate,
            "table": table,
            "target": target,
            "metrics": None if metrics is None else list(metrics),
            "slices": [slices] if isinstance(slices, str) else list(slices),
            "baseline": baseline,
            "thresholds": as_thresholds(thresholds or {}),
            "checks": [checks] if callable(checks) else list(checks),
            "task_type": task,
            "resamples": resamples,
            "max_bytes": max_bytes,
            "max_latency": max_latency,
        }
        super().__init__(python_callable=evaluate_model, op_kwargs=arguments, **options)
        self.on_failure = validate_failure_action(on_failure)

    @property
    def inherits_from_skipmixin(self) -> bool:
        """Whether a failure, or its absence, skips tasks."""
        return self.on_failure not in (FAIL, WARN)

    @property
    def step(self) -> Step:
        """The function with its options; the version of scikit-learn is in the cache key."""
        version = f"{self.version} scikit-learn {installed_version('scikit-learn')} {_EVALUATION_VERSION}".strip()
        return replace(super().step, version=version, on_failure=getattr(self, "on_failure", FAIL))

    def look_up_arguments(self, settings: Settings, stack: Stack) -> None:
        """Look up the baseline, and the size of the model."""
        baseline, found = self.op_kwargs.get("baseline"), dict(self.op_kwargs)
        if isinstance(baseline, str) or VersionSelector.is_wire(baseline):
            found["baseline"], found["baseline_name"] = _find_baseline(baseline, settings, stack)
        if found.get("max_bytes") is not None:
            found["model_bytes"] = _size(found["model"], stack)
        self.op_kwargs = found


def evaluate(
    model: Any,
    table: Any,
    target: str,
    *,
    metrics: Sequence[Any] | None = None,
    slices: Sequence[str] = (),
    baseline: Any = None,
    thresholds: Mapping[str, Any] | None = None,
    checks: Sequence[Any] = (),
    task: str = "",
    resamples: int = RESAMPLES,
    max_bytes: int | None = None,
    max_latency: float | None = None,
    on_failure: Any = FAIL,
    task_id: str = "",
    **options: Any,
) -> Any:
    """Add a step to the DAG that evaluates a model; return its report, for other steps.

    The arguments are those of `EvaluateOperator`. `task_id` is by default `evaluate_` with the name of the task, or of the
    artifact, that is evaluated.
    """
    name = task_id or get_unique_task_id(
        f"evaluate_{artifact_name(model, 'model')}", options.get("dag"), options.get("task_group")
    )
    operator = EvaluateOperator(
        task_id=name,
        model_to_evaluate=model,
        table=table,
        target=target,
        metrics=metrics,
        slices=slices,
        baseline=baseline,
        thresholds=thresholds,
        checks=checks,
        task=task,
        resamples=resamples,
        max_bytes=max_bytes,
        max_latency=max_latency,
        on_failure=on_failure,
        **options,
    )
    return operator.output


def _size(model: Any, stack: Stack) -> int | None:
    """Return the bytes of a model's artifact, None for a value that is none."""
    if VersionSelector.is_wire(model):
        return stack.names.resolve(VersionSelector.from_wire(model)).size
    return ArtifactRef.from_wire(model).size if ArtifactRef.is_wire(model) else None


def _find_baseline(baseline: Any, settings: Settings, stack: Stack) -> tuple[Any, str]:
    """Return the baseline as a ref in its wire form, None where it does not exist yet; and its name."""
    if not isinstance(baseline, str):
        selector = VersionSelector.from_wire(baseline)
        name = f"artifact {selector.name!r}, version {selector.version!r}"
        try:
            return stack.names.resolve(selector).to_wire(), name
        except ArtifactNotFound:
            return None, name
    digest = _registered_digest(baseline, settings)
    if digest is None:
        return None, f"model {baseline!r} in MLflow's registry"
    prefix = artifact_prefix(digest)
    try:
        text = stack.store.transport.read(f"{prefix}/{MANIFEST_FILE_NAME}")
    except FileNotFoundError as error:
        raise ArtifactNotFound(
            f"The artifact {digest[:12]} of model {baseline!r} is not in {stack.store.root}. Point the alias at a version that "
            "was made with this artifact root."
        ) from error
    ref = Manifest.from_json(text, digest).ref(f"{stack.store.root}/{prefix}", baseline)
    return ref.to_wire(), f"model {baseline!r}"


def _registered_digest(baseline: str, settings: Settings) -> str | None:
    """Return the digest of the model version that an alias names; None where there is no such model or alias."""
    from airflow_zen.lineage.mlflow.models import RegisteredModels
    from airflow_zen.lineage.mlflow.rest import MlflowRest

    server = tracking_server(settings)
    if server is None:
        option = settings.qualified_option("mlflow_conn_id")
        raise SettingsError(
            f"evaluate(baseline={baseline!r}) looks up a registered model, and MLflow is not configured: set {option} or "
            "mlflow_tracking_uri, or write baseline=Artifact('name').version('champion')."
        )
    registry, (name, _, alias) = RegisteredModels(MlflowRest(server)), baseline.rpartition("@")
    try:
        number = registry.aliases(name).get(alias)
    except LineageNotFound:
        return None
    if number is None:
        return None
    (version,) = [each for each in registry.versions(name) if str(each["version"]) == number]
    tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
    if "zen.digest" not in tags:
        raise InputError(
            f"Version {number} of model {name!r} was not registered by a step, so that its artifact is not known. Register "
            f"it with @ml_step(model={name!r}), or write baseline=Artifact('name').version('champion')."
        )
    return str(tags["zen.digest"])


def _check_arguments(model: Any, table: Any, baseline: Any, task: str, resamples: Any) -> None:
    """Raise `StepDefinitionError` for arguments that are no artifacts, and for invalid options."""
    for name, value in (("model", model), ("table", table)):
        if not is_artifact(value):
            raise StepDefinitionError(
                f"evaluate({name}=…) takes the output of a step, or a version of an artifact such as "
                f"Artifact('model').latest(), got {value!r}. Models at hand are evaluated by "
                "airflow_zen.validation.evaluation.evaluate_model."
            )
    is_alias = isinstance(baseline, str) and all(part.strip() for part in baseline.rpartition("@"))
    if not (baseline is None or is_alias or (not isinstance(baseline, str) and is_artifact(baseline))):
        raise StepDefinitionError(
            f"evaluate(baseline=…) takes 'name@alias' of a registered model, such as 'flight_delay@champion', or an artifact; "
            f"got {baseline!r}."
        )
    if task not in _TASKS:
        raise StepDefinitionError(f"evaluate(task=…) is one of {', '.join(_TASKS[1:])}, got {task!r}.")
    if not isinstance(resamples, int) or isinstance(resamples, bool) or resamples < 100:
        raise StepDefinitionError(f"evaluate(resamples=…) is a number of at least 100, got {resamples!r}.")


def _check_limits(max_bytes: Any, max_latency: Any) -> None:
    for name, value in (("max_bytes", max_bytes), ("max_latency", max_latency)):
        is_number = isinstance(value, int if name == "max_bytes" else int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and value > 0):
            unit = "bytes" if name == "max_bytes" else "seconds"
            raise StepDefinitionError(f"evaluate({name}=…) is a number of {unit} above 0, got {value!r}.")
