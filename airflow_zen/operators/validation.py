"""`validate` and `ValidateOperator`: the check of an artifact as a step, whose output is a `ValidationReport`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from airflow.providers.standard.utils.skipmixin import SkipMixin
from airflow.sdk.bases.decorator import get_unique_task_id
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.definitions.xcom_arg import XComArg
from msgspec.structs import replace

from airflow_zen.artifacts.ref import ArtifactRef, VersionSelector
from airflow_zen.errors import StepDefinitionError
from airflow_zen.materializers.annotations import FAIL, WARN, FailureAction, validate_failure_action
from airflow_zen.models.model import as_selector
from airflow_zen.operators.ml_step import MLStepOperator
from airflow_zen.steps.runtime import IN_PROCESS
from airflow_zen.steps.step import Step
from airflow_zen.type_names import display_name
from airflow_zen.validation.base import FunctionValidator, Validator
from airflow_zen.validation.report import validate_severity
from airflow_zen.validation.validators import as_validators, validate_table, validate_value


class ReportOperator(MLStepOperator, SkipMixin):
    """The base of operators whose output is a report, which fails the task, skips tasks or only warns.

    `check_version` is raised when the same options find something else in the same artifact; it is in the cache key.
    """

    ui_color = "#eef3e2"
    check_version: ClassVar[int] = 1
    on_failure: FailureAction = FAIL

    def __init__(self, *, on_failure: Any = FAIL, **options: Any) -> None:
        super().__init__(**options)
        self.on_failure = validate_failure_action(on_failure)
        self.refuse_skips_when_mapped()

    @property
    def inherits_from_skipmixin(self) -> bool:
        """Whether a failure, or its absence, skips tasks."""
        return self.on_failure not in (FAIL, WARN)

    @property
    def libraries(self) -> str:
        """The libraries that make the report, with their versions."""
        return ""

    @property
    def step(self) -> Step:
        """The function with its options; the versions of the libraries are in the cache key."""
        version = f"{self.version} {self.libraries} {self.check_version}".strip()
        return replace(super().step, version=version, on_failure=self.on_failure)


class ValidateOperator(ReportOperator):
    """Check an artifact, and return the report as an artifact.

    `table`: the output of a step, or a version of a named artifact. `validator`: a built-in check, a validator of a
    library, a function or object that returns a `ValidationReport`, the name of a registered validator, or a list of
    these. `reference`: the artifact to compare with. `on_failure`: `"fail"` fails the task without a retry, `"warn"`
    only logs, `"skip"` skips the tasks downstream, and a list of task ids is followed instead of the others downstream.
    `sample`: the number of rows that validators check which need a table in memory, 0 for all. `severity`: `"error"` or
    `"warning"` by check (`not_null`), column, or both (`not_null(delay)`). Other options are those of `MLStepOperator`.
    Raises `StepDefinitionError` or `ValidationDefinitionError` for what cannot be checked.
    """

    custom_operator_name = "validate"
    check_version: ClassVar[int] = 2

    def __init__(
        self,
        *,
        table: Any,
        validator: Any,
        reference: Any = None,
        sample: int | None = None,
        severity: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        validators = as_validators(validator)
        _check_arguments(table, validators, reference, sample, severity)
        is_stored = any(each.form == "stored" for each in validators)
        arguments = {"table": table, "validator": validator, "reference": reference}
        arguments |= {"sample": sample, "severity": dict(severity) if severity else None}
        if options.get("cache") is None and not all(each.is_reproducible for each in validators):
            options["cache"] = False
        runtime = _runtime_of(validators, options.pop("runtime", None))
        function = validate_value if is_stored else validate_table
        super().__init__(python_callable=function, op_kwargs=arguments, runtime=runtime, **options)

    @property
    def libraries(self) -> str:
        """The libraries of the validators, with their versions."""
        return ", ".join(each.title for each in as_validators(self.op_kwargs["validator"]))


def validate(table: Any, validator: Any, *, task_id: str = "", **options: Any) -> Any:
    """Add a step to the DAG that checks an artifact; return its report, for other steps.

    `options` are those of `ValidateOperator`: `reference`, `on_failure`, `sample`, `severity`, `runtime` and all
    options of a step. `task_id` is by default `validate_` with the name of the task, or of the artifact, that is
    checked.
    """
    name = task_id or unique_task_id("validate", table, "table", options)
    return ValidateOperator(task_id=name, table=table, validator=validator, **options).output


def unique_task_id(verb: str, value: Any, otherwise: str, options: Mapping[str, Any]) -> str:
    """Return the id of a task that reads an artifact: the verb, and the name of the artifact or of its task."""
    name = f"{verb}_{_artifact_name(value) or otherwise}"
    return str(get_unique_task_id(name, options.get("dag"), options.get("task_group")))


def _artifact_name(value: Any) -> str:
    if isinstance(value, XComArg):
        operator, _ = next(value.iter_references())
        key = getattr(value, "key", BaseXCom.XCOM_RETURN_KEY)
        return str(operator.label) if key == BaseXCom.XCOM_RETURN_KEY else f"{operator.label}_{key}"
    selected = as_selector(value) or (VersionSelector.from_wire(value) if VersionSelector.is_wire(value) else None)
    return re.sub(r"[^\w.-]", "_", selected.name) if selected else ""


def _runtime_of(validators: list[Validator], runtime: Any) -> Any:
    """Return the given runtime, or the one that a validator needs; functions of users run in the task's process."""
    if any(isinstance(each, FunctionValidator) for each in validators):
        if runtime not in (None, IN_PROCESS):
            raise StepDefinitionError(
                "A function or object of yours validates in the task's process. To run it elsewhere, write a step that "
                f"returns a ValidationReport: @ml_step(runtime={runtime!r})."
            )
        return IN_PROCESS
    return runtime or next(filter(None, (each.runtime for each in validators)), None)


