"""`predict` and `BatchPredictOperator`: the predictions of a model for a table as a step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import XComArg
from msgspec.structs import replace

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.config.model_selectors import SelectorResolver
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import InputError, StepDefinitionError
from airflow_zen.models.model import ModelSelector, as_selector
from airflow_zen.models.predict import BATCH_ROWS, concatenate, needs_flavor, predict_batches, predict_flavor
from airflow_zen.operators.ml_step import MLStepOperator
from airflow_zen.operators.stack_selection import resolve_stack_name
from airflow_zen.operators.validation import is_artifact, is_list_of_artifacts, unique_task_id

if TYPE_CHECKING:
    from airflow_zen.stack import Stack
    from airflow_zen.steps.step import Step

log = logging.getLogger("airflow_zen.models")

_PREDICT_VERSION = 1
"""Raised when the same model predicts something else for the same table; it is in the cache key."""


class BatchPredictOperator(MLStepOperator):
    """Predict a table batch by batch, and return the predictions as a table with the labels of its rows.

    `predictor`: the output of a step, a version of a registered model such as `"flight_delay@champion"`, or of an
    artifact. `table`: the table, of which one batch is in memory at a time. `keys`: columns of the table that the
    predictions have, too. `features`: the columns that the model gets; by default those that it names. `method`: the
    name of a method of the model, or a function of the model and a frame. `batch_rows`: the rows that the model gets at
    a time. `part`, `parts`: which of how many parts of the table is predicted. Other options are those of
    `MLStepOperator`. Raises `StepDefinitionError` or `ModelNameError` for what cannot predict or be predicted.
    """

    custom_operator_name = "predict"
    ui_color = "#e6f2ef"

    def __init__(
        self,
        *,
        predictor: Any,
        table: Any,
        keys: Sequence[str] = (),
        features: Sequence[str] | None = None,
        method: str | Callable[[Any, Any], Any] = "predict",
        batch_rows: int = BATCH_ROWS,
        part: int = 0,
        parts: int = 1,
        **options: Any,
    ) -> None:
        predictor = predictor_of(predictor)
        if not is_artifact(table):
            raise StepDefinitionError(
                f"predict(table=…) takes the output of a step, or a version of an artifact such as "
                f"Artifact('features').latest(), got {table!r}."
            )
        _check_numbers(batch_rows=batch_rows, parts=parts)
        arguments = {
            "model": predictor,
            "table": table,
            "keys": [keys] if isinstance(keys, str) else list(keys),
            "features": None if features is None else list(features),
            "method": method,
            "batch_rows": batch_rows,
        }
        super().__init__(python_callable=predict_batches, op_kwargs=arguments, **options)
        self.part, self.parts = part, parts

    @property
    def step(self) -> Step:
        """The function with its options."""
        return replace(super().step, version=f"{self.version} predict {_PREDICT_VERSION}".strip())

    def look_up_arguments(self, selectors: SelectorResolver) -> None:
        """Look up the kind of the model, and the rows of the part."""
        found = dict(self.op_kwargs)
        model = _look_up(found["model"], "model", selectors)
        if model and found["method"] == "predict" and needs_flavor(model):
            self.python_callable = predict_flavor
            del found["method"]
        if self.parts > 1 and (table := _look_up(found["table"], "table", selectors)):
            rows = _count_rows(table, selectors.stack)
            begin, end = (rows * at // self.parts for at in (self.part, self.part + 1))
            found |= {"table": table.to_wire(), "part": (begin, end)}
        self.op_kwargs = found | ({"model": model.to_wire()} if model else {})


def predict(
    model: Any,
    table: Any,
    *,
    keys: Sequence[str] = (),
    features: Sequence[str] | None = None,
    method: str | Callable[[Any, Any], Any] = "predict",
    batch_rows: int = BATCH_ROWS,
    parts: int = 1,
    task_id: str = "",
    **options: Any,
) -> Any:
    """Add a step to the DAG that predicts a table with a model; return the predictions, for other steps.

    The arguments are those of `BatchPredictOperator`. With `parts`, or where `table` is the output of a mapped step or
    a list of artifacts, mapped tasks predict the parts in parallel, and one more makes one table of theirs. `task_id`
    is by default `predict_` with the name of the task, or of the artifact, that predicts.
    """
    predictor = predictor_of(model)
    name = task_id or unique_task_id("predict", predictor, "model", options)
    if parts > 1 or is_list_of_artifacts(table):
        predictor, table = _same_versions(name, predictor, table, options)
    shared: dict[str, Any] = {"predictor": predictor, "keys": keys, "features": features, "method": method}
    shared |= {"batch_rows": batch_rows, **options}
    if is_list_of_artifacts(table):
        mapped = BatchPredictOperator.partial(task_id=f"{name}_parts", **shared).expand(table=table)
    elif parts > 1:
        partial = BatchPredictOperator.partial(task_id=f"{name}_parts", table=table, parts=parts, **shared)
        mapped = partial.expand(part=list(range(parts)))
    else:
        return BatchPredictOperator(task_id=name, table=table, parts=parts, **shared).output
    return MLStepOperator(
        task_id=name, python_callable=concatenate, op_kwargs={"parts": mapped.output}, **options
    ).output


def _same_versions(name: str, predictor: Any, table: Any, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the model and the table with exact versions instead of selectors: an alias may move between two parts.

    A task of its own looks them up.
    """
    given = {"model": predictor, "table": table}
    selected = {
        key: value for key, value in given.items() if isinstance(value, dict) and not ArtifactRef.is_wire(value)
    }
    if not selected:
        return predictor, table
    found = PythonOperator(
        task_id=f"{name}_versions",
        python_callable=_look_up_versions,
        op_kwargs={"selected": selected, "stack": options.get("stack", "")},
        multiple_outputs=True,
        **{key: options[key] for key in ("dag", "task_group") if key in options},
    )
    exact = {key: XComArg(found, key) if key in selected else value for key, value in given.items()}
    return exact["model"], exact["table"]


