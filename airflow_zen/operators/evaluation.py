"""`evaluate` and `EvaluateOperator`: the evaluation of a model as a step, whose output is an `EvaluationReport`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_zen.artifacts.ref import ArtifactRef, VersionSelector
from airflow_zen.config.model_selectors import SelectorResolver
from airflow_zen.errors import ArtifactNotFound, ModelNameError, StepDefinitionError
from airflow_zen.materializers.base import installed_version
from airflow_zen.models.model import ModelSelector, as_selector
from airflow_zen.operators.validation import ReportOperator, check_sample, is_artifact, short_text, unique_task_id
from airflow_zen.validation.evaluation import BASELINE_DIGEST, MODEL_DIGEST, RESAMPLES, SAMPLE, evaluate_model
from airflow_zen.validation.evaluation_checks import as_thresholds

_TASKS = ("", "regression", "binary", "multiclass", "ranking")


class EvaluateOperator(ReportOperator):
    """Evaluate a model on a table, and return the report as an artifact.

    `model`, `table`: outputs of steps, or versions of named artifacts; `target` is the column that the model predicts.
    `metrics`: names, or functions of the true and the predicted values, greater is better; by default the usual ones of
    the task. `slices`: columns whose values are evaluated one by one. `baseline`: `"name@alias"` of a registered model
    in MLflow, which is looked up when the task runs, or an artifact; there is nothing to compare with where it does not
    exist yet. `thresholds`: numbers or `Threshold`s by metric. `checks`: functions of the model and the table. `task`:
    `"regression"`, `"binary"`, `"multiclass"` or `"ranking"`; by default what model and target tell. `groups`: the
    column of a ranking whose values, such as queries, are ranked apart. `sample`: the rows that are evaluated of a
    larger table, 0 for all. `resamples`: samples of the bootstrap. `max_bytes`: the greatest size of the model's
    artifact. `max_latency`: the seconds that 95% of predictions of one row may take. `on_failure` is that of
    `ValidateOperator`; other options are those of `MLStepOperator`. Raises `StepDefinitionError` or
    `ValidationDefinitionError` for what cannot be evaluated.
    """

    custom_operator_name = "evaluate"

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
        groups: str = "",
        sample: int = SAMPLE,
        resamples: int = RESAMPLES,
        max_bytes: int | None = None,
        max_latency: float | None = None,
        **options: Any,
    ) -> None:
        if isinstance(baseline, str):
            baseline = _parse_baseline(baseline)
        _check_arguments(model_to_evaluate, table, baseline)
        _check_task(task, groups)
        _check_numbers(resamples, sample, max_bytes, max_latency)
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
            "groups": groups,
            "sample": sample,
            "resamples": resamples,
            "max_bytes": max_bytes,
            "max_latency": max_latency,
        }
        super().__init__(python_callable=evaluate_model, op_kwargs=arguments, **options)

    @property
    def libraries(self) -> str:
        """The libraries of metrics and plots that are installed, with their versions."""
        versions = {name: installed_version(name) for name in ("scikit-learn", "shap")}
        return ", ".join(f"{name} {version}" for name, version in versions.items() if version)

    def look_up_arguments(self, selectors: SelectorResolver) -> None:
        """Look up the model and the baseline, their digests, and the size of the model."""
        baseline, found = self.op_kwargs.get("baseline"), dict(self.op_kwargs)
        if selectors.is_selector(baseline):
            found["baseline"], found["baseline_name"] = _find_baseline(baseline, selectors)
        if selectors.is_selector(found["model"]):
            found["model"] = selectors.resolve(found["model"], "model").to_wire()
        refs = {key: value for key in ("model", "baseline") if ArtifactRef.is_wire(value := found[key])}
        if found.get("max_bytes") is not None and "model" in refs:
            found["model_bytes"] = refs["model"]["size"]
        names = {"model": MODEL_DIGEST, "baseline": BASELINE_DIGEST}
        found["digests"] = {names[key]: ref["digest"] for key, ref in refs.items()}
        self.op_kwargs = found


def evaluate(model: Any, table: Any, target: str, *, task_id: str = "", **options: Any) -> Any:
    """Add a step to the DAG that evaluates a model; return its report, for other steps.

    `options` are those of `EvaluateOperator`: `metrics`, `slices`, `baseline`, `thresholds`, `checks`, `task`,
    `groups`, `sample`, `resamples`, `max_bytes`, `max_latency`, `on_failure` and all options of a step. `task_id` is by
    default `evaluate_` with the name of the task, or of the artifact, that is evaluated.
    """
    name = task_id or unique_task_id("evaluate", model, "model", options)
    return EvaluateOperator(task_id=name, model_to_evaluate=model, table=table, target=target, **options).output


def _find_baseline(baseline: Any, selectors: SelectorResolver) -> tuple[Any, str]:
    """Return the baseline as a ref in its wire form, None where it does not exist yet; and its name."""
    if selector := as_selector(baseline):
        ref = selectors.find(baseline, "baseline")
        return ref and ref.to_wire(), f"model {str(selector)!r}"
    version = VersionSelector.from_wire(baseline)
    name = f"artifact {version.name!r}, version {version.version!r}"
    try:
        return selectors.resolve(baseline).to_wire(), name
    except ArtifactNotFound:
        return None, name


def _check_arguments(model: Any, table: Any, baseline: Any) -> None:
    """Raise `StepDefinitionError` for arguments that are no artifacts."""
    for name, value in (("model", model), ("table", table)):
        if not is_artifact(value):
            raise StepDefinitionError(
                f"evaluate({name}=…) takes the output of a step, or a version of an artifact such as "
                f"Artifact('model').latest(), got {short_text(value)}. Models at hand are evaluated by "
                "airflow_zen.validation.evaluation.evaluate_model."
            )
    if not (baseline is None or is_artifact(baseline)):
        raise _baseline_error(baseline)


def _check_task(task: str, groups: Any) -> None:
    if task not in _TASKS:
        raise StepDefinitionError(f"evaluate(task=…) is one of {', '.join(_TASKS[1:])}, got {task!r}.")
    if not isinstance(groups, str) or (groups and task != "ranking"):
        raise StepDefinitionError(f"evaluate(groups=…) is a column of a table with task='ranking', got {groups!r}.")


def _check_numbers(resamples: Any, sample: Any, max_bytes: Any, max_latency: Any) -> None:
    """Raise `StepDefinitionError` for what is no number, or too small."""
    if not isinstance(resamples, int) or isinstance(resamples, bool) or resamples < 100:
        raise StepDefinitionError(f"evaluate(resamples=…) is a number of at least 100, got {resamples!r}.")
    check_sample(sample, "evaluate")
    for name, value in (("max_bytes", max_bytes), ("max_latency", max_latency)):
        is_number = isinstance(value, int if name == "max_bytes" else int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and value > 0):
            unit = "bytes" if name == "max_bytes" else "seconds"
            raise StepDefinitionError(f"evaluate({name}=…) is a number of {unit} above 0, got {value!r}.")


def _parse_baseline(baseline: str) -> Any:
    try:
        return ModelSelector.parse(baseline).to_wire()
    except ModelNameError as error:
        raise _baseline_error(baseline) from error


def _baseline_error(baseline: Any) -> StepDefinitionError:
    return StepDefinitionError(
        "evaluate(baseline=…) takes 'name@alias' of a registered model, such as 'flight_delay@champion', or an "
        f"artifact; got {short_text(baseline)}."
    )