def is_artifact(value: Any) -> bool:
    """Whether an argument is an artifact, or selects one: a mapped task is made of refs."""
    selects = VersionSelector.is_wire(value) or as_selector(value) is not None
    return selects or isinstance(value, XComArg) or ArtifactRef.is_wire(value)


def is_list_of_artifacts(value: Any) -> bool:
    """Whether an argument is several artifacts: a list, or the output of a mapped step or of one that makes a list."""
    if isinstance(value, XComArg):
        return any(operator.is_mapped or _makes_list(operator) for operator, _ in value.iter_references())
    return isinstance(value, list | tuple)


def _makes_list(operator: Any) -> bool:
    return isinstance(operator, MLStepOperator) and operator.step.outputs.each


def short_text(value: Any) -> str:
    """Return a value for an error: its `repr` where that is short, else its type."""
    text = repr(value)
    return text if len(text) <= 100 and "\n" not in text else f"a {display_name(type(value))}"


def _check_arguments(
    table: Any, validators: list[Validator], reference: Any, sample: Any, severity: Mapping[str, str] | None
) -> None:
    """Raise an error for arguments that are no artifacts, a missing reference, and invalid options."""
    for name, value in (("table", table), ("reference", reference)):
        if not (is_artifact(value) or (name == "reference" and value is None)):
            raise StepDefinitionError(
                f"validate({name}=…) takes the output of a step, or a version of an artifact such as "
                f"Artifact('features').latest(), got {short_text(value)}. Values at hand are checked by "
                "airflow_zen.validation.validators.run_validator."
            )
    missing = [each.title for each in validators if each.needs_reference]
    if reference is None and missing:
        raise StepDefinitionError(
            f"{missing[0]} compares with a reference. Write validate(table, …, "
            "reference=Artifact('features').latest())."
        )
    if sample is not None:
        check_sample(sample, "validate")
    for each in (severity or {}).values():
        validate_severity(each)


def check_sample(sample: Any, function: str) -> None:
    """Raise `StepDefinitionError` for what is no number of rows."""
    if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
        raise StepDefinitionError(f"{function}(sample=…) is a number of rows, 0 for all, got {sample!r}.")
