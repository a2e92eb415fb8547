"""Profiles of whylogs: constraints on them, drift between them, and the profile itself beside the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import structs

from airflow_zen.errors import InputError, ValidationDefinitionError
from airflow_zen.materializers.base import Materializer, require_exact_type
from airflow_zen.materializers.previews.html import preview_page
from airflow_zen.materializers.previews.tables import plain_table
from airflow_zen.type_names import display_name
from airflow_zen.validation.base import Form, Validator, not_empty
from airflow_zen.validation.report import Check, ValidationReport

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    from whylogs.core import DatasetProfileView

PROFILE = "profile.bin"
"""The file of a report with the profile, as whylogs writes it; `whylogs.read` opens it."""

_P_VALUE = 0.05
_MAX_COLUMNS = 200
_OF_NUMBERS = frozenset(
    [
        "greater_than_number",
        "smaller_than_number",
        "is_in_range",
        "is_non_negative",
        "mean_between_range",
        "stddev_between_range",
        "quantile_between_range",
    ]
)
"""The constraints that pass for a column without numbers, because whylogs finds none that breaks them."""

_FIGURES = {
    "n": "counts/n",
    "null": "counts/null",
    "distinct": "cardinality/est",
    "min": "distribution/min",
    "mean": "distribution/mean",
    "max": "distribution/max",
    "stddev": "distribution/stddev",
}


@dataclass(frozen=True)
class Constraint:
    """A constraint of whylogs by the name of its factory, with its arguments."""

    name: str
    options: Mapping[str, Any]
    severity: str = "error"

    @property
    def column(self) -> str:
        """The column that it is about."""
        return str(self.options.get("column_name", ""))


def constraint(name: str, column: str, *, severity: str = "error", **options: Any) -> Constraint:
    """Return a constraint of whylogs by its factory: `constraint("is_in_range", "hour", lower=0, upper=24)`."""
    return Constraint(name, {"column_name": column, **options}, severity)


@dataclass(frozen=True)
class Whylogs(Validator):
    """Profile a table batch by batch, check constraints on the profile, and compare it with that of a reference.

    `only` are the columns to profile, all by default: the cost grows with their number. A column has drifted if the
    p-value of whylogs' test is below `p_value`; with `statistic`, a column of numbers has if the statistic of
    Kolmogorov and Smirnov is above that: with many rows every difference has a small p-value. The report has the
    profile as the file `profile.bin`.
    """

    constraints: Any = ()
    only: tuple[str, ...] = ()
    p_value: float = _P_VALUE
    statistic: float | None = None
    library: ClassVar[str] = "whylogs"
    form: ClassVar[Form] = "batches"
    compares: ClassVar[bool] = True
    runtime: ClassVar[str] = "Virtualenv(['whylogs[viz]>=1.6,<2', 'pandas<3', 'numpy<2', 'pyarrow<24'])"

    def __post_init__(self) -> None:
        """Take one constraint or several; raise `ValidationDefinitionError` for anything else."""
        given: Any = self.constraints
        object.__setattr__(self, "constraints", tuple(given) if isinstance(given, list | tuple) else (given,))
        object.__setattr__(self, "only", tuple(self.only))
        for each in self.constraints:
            if not isinstance(each, Constraint):
                raise ValidationDefinitionError(
                    "Whylogs(…) takes constraints such as constraint('is_in_range', 'hour', lower=0, upper=24), got "
                    f"{each!r}."
                )

    def columns(self) -> list[str] | None:
        """Return the columns that it profiles, None for all."""
        return list(dict.fromkeys([*self.only, *(each.column for each in self.constraints)])) if self.only else None

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        """Return a check for each constraint, for the drift of each column, and the profile."""
        view = self._profile(table)
        figures = view.to_pandas()
        checks = [self._constrain(view, each, figures) for each in self.constraints]
        metrics: dict[str, float] = {}
        if reference is not None:
            drift = list(self._drift(view, self._profile(reference)))
            compared = [check for check in drift if check.method]
            drifted = sum(not check.passed for check in compared)
            metrics = {"drift.columns": float(drifted), "drift.share": drifted / max(1, len(compared))}
            checks += drift
        return ValidationReport(
            self.title,
            tuple(checks),
            _row_count(figures),
            statistics=_statistics(figures),
            metrics=metrics,
            files={PROFILE: view.serialize()},
        )

    def _profile(self, value: Any) -> Any:
        """Return the profile of a table, which is read batch by batch."""
        from whylogs.core import DatasetProfile

        profile, names = DatasetProfile(), self.columns()
        names = None if names is None else [name for name in names if name in value.schema.names]
        for batch in value(names):
            profile.track(batch.to_pandas())
        return profile.view()

    def _constrain(self, view: Any, wanted: Constraint, figures: Any) -> Check:
        from whylogs.core.constraints import ConstraintsBuilder, factories

        def outcome(passed: bool, observed: str = "", message: str = "", expected: str = "") -> Check:
            return Check(
                name=wanted.name,
                column=wanted.column,
                severity=wanted.severity,
                passed=passed,
                observed=observed,
                expected=expected
                or ", ".join(f"{name}={held}" for name, held in wanted.options.items() if name != "column_name"),
                message=message,
            )

        if wanted.column not in figures.index:
            return outcome(False, "no such column")
        seen = _observed(figures.loc[wanted.column])
        if wanted.name in _OF_NUMBERS and not figures.loc[wanted.column].get("distribution/n", 0):
            return outcome(False, "no numbers", "whylogs takes it as held by a column without numbers.")
        try:
            builder = ConstraintsBuilder(dataset_profile_view=view)
            builder.add_constraint(getattr(factories, wanted.name)(**wanted.options))
            built = builder.build()
            return outcome(bool(built.validate()), seen, expected=str(built.generate_constraints_report()[0].name))
        except Exception as error:  # noqa: BLE001 - what is wrong with a constraint is the library's to know
            return outcome(False, "an error", f"{type(error).__name__}: {error}")

    def _drift(self, view: Any, reference: Any) -> Iterator[Check]:
        from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

        scores = calculate_drift_scores(target_view=view, reference_view=reference, with_thresholds=True)
        for column in sorted(view.get_columns()):
            # A profile of no rows has no columns, and whylogs leaves them out.
            score = scores.get(column)
            if score is None:
                yield _not_compared(column, view, reference)
            elif self.statistic is not None and score["algorithm"] == "ks":
                yield _drift_check(
                    column, "Kolmogorov-Smirnov statistic", score["statistic"], self.statistic, below=True
                )
            else:
                yield _drift_check(column, f"{score['algorithm']} p-value", score["pvalue"], self.p_value, below=False)


@dataclass(frozen=True)
class WhylogsProfiles(Whylogs):
    """Check a profile, or several merged into one, such as those of mapped tasks, without reading a table.

    A profile is a `DatasetProfileView`, as `profile_table` returns it, or the report of `Whylogs`, which holds one. The
    reference is one or several, too.
    """

    form: ClassVar[Form] = "stored"

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        """Return what `Whylogs` finds in the table that the profiles are of; a profile of no rows fails."""
        report = super().check(table, reference)
        return structs.replace(report, checks=(not_empty(report.rows or 0), *report.checks))

    def _profile(self, value: Any) -> Any:
        views = [_view(each) for each in (value if isinstance(value, list | tuple) else [value])]
        if not views:
            raise InputError("WhylogsProfiles(…) has no profile to check: the list is empty.")
        return reduce(lambda merged, view: merged.merge(view), views)


def profile_table(table: ds.Dataset, only: tuple[str, ...] = ()) -> DatasetProfileView:
    """Return the profile of a stored table, which is read batch by batch; `only` are its columns, all by default."""
    from airflow_zen.validation.tables import to_batches

    return Whylogs(only=only)._profile(to_batches(table))  # noqa: SLF001 - in this file


class ProfileMaterializer(Materializer):
    """Save a profile of whylogs as `profile.bin`, which `whylogs.read` opens."""

    types = ("whylogs.core.view.dataset_profile_view.DatasetProfileView",)
    encoding = "whylogs.profile@1"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write the profile."""
        require_exact_type(value, *self.types)
        (directory / PROFILE).write_bytes(value.serialize())
        figures = value.to_pandas()
        return {"shape": f"profile of {_row_count(figures):,} rows, {len(figures)} columns"}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the profile."""
        return _deserialized((directory / PROFILE).read_bytes())

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show figures of each column."""
        figures = _statistics(value.to_pandas())
        rows = [[name, *(found.get(figure, "") for figure in _FIGURES)] for name, found in figures.items()]
        return preview_page(value, summary, [plain_table(["column", *_FIGURES], rows)])


