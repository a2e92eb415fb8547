"""Reports of Evidently: drift, summaries and quality of predictions, and any of its metrics with tests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from msgspec import structs

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.validation.base import Form, Validator
from airflow_zen.validation.report import Check, ValidationReport

PAGE = "evidently.html"
"""Evidently's own page of 4 MB, with all its scripts in it; it needs no network."""

_MAX_LABELS = 20
_ACTUAL = re.compile(r"Actual value (\S+)")
_METHOD = re.compile(r"The drift detection method is (.+?)\. The drift threshold")
_CONDITIONS = {
    "Less or Equal": "at most",
    "Greater or Equal": "at least",
    "Less": "below",
    "Greater": "above",
    "Equal": "equal to",
}
_TEST_NAMES = ("eq", "gt", "gte", "is_in", "lt", "lte", "not_eq", "not_in")
_COLUMN_OPTIONS = ("column", "columns")
_TASKS = ("regression", "binary", "multiclass")
_QUALITY = ("ClassificationPreset", "RegressionPreset")


@dataclass(frozen=True)
class Part:
    """A metric, preset or test of Evidently by the name of its class or function, with its arguments.

    Evidently cannot be imported beside pandas 3: its own object is made where it runs.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """Return Evidently's own object; raise `ValidationDefinitionError` for a name that it does not have."""
        import evidently.metrics
        import evidently.presets
        import evidently.tests

        for module in (evidently.presets, evidently.metrics, evidently.tests):
            if found := getattr(module, self.name, None):
                return found(
                    *map(_build, self.arguments), **{name: _build(held) for name, held in self.options.items()}
                )
        raise ValidationDefinitionError(f"Evidently has no metric, preset or test {self.name!r}.")

    def columns(self) -> list[str]:
        """Return the columns that it names."""
        found = [self.options[name] for name in _COLUMN_OPTIONS if self.options.get(name)]
        return [name for held in found for name in ([held] if isinstance(held, str) else held)]


def metric(name: str, **options: Any) -> Part:
    """Return a metric or a preset of Evidently: `metric("MeanValue", column="delay", tests=[condition("lte", 9)])`."""
    return Part(name, (), options)


def condition(name: str, *arguments: Any, **options: Any) -> Part:
    """Return a test of a metric: `eq`, `gt`, `gte`, `is_in`, `lt`, `lte`, `not_eq` or `not_in`, with the threshold.

    `is_critical=False` makes its failure a warning. Raises `ValidationDefinitionError` for another name.
    """
    if name not in _TEST_NAMES:
        raise ValidationDefinitionError(f"A test of Evidently is one of {', '.join(_TEST_NAMES)}, got {name!r}.")
    return Part(name, arguments, options)


def _preset(name: str) -> Callable[..., Part]:
    return lambda **options: Part(name, (), options)


DataDriftPreset = _preset("DataDriftPreset")
DataSummaryPreset = _preset("DataSummaryPreset")
ClassificationPreset = _preset("ClassificationPreset")
RegressionPreset = _preset("RegressionPreset")
"""Presets of Evidently; they take its options: `DataDriftPreset(columns=["dep_delay"], drift_share=0.3)`."""


def TargetDrift(**options: Any) -> Part:  # noqa: N802 - beside the presets
    """Return the drift of the column that `Evidently(target=…)` names."""
    return Part("ValueDrift", (), {**options, "column": ""})


