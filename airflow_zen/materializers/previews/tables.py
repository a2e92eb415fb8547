"""The head of a table, with a chart of each column above its first values."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from airflow_zen.escape import safe
from airflow_zen.materializers.previews.charts import Chart, drawn
from airflow_zen.materializers.previews.page import CUT, Markup, cut_note, page, shortened

ROWS, COLUMNS = 20, 30
MOST_SAMPLED = 10_000
WIDEST = 1024
"""Bytes of a value beyond which a column is not sampled: its values would cost more than milliseconds to gather."""

_LONGEST_CELL = 60
_RUN = 10
_MOST_BYTES = 120 * 1024

_repr = reprlib.Repr()
_repr.maxlist = _repr.maxdict = _repr.maxtuple = _repr.maxset = 8
_repr.maxstring = _repr.maxother = _LONGEST_CELL


@dataclass(frozen=True)
class Column:
    """One column as it is shown: its first cells, and a chart of a sample of its values."""

    name: str
    type: str
    cells: Sequence[str]
    chart: Chart | None = None
    nulls: int | None = None


def table_page(title: str, shape: str, columns: Sequence[Column], labels: Sequence[str], hidden: int = 0) -> str:
    """Show columns side by side, `labels` before their rows; `hidden` counts the columns that are left out."""
    return page(title, shape, [table(columns, labels), *hidden_columns(hidden)])


def table(columns: Sequence[Column], labels: Sequence[str]) -> Markup:
    """Draw columns with their charts."""
    head = "".join(f"<th>{_heading(column)}</th>" for column in columns)
    rows = (
        f"<tr><th>{safe(label)}</th>{''.join(f'<td>{safe(column.cells[at])}</td>' for column in columns)}</tr>"
        for at, label in enumerate(labels)
    )
    return _table(f"<th></th>{head}", rows)


def plain_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """Draw rows of values below names."""
    head = "".join(f"<th>{safe(shortened(name, _LONGEST_CELL))}</th>" for name in names)
    body = (f"<tr>{''.join(f'<td>{safe(cell(value))}</td>' for value in row)}</tr>" for row in rows)
    return _table(head, body)


def hidden_columns(count: int) -> list[Markup]:
    """Say how many columns are left out, where there are any."""
    return [cut_note(f"{count} more {'column' if count == 1 else 'columns'}")] if count > 0 else []


def cell(value: Any) -> str:
    """Write a value as the short text of a cell; large ones are not gone through."""
    if isinstance(value, str):
        return shortened(value, _LONGEST_CELL)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple | dict | set | frozenset | bytes | bytearray):
        return shortened(_repr.repr(value), _LONGEST_CELL)
    return shortened(str(value), _LONGEST_CELL)


def sampled(rows: int) -> list[int]:
    """Choose the rows that charts are made of: all, or 10,000 in short runs at random places, the same each time."""
    if rows <= MOST_SAMPLED:
        return list(range(rows))
    # At even distances a period in the data would mislead; runs cost a tenth of the drawing.
    starts = sorted(Random(0).sample(range(rows // _RUN), MOST_SAMPLED // _RUN))  # noqa: S311
    return [start * _RUN + at for start in starts for at in range(_RUN)]


def nulls_of(summary: Mapping[str, Any]) -> list[int | None]:
    """Give the nulls of each column as the summary counted them; None where it did not."""
    return [column.get("nulls") for column in summary.get("columns", ())[:COLUMNS]]


def _table(head: str, rows: Iterable[str]) -> Markup:
    """Put rows below a head; those that do not fit are left out, and the last line says so."""
    room, shown = _MOST_BYTES, []
    for row in rows:
        room -= len(row.encode())
        if room < 0:
            shown.append(f'<tr><td class="cut" colspan="99">{CUT} more rows, too large for a preview</td></tr>')
            break
        shown.append(row)
    body = "".join(shown)
    return Markup(f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _heading(column: Column) -> str:
    nulls = f" · {column.nulls} missing" if column.nulls else ""
    kind = safe(f"{shortened(column.type, 40)}{nulls}")
    return f"{safe(shortened(column.name, 40))}<small>{kind}</small>{drawn(column.chart)}"