def _view(value: Any) -> DatasetProfileView:
    if isinstance(value, ValidationReport) and PROFILE in value.files:
        return _deserialized(value.files[PROFILE])
    if type(value).__name__ != "DatasetProfileView":
        raise InputError(
            f"WhylogsProfiles(…) checks profiles of whylogs, and reports of Whylogs, which hold one; got "
            f"{display_name(type(value))}."
        )
    return value


def _deserialized(content: bytes) -> DatasetProfileView:
    from whylogs.core import DatasetProfileView

    return DatasetProfileView.deserialize(content)


def _row_count(figures: Any) -> int:
    return int(figures["counts/n"].max()) if len(figures) else 0


def _drift_check(column: str, method: str, value: float, threshold: float, *, below: bool) -> Check:
    passed = value <= threshold if below else value >= threshold
    return Check(
        name="drift",
        column=column,
        passed=passed,
        observed=f"{value:.4g}",
        expected=f"{'at most' if below else 'at least'} {threshold:g}",
        method=method,
        value=value,
        threshold=threshold,
    )


def _not_compared(column: str, view: Any, reference: Any) -> Check:
    """Return the check of a column that whylogs has no test for; it fails if only one of the profiles has values."""
    filled = [_filled(each, column) for each in (view, reference)]
    texts = {True: "values", False: "no values"}
    observed = f"{texts[filled[0]]}, and {texts[filled[1]]} in the reference"
    return Check(name="drift", column=column, passed=filled[0] == filled[1], observed=observed, message="Not compared.")


def _filled(view: Any, column: str) -> bool:
    found = view.get_column(column)
    counts = found.get_metric("counts") if found else None
    return bool(counts and counts.n.value > counts.null.value)


def _observed(figures: Any) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in _known(figures).items())


def _statistics(figures: Any) -> dict[str, dict[str, float]]:
    """Return figures of each column, of the first 200."""
    return {str(column): _known(row) for column, row in list(figures.iterrows())[:_MAX_COLUMNS]}


def _known(figures: Any) -> dict[str, float]:
    """Return the figures of a column; whylogs has a mean of 0 for a column without numbers."""
    has_numbers = bool(figures.get("distribution/n", 0))
    known = {name: figures.get(path) for name, path in _FIGURES.items() if has_numbers or "distribution" not in path}
    return {name: float(value) for name, value in known.items() if value is not None and value == value}