@dataclass(frozen=True)
class Evidently(Validator):
    """Check a table with metrics and presets of Evidently, mostly against a reference.

    `only` are the columns to look at, all by default. `target` and `prediction` are columns, and `task` says what they
    hold: `regression`, `binary` or `multiclass`. A prediction is a value or a label; for `binary` and
    `is_probability=True` it is the probability of `positive`. `automatic_tests` are those that Evidently derives from
    the reference; by default they are made where there is one, because without one it compares most figures with
    themselves.
    """

    metrics: Any
    only: tuple[str, ...] = ()
    target: str = ""
    prediction: str = ""
    task: str = ""
    is_probability: bool = False
    positive: Any = None
    automatic_tests: bool | None = None
    library: ClassVar[str] = "evidently"
    form: ClassVar[Form] = "pandas"
    compares: ClassVar[bool] = True
    runtime: ClassVar[str] = "Virtualenv(['evidently>=0.7,<0.8', 'pandas<3'])"

    def __post_init__(self) -> None:
        """Take one metric or several; raise `ValidationDefinitionError` for what is none, and an unknown task."""
        given: Any = self.metrics
        object.__setattr__(self, "metrics", tuple(given) if isinstance(given, list | tuple) else (given,))
        object.__setattr__(self, "only", tuple(self.only))
        for each in self.metrics:
            if not isinstance(each, Part) and not type(each).__module__.startswith("evidently."):
                raise ValidationDefinitionError(
                    "Evidently(…) takes presets such as DataDriftPreset(), or metric('MeanValue', column='distance', "
                    f"tests=[condition('lte', 900)]), got {each!r}."
                )
        if self.task not in ("", *_TASKS):
            raise ValidationDefinitionError(f"Evidently(task=…) is one of {', '.join(_TASKS)}, got {self.task!r}.")
        if not self.metrics or (self.task and not (self.target and self.prediction)):
            raise ValidationDefinitionError(
                "Evidently(…) needs a metric, and a task the columns target and prediction."
            )

    def columns(self) -> list[str] | None:
        """Return the columns that it looks at; None if a metric names none, and therefore uses all."""
        if self.only:
            return list(dict.fromkeys([*self.only, *self._roles()]))
        named = [self._named(each) for each in self.metrics]
        return list(dict.fromkeys([*(name for each in named for name in each), *self._roles()])) if all(named) else None

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        """Return a check for each test, the share of drifted columns as `drift.share`, and Evidently's page."""
        import warnings

        warnings.filterwarnings("ignore", module=r"(evidently|scipy|sklearn|numpy)\.")
        names = self._usable_names(table, reference)
        checks = list(_unusable(table, reference, names))
        names = [name for name in names if name not in {check.column for check in checks}]
        if reference is not None:
            # Columns of another kind are in the report as such; Evidently raises for some of them.
            names = [name for name in names if _is_number(table[name]) == _is_number(reference[name])]
        datasets = [None if each is None else self._dataset(each[names]) for each in (table, reference)]
        metrics, missing = self._metrics(names)
        checks += missing
        snapshot, refused = _run(metrics, datasets, self._has_tests(reference))
        result: dict[str, Any] = {"metrics": [], "tests": []} if snapshot is None else json.loads(snapshot.json())
        values = {each["id"]: each for each in result["metrics"]}
        found = [_outcome(each, values.get(each["metric_config"]["metric_id"], {})) for each in result["tests"]]
        return ValidationReport(
            self.title,
            (*checks, *refused, *found),
            statistics={each["metric_name"]: _shown(each["value"]) for each in result["metrics"]},
            metrics=_drift_figures(result["metrics"]),
            files={} if snapshot is None else {PAGE: snapshot.get_html_str(as_iframe=False).encode()},
        )

    def _roles(self) -> list[str]:
        return [name for name in (self.target, self.prediction) if name]

    def _named(self, part: Any) -> list[str]:
        if not isinstance(part, Part):
            return []
        if part.options.get("column") == "":
            return [self.target]
        return part.columns() or (self._roles() if self.task and part.name in _QUALITY else [])

    def _has_tests(self, reference: Any) -> bool:
        return reference is not None if self.automatic_tests is None else self.automatic_tests

    def _usable_names(self, table: Any, reference: Any) -> list[str]:
        """Return the columns to look at that both tables have."""
        wanted = self.columns()
        names = [str(name) for name in (table.columns if wanted is None else wanted) if name in table.columns]
        return [name for name in names if reference is None or name in reference.columns]

    def _metrics(self, names: list[str]) -> tuple[list[Any], list[Check]]:
        """Return Evidently's metrics for the usable columns, and a failed check for each that cannot be made."""
        found, refused = [], []
        for part in self.metrics:
            if not isinstance(part, Part):
                found.append(part)
                continue
            options = dict(part.options)
            if options.get("column") == "":
                options["column"] = self.target
            if options.get("columns"):
                options["columns"] = [name for name in part.columns() if name in names]
            column = str(options.get("column", ""))
            if not names or (column and column not in names):
                refused.append(
                    Check(name=part.name, column=column, passed=False, observed="a column that cannot be used")
                )
                continue
            try:
                found.append(replace(part, options=options).build())
            except Exception as error:  # noqa: BLE001 - what a metric takes is the library's to know
                refused.append(
                    Check(name=part.name, column=column, passed=False, observed="an error", message=str(error))
                )
        return found, refused

    def _dataset(self, frame: Any) -> Any:
        """Return a frame as Evidently's dataset, which names the target and the prediction."""
        import evidently

        options: dict[str, Any] = {}
        if self.task and set(self._roles()) <= set(frame.columns):
            if self.task == "regression":
                options["regression"] = [evidently.Regression(target=self.target, prediction=self.prediction)]
                options["numerical_columns"] = self._roles()
            else:
                options["classification"] = [self._classification(evidently)]
                options["categorical_columns"] = self._roles()[: 1 if self.is_probability else 2]
                options["numerical_columns"] = self._roles()[1:] if self.is_probability else []
            guessed = evidently.Dataset.from_pandas(frame.drop(columns=self._roles())).data_definition
            for kind in ("numerical_columns", "categorical_columns", "datetime_columns", "text_columns"):
                options[kind] = [*options.get(kind, ()), *(getattr(guessed, kind) or ())]
        return evidently.Dataset.from_pandas(frame, data_definition=evidently.DataDefinition(**options))

    def _classification(self, evidently: Any) -> Any:
        prediction = {"prediction_probas" if self.is_probability else "prediction_labels": self.prediction}
        if self.task == "multiclass":
            return evidently.MulticlassClassification(target=self.target, prediction_labels=self.prediction)
        positive = {} if self.positive is None else {"pos_label": self.positive}
        return evidently.BinaryClassification(target=self.target, **prediction, **positive)


