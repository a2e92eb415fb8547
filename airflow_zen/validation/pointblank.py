"""Steps of pointblank."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.validation.base import Form, Validator
from airflow_zen.validation.report import MAX_SAMPLED_ROWS, Check, FailingRow, ValidationReport

_ROW_NUMBER = "_row_num_"


@dataclass(frozen=True)
class Pointblank(Validator):
    """Check a table with steps of pointblank: `pb.Steps().col_vals_not_null("dep_delay")`.

    A function may be given instead: it gets a `pb.Validate`, and returns it with steps, not interrogated.
    `thresholds` are those of `pb.Validate`, for steps without thresholds of their own. A step without any fails if
    one row fails; otherwise it fails above the level `error` or `critical`, and warns above `warning`.
    """

    steps: Any
    thresholds: Any = None
    library: ClassVar[str] = "pointblank"
    form: ClassVar[Form] = "pandas"

    def __post_init__(self) -> None:
        """Raise `ValidationDefinitionError` for what is neither steps nor a function."""
        is_steps = type(self.steps).__module__.startswith("pointblank.") and hasattr(self.steps, "_steps")
        if not is_steps and not callable(self.steps):
            raise ValidationDefinitionError(
                "Pointblank(…) takes pointblank.Steps(), or a function that adds steps to the pointblank.Validate that "
                f"it gets, got {self.steps!r}."
            )

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        """Return a check for each step and column."""
        return ValidationReport(self.title, tuple(map(_outcome, self._interrogate(table))))

    def _interrogate(self, table: Any) -> Iterator[Any]:
        """Yield pointblank's record of each step; the others run even if one raises."""
        for at in range(len(self._plan(table).validation_info)):
            plan = self._plan(table)
            plan.validation_info = [plan.validation_info[at]]
            try:
                found = plan.interrogate(collect_tbl_checked=False, extract_limit=MAX_SAMPLED_ROWS).validation_info
            except Exception as error:  # noqa: BLE001 - what a step cannot be made of is the library's to know
                found = plan.validation_info
                for step in (each for each in found if each.all_passed is None):
                    step.eval_error, step.notes = True, {"error": {"text": f"{type(error).__name__}: {error}"}}
            yield from (step for step in found if step.active or step.eval_error)

    def _plan(self, table: Any) -> Any:
        """Return the steps as pointblank applies them to this table, not interrogated."""
        import pointblank

        validation = pointblank.Validate(table, thresholds=self.thresholds)
        if isinstance(self.steps, pointblank.Steps):
            return validation.add_steps(self.steps)
        add_steps: Callable[[Any], Any] = self.steps
        return add_steps(validation)


def _outcome(step: Any) -> Check:
    levels = {level: getattr(step, level) for level in ("warning", "error", "critical")}
    has_levels = any(value is not None for value in levels.values())
    exceeded = [level for level, is_exceeded in levels.items() if is_exceeded]
    notes = step.notes or {}
    passed = not step.eval_error and (not exceeded if has_levels else bool(step.all_passed))
    reason = next((str(notes[name]["text"]) for name in notes if name != "local_thresholds"), "")
    is_about_rows = not step.eval_error and (step.n or 0) > 1
    return Check(
        name=str(step.assertion_type),
        column=_column_text(step.column),
        passed=passed,
        severity="warning" if exceeded == ["warning"] else "error",
        expected=str(step.autobrief or "").replace("`", ""),
        observed="an error" if step.eval_error else f"above the level {exceeded[-1]}" if exceeded else "",
        failing=int(step.n_failed or 0) if is_about_rows else None,
        sample=tuple(_rows(step)),
        message=reason if step.eval_error or (step.assertion_type == "col_schema_match" and not passed) else "",
    )


def _column_text(column: Any) -> str:
    return ", ".join(map(str, column)) if isinstance(column, list | tuple) else str(column or "")


def _rows(step: Any) -> Iterator[FailingRow]:
    """Yield failing rows; the label is the number of a row from 0, or what the frame's index has."""
    if step.extract is None or not hasattr(step.extract, "columns"):
        return
    names = step.column if isinstance(step.column, list | tuple) else [step.column]
    for row in step.extract.to_dict("records"):
        values = [str(row[name]) for name in names if name in row]
        yield FailingRow(str(int(row[_ROW_NUMBER]) - 1), ", ".join(values))
