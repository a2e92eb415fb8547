"""The head of a table, with a chart of each column above its first values."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from airflow_zen.markup import escape_html
from airflow_zen.materializers.previews.charts import Chart, chart_svg
from airflow_zen.materializers.previews.html import ELLIPSIS, Markup, html_page, truncate, truncation_note

MAX_PREVIEW_ROWS, MAX_PREVIEW_COLUMNS = 20, 30
MAX_SAMPLED_ROWS = 10_000
MAX_SAMPLED_VALUE_BYTES = 1024
"""Bytes of a value beyond which a column is not sampled: its values would cost more than milliseconds to gather."""

_MAX_CELL_LENGTH = 60
_SAMPLE_RUN_LENGTH = 10
_MAX_TABLE_BYTES = 120 * 1024

_repr = reprlib.Repr()
_repr.maxlist = _repr.maxdict = _repr.maxtuple = _repr.maxset = 8
_repr.maxstring = _repr.maxother = _MAX_CELL_LENGTH


@dataclass(frozen=True)
class ColumnPreview:
    """One column as it is shown: its first cells, and a chart of a sample of its values."""

    name: str
    type: str
    cells: Sequence[str]
    chart: Chart | None = None
    nulls: int | None = None


def table_page(title: str, shape: str, columns: Sequence[ColumnPreview], labels: Sequence[str], hidden: int = 0) -> str:
    """Show columns side by side, `labels` before their rows; `hidden` counts the columns that are left out."""
    return html_page(title, shape, [column_table(columns, labels), *hidden_columns_note(hidden)])


def column_table(columns: Sequence[ColumnPreview], labels: Sequence[str]) -> Markup:
    """Draw columns with their charts."""
    head = "".join(f"<th>{_column_heading(column)}</th>" for column in columns)
    rows = (
        f"<tr><th>{escape_html(label)}</th>{''.join(f'<td>{escape_html(column.cells[at])}</td>' for column in columns)}</tr>"
        for at, label in enumerate(labels)
    )
    return _html_table(f"<th></th>{head}", rows)


def plain_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """Draw rows of values below names."""
    head = "".join(f"<th>{escape_html(truncate(name, _MAX_CELL_LENGTH))}</th>" for name in names)
    body = (f"<tr>{''.join(f'<td>{escape_html(cell_text(value))}</td>' for value in row)}</tr>" for row in rows)
    return _html_table(head, body)


def hidden_columns_note(count: int) -> list[Markup]:
    """Say how many columns are left out, where there are any."""
    return [truncation_note(f"{count} more {'column' if count == 1 else 'columns'}")] if count > 0 else []


def cell_text(value: Any) -> str:
    """Write a value as the short text of a cell; large ones are not gone through."""
    if isinstance(value, str):
        return truncate(value, _MAX_CELL_LENGTH)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple | dict | set | frozenset | bytes | bytearray):
        return truncate(_repr.repr(value), _MAX_CELL_LENGTH)
    return truncate(str(value), _MAX_CELL_LENGTH)


def sample_rows(rows: int) -> list[int]:
    """Choose the rows that charts are made of: all, or 10,000 in short runs at random places, the same each time."""
    if rows <= MAX_SAMPLED_ROWS:
        return list(range(rows))
    # At even distances a period in the data would mislead; runs cost a tenth of the drawing.
    starts = sorted(Random(0).sample(range(rows // _SAMPLE_RUN_LENGTH), MAX_SAMPLED_ROWS // _SAMPLE_RUN_LENGTH))  # noqa: S311
    return [start * _SAMPLE_RUN_LENGTH + at for start in starts for at in range(_SAMPLE_RUN_LENGTH)]


def null_counts(summary: Mapping[str, Any]) -> list[int | None]:
    """Give the nulls of each column as the summary counted them; None where it did not."""
    return [column.get("nulls") for column in summary.get("columns", ())[:MAX_PREVIEW_COLUMNS]]


def _html_table(head: str, rows: Iterable[str]) -> Markup:
    """Put rows below a head; those that do not fit are left out, and the last line says so."""
    remaining_bytes, shown = _MAX_TABLE_BYTES, []
    for row in rows:
        remaining_bytes -= len(row.encode())
        if remaining_bytes < 0:
            shown.append(f'<tr><td class="cut" colspan="99">{ELLIPSIS} more rows, too large for a preview</td></tr>')
            break
        shown.append(row)
    body = "".join(shown)
    return Markup(f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _column_heading(column: ColumnPreview) -> str:
    nulls = f" · {column.nulls} missing" if column.nulls else ""
    kind = escape_html(f"{truncate(column.type, 40)}{nulls}")
    return f"{escape_html(truncate(column.name, 40))}<small>{kind}</small>{chart_svg(column.chart)}"
