"""Expectation suites of Great Expectations."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from airflow_zen.errors import ValidationDefinitionError
from airflow_zen.validation.base import Form, Validator
from airflow_zen.validation.report import MAX_SAMPLED_ROWS, Check, FailingRow, ValidationReport

DATA_DOCS = "great_expectations.html"
"""The library's own page. It loads styles and scripts from public servers, and is plain text without them."""

_POSITION = "airflow_zen_position"


@dataclass(frozen=True)
class GreatExpectations(Validator):
    """Check a table with an expectation suite.

    `suite` is an `ExpectationSuite`, the dict that describes one, a list of expectations, or the path of a JSON file
    with either. The path is relative to the folder of the file that names it, and is read at once. An expectation of
    severity `info` or `warning` does not fail the report.
    """

    suite: Any
    library: ClassVar[str] = "great_expectations"
    form: ClassVar[Form] = "pandas"

    def __post_init__(self) -> None:
        """Keep the suite as plain JSON; raise `ValidationDefinitionError` for what is not one."""
        given: Any = self.suite
        if isinstance(given, str | Path):
            given = _read(_naming_folder() / given)
        object.__setattr__(self, "suite", _as_suite(given))

    def columns(self) -> list[str]:
        """Return the columns that expectations are about, without those whose existence is itself expected."""
        found: dict[str, bool] = {}
        for expectation in self.suite["expectations"]:
            if isinstance(name := expectation["kwargs"].get("column"), str):
                found[name] = found.get(name, True) and expectation["type"] != "expect_column_to_exist"
        return [name for name, is_taken_for_granted in found.items() if is_taken_for_granted]

    def check(self, table: Any, reference: Any = None) -> ValidationReport:
        """Return a check for each expectation, in the order of the suite, and the library's page."""
        # Read when the library is imported.
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        suite, refused = self._build()
        result = _validate(table, suite)
        found = [each.to_json_dict() for each in result.results]
        for each, plain in zip(result.results, found, strict=True):
            # The page cannot be made of numbers of NumPy.
            each.result = json.loads(json.dumps(plain["result"], default=str))
        checks = {_position(each): _outcome(each) for each in found} | refused
        ordered = tuple(checks[at] for at in sorted(checks))
        return ValidationReport(self.title, ordered, files={DATA_DOCS: _data_docs(result).encode()})

    def _build(self) -> tuple[Any, dict[int, Check]]:
        """Return the suite as the library's, and by position a failed check for each expectation that it refuses."""
        import great_expectations

        suite, refused = great_expectations.ExpectationSuite(name=self.suite.get("name") or "suite"), {}
        for at, expectation in enumerate(self.suite["expectations"]):
            marked = {**expectation, "meta": {**(expectation.get("meta") or {}), _POSITION: at}}
            try:
                suite.add_expectation_configurations([_configuration(marked)])
            except Exception as error:  # noqa: BLE001 - what a suite may be wrong in is the library's to know
                column = str(expectation["kwargs"].get("column") or "")
                message = f"Great Expectations refuses it: {error}"
                refused[at] = Check(name=expectation["type"], column=column, passed=False, message=message)
        return suite, refused


def _naming_folder() -> Path:
    """Return the folder of the file that makes the validator."""
    frame = sys._getframe(2)  # noqa: SLF001 - there is no other way to ask
    while frame.f_back and frame.f_code.co_filename in ("<string>", __file__):
        frame = frame.f_back
    return Path(frame.f_code.co_filename).parent


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValidationDefinitionError(f"The expectation suite {str(path)!r} cannot be read: {error}.") from error


def _as_suite(given: Any) -> dict[str, Any]:
    """Return a suite as plain JSON: its name, and each expectation with type and kwargs."""
    if hasattr(given, "to_json_dict"):
        given = given.to_json_dict()
    if isinstance(given, list | tuple):
        given = {"expectations": given}
    try:
        expectations = [_as_expectation(each) for each in given["expectations"]]
        return {"name": str(given.get("name") or ""), "expectations": expectations}
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValidationDefinitionError(
            "GreatExpectations(…) takes a suite, its dict "
            "{'name': …, 'expectations': [{'type': 'expect_…', 'kwargs': {…}}]}, the list alone, or the path of a JSON "
            f"file with either; this one cannot be read: {error!r}."
        ) from error


def _as_expectation(given: Any) -> dict[str, Any]:
    held = given.configuration.to_json_dict() if hasattr(given, "configuration") else dict(given)
    kept = {name: held[name] for name in ("severity", "meta") if held.get(name)}
    found: dict[str, Any] = json.loads(
        json.dumps({"type": held["type"], "kwargs": dict(held.get("kwargs", {})), **kept})
    )
    return found


def _configuration(expectation: Mapping[str, Any]) -> Any:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    return ExpectationConfiguration(**expectation)


def _validate(table: Any, suite: Any) -> Any:
    import great_expectations
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = great_expectations.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("table")
    definition = great_expectations.ValidationDefinition(
        name="validation", data=asset.add_batch_definition_whole_dataframe("whole"), suite=context.suites.add(suite)
    )
    return context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": table},
        result_format={"result_format": "SUMMARY", "partial_unexpected_count": MAX_SAMPLED_ROWS},
    )


def _data_docs(result: Any) -> str:
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    return str(DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(result)))


def _position(found: Mapping[str, Any]) -> int:
    return int(found["expectation_config"]["meta"][_POSITION])


def _outcome(found: Mapping[str, Any]) -> Check:
    config, result = found["expectation_config"], found["result"]
    reason = next(_exceptions(found["exception_info"]), "")
    kwargs = {name: value for name, value in config["kwargs"].items() if name not in ("column", "batch_id")}
    return Check(
        name=config["type"],
        column=str(config["kwargs"].get("column") or ""),
        passed=bool(found["success"]),
        severity="error" if config.get("severity") in (None, "critical") else "warning",
        observed="an error" if reason else _observed(result),
        expected=", ".join(f"{name}={value}" for name, value in kwargs.items()),
        failing=result.get("unexpected_count"),
        sample=tuple(_rows(result)),
        message=reason,
    )


def _exceptions(info: Mapping[str, Any]) -> Iterator[str]:
    """Yield the messages of the exceptions of metrics: `info` is one record of them, or one for each metric."""
    if not isinstance(info.get("raised_exception"), bool):
        for each in info.values():
            yield from _exceptions(each)
    elif info["raised_exception"]:
        yield str(info["exception_message"]).strip().partition("\n")[0]


def _observed(result: Mapping[str, Any]) -> str:
    if "observed_value" in result:
        return str(result["observed_value"])
    if "unexpected_count" in result:
        return f"{result['unexpected_count']} of {result['element_count']} rows"
    return ""


def _rows(result: Mapping[str, Any]) -> Iterator[FailingRow]:
    values = result.get("partial_unexpected_list") or ()
    labels = result.get("partial_unexpected_index_list") or [""] * len(values)
    for label, value in zip(labels, values, strict=False):
        yield FailingRow(str(label), str(value))