def _build(value: Any) -> Any:
    if isinstance(value, Part):
        return value.build()
    return [_build(each) for each in value] if isinstance(value, list | tuple) else value


def _unusable(table: Any, reference: Any, names: Iterable[str]) -> Iterator[Check]:
    """Yield a failed check for each column that Evidently cannot use: it raises for some, and skips others silently."""
    for name in names:
        for whose, frame in (("", table), (" of the reference", reference)):
            if frame is None:
                continue
            values = frame[name].dropna()
            nested = values.dtype == object and values.head(1000).map(
                lambda held: hasattr(held, "__len__") and not isinstance(held, str)
            )
            if values.empty:
                yield Check(name="has_values", column=name, passed=False, observed=f"only nulls in the column{whose}")
                break
            if nested is not False and nested.any():
                yield Check(
                    name="has_plain_values", column=name, passed=False, observed=f"nested values in the column{whose}"
                )
                break


def _is_number(values: Any) -> bool:
    return bool(values.dtype.kind in "biufc")


def _run(metrics: list[Any], datasets: list[Any], has_tests: bool) -> tuple[Any, list[Check]]:
    """Return Evidently's result, and a failed check for each metric that raised an error and is not in it."""
    from evidently import Report

    def run(chosen: list[Any]) -> Any:
        return Report(chosen, include_tests=has_tests).run(*datasets)

    try:
        return (run(metrics) if metrics else None), []
    except Exception:  # noqa: BLE001 - the errors of the library are its own business
        kept, refused = [], []
        for each in metrics:
            try:
                run([each])
                kept.append(each)
            except Exception as error:  # noqa: BLE001
                message = f"{type(error).__name__}: {error}"
                column = str(getattr(each, "column", "") or "")
                refused.append(
                    Check(name=type(each).__name__, column=column, passed=False, observed="an error", message=message)
                )
        return (run(kept) if kept else None), refused


def _outcome(test: Mapping[str, Any], measured: Mapping[str, Any]) -> Check:
    config, value = measured.get("config", {}), measured.get("value")
    name, column = str(config.get("type", test["name"])).rpartition(":")[2], str(config.get("column") or "")
    is_critical = test["test_config"].get("is_critical", True)
    actual = _ACTUAL.search(test["description"])
    check = Check(
        name=name,
        column=column,
        passed=test["status"] == "SUCCESS",
        severity="error" if is_critical else "warning",
        observed=actual.group(1) if actual else "",
        expected=_expected(str(test["name"])),
    )
    return _with_statistic(check, str(test["description"]), config, value)


def _expected(name: str) -> str:
    """Return the condition at the end of a test's name, such as `Share of Drifted Columns: Less 0.500`."""
    condition = name.rpartition(": ")[2].partition("Reference")[0].strip()
    for theirs, ours in _CONDITIONS.items():
        if condition.startswith(f"{theirs} "):
            return ours + condition.removeprefix(theirs)
    return "" if condition == name else condition


def _with_statistic(check: Check, description: str, config: Mapping[str, Any], value: Any) -> Check:
    """Return the check of a drift with its method, statistic and threshold."""
    if found := _METHOD.search(description):
        method, threshold = found.group(1), float(config["threshold"])
        side = "at least" if "p_value" in method else "below"
        return structs.replace(
            check,
            method=method,
            value=value,
            threshold=threshold,
            observed=f"{value:.4g}",
            expected=f"{side} {threshold:g}",
        )
    if "drift_share" in config:
        threshold = float(config["drift_share"])
        return structs.replace(check, method="share of drifted columns", value=value["share"], threshold=threshold)
    return check


def _drift_figures(metrics: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the share and the number of drifted columns where a metric has counted them."""
    for each in metrics:
        if "drift_share" in each["config"]:
            return {"drift.share": float(each["value"]["share"]), "drift.columns": float(each["value"]["count"])}
    return {}


def _shown(value: Any) -> Any:
    """Return a value of a metric, with the first 20 of many labels."""
    if isinstance(value, Mapping):
        return {name: _shown(held) for name, held in list(value.items())[:_MAX_LABELS]}
    return value
