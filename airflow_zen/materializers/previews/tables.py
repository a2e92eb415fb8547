"""Table previews: the first rows of a table of any library, with a chart of each column."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from random import Random
from typing import Any

from airflow_zen.markup import escape_html
from airflow_zen.materializers.previews.html import ELLIPSIS, Markup, hidden_note, join_within, preview_page, truncate

MAX_PREVIEW_ROWS, MAX_PREVIEW_COLUMNS = 20, 30
MAX_SAMPLED_ROWS = 10_000
MAX_SAMPLED_VALUE_BYTES = 1024
"""Mean size of a value above which a column has no chart: taking a sample of it would take more than milliseconds."""

_MAX_CELL_LENGTH = 60
_SAMPLE_RUN_LENGTH = 10
_MAX_TABLE_BYTES = 120 * 1024

_repr = reprlib.Repr()
_repr.maxlist = _repr.maxdict = _repr.maxtuple = _repr.maxset = 8
_repr.maxstring = _repr.maxother = _MAX_CELL_LENGTH


@dataclass(frozen=True)
class TableColumn:
    """One column of a table of any library.

    `head` has the first 20 values. `size` is the number of bytes of all values. `sample` returns the values of some rows
    as an Arrow array, from which the chart is made; None where the column has no chart.
    """

    name: str
    type: str
    head: Iterable[Any]
    size: int = 0
    sample: Callable[[list[int]], Any] | None = None


def preview_table(
    value: Any,
    summary: Mapping[str, Any],
    shape: tuple[int, int],
    columns: Iterable[TableColumn],
    labels: Iterable[Any] | None = None,
) -> Mapping[str, bytes | str]:
    """Return the page of a table of `shape` (rows, columns); `labels` are those of its rows, by default their numbers."""
    rows, width = shape
    shown = list(islice(columns, MAX_PREVIEW_COLUMNS))
    nulls = [column.get("nulls") for column in summary.get("columns", ())[: len(shown)]]
    picked = sample_rows(rows)
    headings = (_column_heading(column, known, rows, picked) for column, known in zip_longest(shown, nulls))
    cells = [[cell_text(item) for item in column.head] for column in shown]
    body = (
        f"<tr><th>{escape_html(cell_text(label))}</th>{''.join(f'<td>{escape_html(column[at])}</td>' for column in cells)}</tr>"
        for at, label in enumerate(islice(range(rows) if labels is None else labels, MAX_PREVIEW_ROWS))
    )
    table = _html_table(f"<th></th>{''.join(f'<th>{text}</th>' for text in headings)}", body)
    note = hidden_note(width - MAX_PREVIEW_COLUMNS, "column")
    return preview_page(value, {"shape": f"{rows} rows", **summary}, [table, *note])


def plain_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """Return a table of rows of values under a heading of names."""
    head = "".join(f"<th>{escape_html(truncate(name, _MAX_CELL_LENGTH))}</th>" for name in names)
    body = (f"<tr>{''.join(f'<td>{escape_html(cell_text(value))}</td>' for value in row)}</tr>" for row in rows)
    return _html_table(head, body)


def cell_text(value: Any) -> str:
    """Return the short text of a value; only the first members of a container are read."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple | dict | set | frozenset | bytes | bytearray):
        return truncate(_repr.repr(value), _MAX_CELL_LENGTH)
    return truncate(value if isinstance(value, str) else str(value), _MAX_CELL_LENGTH)


def sample_rows(rows: int) -> list[int]:
    """Return the rows for charts: all, or 10,000 in short runs at random positions, which are the same each time."""
    if rows <= MAX_SAMPLED_ROWS:
        return list(range(rows))
    # Rows at equal distances would mislead where the data has a period; runs cost a tenth of single rows.
    starts = sorted(Random(0).sample(range(rows // _SAMPLE_RUN_LENGTH), MAX_SAMPLED_ROWS // _SAMPLE_RUN_LENGTH))  # noqa: S311
    return [start * _SAMPLE_RUN_LENGTH + at for start in starts for at in range(_SAMPLE_RUN_LENGTH)]


def _column_heading(column: TableColumn, nulls: int | None, rows: int, picked: list[int]) -> str:
    kind = escape_html(f"{truncate(column.type, 40)}{f' · {nulls} missing' if nulls else ''}")
    text = f"{escape_html(truncate(column.name, 40))}<small>{kind}</small>"
    if column.sample is None or column.size > MAX_SAMPLED_VALUE_BYTES * max(1, rows):
        return text
    from airflow_zen.materializers.arrow.statistics import column_chart

    return f"{text}{column_chart(column.sample, picked)}"


def _html_table(head: str, rows: Iterable[str]) -> Markup:
    """Return a table with a head; rows that exceed the size limit are left out, and the last line says so."""
    note = f'<tr><td class="cut" colspan="99">{ELLIPSIS} more rows, too large for a preview</td></tr>'
    body = join_within(_MAX_TABLE_BYTES, rows, note)
    return Markup(f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')
