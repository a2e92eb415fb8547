"""Validation reports as JSON, with their page and the files of the library beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from airflow_zen.errors import ArtifactCorrupt, SaveRefused
from airflow_zen.json_records import decode_record
from airflow_zen.materializers.base import Materializer, require_exact_type
from airflow_zen.materializers.previews.html import PREVIEW_HTML
from airflow_zen.validation.evaluation_report import EvaluationReport, evaluation_sections
from airflow_zen.validation.report import ValidationReport
from airflow_zen.validation.report_page import report_page

REPORT_FILE, PAGE_FILE, FILES = "report.json", "report.html", "files"

_FILE_NAME = re.compile(r"(?a)\w[\w.-]*")


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
        failed, total = len(value.failures), len(value.checks)
        shape = f"passed, {total} checks" if value.passed else f"failed, {failed} of {total} checks"
        return {"shape": shape, "validation": value.summary()}

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
