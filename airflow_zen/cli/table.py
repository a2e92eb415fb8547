"""Show rows as Airflow's own commands do: a table, plain columns, JSON or YAML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def print_rows(rows: Sequence[dict[str, Any]], output: str) -> None:
    """Print rows; in a table brackets are text and no markup: `airflow-provider-zen[s3]`."""
    from airflow.cli.simple_table import AirflowConsole
    from rich.markup import escape

    if output == "table":
        rows = [{name: escape("" if value is None else str(value)) for name, value in row.items()} for row in rows]
    AirflowConsole().print_as(data=rows, output=output)
