"""Validation reports as JSON, with their page and the files of the library beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from airflow_zen.errors import ArtifactCorrupt, SaveRefused
from airflow_zen.json_records import decode_record
from airflow_zen.markup import escape_html
from airflow_zen.materializers.base import Materializer, require_exact_type
from airflow_zen.materializers.previews.html import PREVIEW_HTML, Markup, heading, hidden_note, html_page, truncate
from airflow_zen.materializers.previews.tables import cell_text, plain_table
from airflow_zen.validation.evaluation_report import EvaluationReport, evaluation_sections
from airflow_zen.validation.report import Check, ValidationReport, counted

REPORT_FILE, PAGE_FILE, FILES = "report.json", "report.html", "files"

_FILE_NAME = re.compile(r"(?a)\w[\w.-]*")

_MAX_CHECKS = 300
_MAX_SAMPLES = 30
_MAX_STATISTICS = 200
_MAX_FIGURES = 12
_STYLE = """
.verdict,p.verdict{display:inline-block;margin:0 6px 0 0;padding:3px 10px}
.verdict,p.verdict{border-radius:10px;font-weight:600;color:#fff!important}
.verdict.pass{background:#2e7d4f}.verdict.fail{background:#b3261e}.verdict.warn{background:#8a5a00}
td.pass{color:#2e7d4f}td.fail{color:#b3261e;font-weight:600}td.warn{color:#8a5a00;font-weight:600}
td.text{white-space:pre-wrap;min-width:90px;max-width:420px;overflow-wrap:break-word}td.number{text-align:right}
iframe{width:100%;height:85vh;border:0;background:#fff}
@media (prefers-color-scheme:dark){
td.pass{color:#7cc99a}td.fail{color:#ff8a80}td.warn{color:#f0b75e}
}
"""

_MARKS = {"pass": "✓ passed", "fail": "✗ failed", "warn": "! warning"}


class ReportMaterializer(Materializer):
    """Save a report as `report.json`, its page as `report.html`, and the files of its library under `files/`."""

    types = ("airflow_zen.validation.report.ValidationReport",)
    encoding = "validation.report@1"
    report_type: ClassVar[type[ValidationReport]] = ValidationReport

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write the files; the summary tells without them whether the report passed, and which checks failed."""
        require_exact_type(value, self.report_type)
        try:
            text = msgspec.json.encode(replace(value, files={}), order="sorted")
        except (TypeError, ValueError) as error:
            raise SaveRefused(
                f"The statistics of a report are JSON: {error}. Convert them to numbers or text."
            ) from error
        (directory / REPORT_FILE).write_bytes(text)
        (directory / PAGE_FILE).write_text(self.page(value, FILES), encoding="utf-8", errors="replace")
        for name, content in sorted(value.files.items()):
            if not _FILE_NAME.fullmatch(name):
                raise SaveRefused(
                    f"a file of a report cannot be named {name!r}. Use letters, digits, '_', '-' and '.'."
                )
            (directory / FILES).mkdir(exist_ok=True)
            (directory / FILES / name).write_bytes(content)
        verdict = "passed, " if value.passed else f"failed, {len(value.failures)} of "
        return {"shape": f"{verdict}{counted(len(value.checks), 'check')}", "validation": value.summary()}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the report, with the files of its library."""
        try:
            report = decode_record((directory / REPORT_FILE).read_bytes(), self.report_type)
        except (OSError, msgspec.DecodeError) as error:
            raise ArtifactCorrupt(f"{REPORT_FILE} is not a validation report: {error}") from error
        paths = sorted((directory / FILES).iterdir()) if (directory / FILES).is_dir() else []
        return replace(report, files={path.name: path.read_bytes() for path in paths})

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the page."""
        return {PREVIEW_HTML: self.page(value)}

    def page(self, value: Any, folder: str = "") -> str:
        """Return the HTML page of a report; `folder` is where the files of its library are beside it."""
        return report_page(value, (), folder)


class EvaluationMaterializer(ReportMaterializer):
    """Save the report of a model as other reports, with its slices and plots on the page."""

    types = ("airflow_zen.validation.evaluation_report.EvaluationReport",)
    encoding = "validation.evaluation@1"
    report_type = EvaluationReport

    def page(self, value: Any, folder: str = "") -> str:
        """Return the HTML page of a report, with its slices and plots."""
        return report_page(value, evaluation_sections(value), folder)


def report_page(report: ValidationReport, sections: Iterable[Markup] = (), folder: str = "") -> str:
    """Return the page of a report: its verdict, its checks with the failed ones first, failing rows, and statistics.

    `sections` follow the verdict. `folder` is where the files of the library are, from where the page is: its pages are
    shown in sandboxed frames. At most 256 KB; the last sections are left out of a larger page.
    """
    parts = [_verdict(report), *sections, *_checks(report), *_samples(report), *_statistics(report), *_files(report)]
    pages = list(_pages(report, folder)) if folder else []
    policy = "; frame-src 'self' file:" if pages else ""
    return html_page(f"Validation · {report.validator}", _subtitle(report), [*parts, *pages], _STYLE, policy)


def _subtitle(report: ValidationReport) -> str:
    rows = "" if report.rows is None else f"{counted(report.rows, 'row')} · "
    sampled = "" if report.sampled is None else f"a random sample of {report.sampled:,} of them was checked · "
    return f"{rows}{sampled}{counted(len(report.checks), 'check')}"


def _verdict(report: ValidationReport) -> Markup:
    failed, warned = len(report.failures), len(report.warnings)
    kind, text = ("pass", "passed") if report.passed else ("fail", f"{failed} failed")
    warnings = f'<p class="verdict warn">{counted(warned, "warning")}</p>' if warned else ""
    return Markup(f'<p class="verdict {kind}">{text}</p> {warnings}')


def _kind(check: Check) -> str:
    return "pass" if check.passed else "fail" if check.is_failure else "warn"


def _checks(report: ValidationReport) -> Iterator[Markup]:
    """Yield a table for each validator, without the columns that it leaves empty."""
    for validator, group in groupby(report.checks, lambda check: check.validator or report.validator):
        found = sorted(group, key=lambda check: ("fail", "warn", "pass").index(_kind(check)))
        yield heading(validator)
        columns = [column for column in _COLUMNS if any(column[2](check) for check in found)]
        head = "".join(f"<th>{name}</th>" for name in ("", *(name for name, *_ in columns)))
        body = "".join(_check_row(check, columns) for check in found[:_MAX_CHECKS])
        yield Markup(f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')
        yield from hidden_note(len(found) - _MAX_CHECKS, "check")


def _check_row(check: Check, columns: Sequence[_Column]) -> str:
    kind = _kind(check)
    cells = [(kind, _MARKS[kind]), *((style, text(check)) for _, style, text in columns)]
    shown = (f'<td class="{style}">{escape_html(truncate(text, 300))}</td>' for style, text in cells)
    return f"<tr>{''.join(shown)}</tr>"


def _number(value: float | None) -> str:
    return "" if value is None else cell_text(value)


_Column = tuple[str, str, Callable[[Check], str]]
_COLUMNS: Sequence[_Column] = (
    ("check", "", lambda check: check.name),
    ("column", "", lambda check: check.column),
    ("observed", "text", lambda check: " · ".join(filter(None, (check.observed, check.message)))),
    ("expected", "text", lambda check: check.expected),
    ("failing rows", "number", lambda check: "" if check.failing is None else f"{check.failing:,}"),
    ("method", "text", lambda check: check.method),
    ("value", "number", lambda check: _number(check.value)),
    ("threshold", "number", lambda check: _number(check.threshold)),
)
"""The columns of the table of checks: the header, the style, and the text of a check."""


def _samples(report: ValidationReport) -> Iterator[Markup]:
    sampled = [check for check in report.checks if check.sample and not check.passed]
    for check in sampled[:_MAX_SAMPLES]:
        count = "" if check.failing is None else f"{len(check.sample)} of {check.failing:,} "
        yield heading(f"{check.title}: {count}failing rows")
        yield plain_table(["row", "value"], [(row.label, row.value) for row in check.sample])
    yield from hidden_note(len(sampled) - _MAX_SAMPLES, "sample")


def _statistics(report: ValidationReport) -> Iterator[Markup]:
    """Yield a table of single figures, and one of things with the same figures, such as columns."""
    tabular = {name: value for name, value in report.statistics.items() if isinstance(value, Mapping)}
    figures = list(dict.fromkeys(name for value in tabular.values() for name in value))
    if len(figures) > _MAX_FIGURES:
        tabular = {}
    single = {name: value for name, value in report.statistics.items() if name not in tabular}
    rows: Sequence[Sequence[object]] = [*report.metrics.items(), *single.items()]
    table = [[name, *(value.get(figure, "") for figure in figures)] for name, value in tabular.items()]
    if rows or table:
        yield heading("Statistics")
    for header, found in ((["", "value"], rows), (["", *figures], table)):
        if found:
            yield plain_table(header, found[:_MAX_STATISTICS])
            yield from hidden_note(len(found) - _MAX_STATISTICS, "figure")


def _files(report: ValidationReport) -> Iterator[Markup]:
    if report.files:
        yield heading("Files of the library, in the artifact under files/")
        yield plain_table(["file", "bytes"], [(name, len(content)) for name, content in report.files.items()])


def _pages(report: ValidationReport, folder: str) -> Iterator[Markup]:
    """Yield a closed frame for each page of the library, whose scripts can reach nothing of this page."""
    for name in report.files:
        if name.endswith(".html"):
            path = escape_html(f"{folder}/{name}")
            frame = f'<iframe sandbox="allow-scripts" loading="lazy" src="{path}"></iframe>'
            yield Markup(f"<details><summary>{escape_html(name)}</summary>{frame}</details>")