def _look_up_versions(selected: Mapping[str, Any], stack: str, dag_run: Any = None) -> dict[str, Any]:
    """Return a selector of the exact version of a model, and the artifact of a table."""
    settings = Settings.read(resolve_stack_name(dag_run.conf, stack))
    selectors, found = SelectorResolver(settings, open_stack(settings, lineage=False)), {}
    for key, value in selected.items():
        if selector := as_selector(value):
            version = selectors.registry.get(selector)
            log.info("Model %s is version %s.", selector, version.number)
            found[key] = ModelSelector(version.name, version.number).to_wire()
        else:
            found[key] = selectors.resolve(value).to_wire()
    return found


def predictor_of(model: Any) -> Any:
    """Return a model as an argument. Raises `StepDefinitionError` or `ModelNameError` for other values."""
    if isinstance(model, str):
        return ModelSelector.parse(model).to_wire()
    if selector := as_selector(model):
        return selector.to_wire()
    if not is_artifact(model):
        raise StepDefinitionError(
            f"predict(model=…) takes the output of a step, or a version such as 'flight_delay@champion', got {model!r}."
        )
    return model


def _count_rows(table: ArtifactRef, stack: Stack) -> int:
    rows = stack.store.manifest(table).summary.get("rows")
    if rows is None:
        raise InputError(
            f"Artifact {table.name or table.digest[:12]!r} ({table.encoding}) does not say how many rows it has, so that it has no "
            "parts. Leave parts=… out, or pass a table of pandas, Polars or Arrow."
        )
    return int(rows)


def _look_up(value: Any, path: str, selectors: SelectorResolver) -> ArtifactRef | None:
    """Return the artifact of an argument; None for what is no artifact, which the step refuses."""
    if selectors.is_selector(value):
        return selectors.resolve(value, path)
    return ArtifactRef.from_wire(value) if ArtifactRef.is_wire(value) else None


def _check_numbers(**numbers: Any) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise StepDefinitionError(f"predict({name}=…) is a number of at least 1, got {value!r}.")
