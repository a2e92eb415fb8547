"""`EvaluationReport`: what an evaluation found in a model, with its metrics, slices and plots, and its page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import msgspec

from airflow_zen.materializers.previews.html import Markup, heading, hidden_note
from airflow_zen.materializers.previews.tables import plain_table
from airflow_zen.validation.report import ValidationReport

_MAX_SLICES = 50


class Slice(msgspec.Struct, frozen=True):
    """The metrics of the rows that have one value, or a range of values, of a column.

    is_small: whether there are too few rows to judge by them. A metric that these rows do not define is left out.
    """

    column: str
    value: str
    rows: int
    is_small: bool
    metrics: Mapping[str, float]


class Curve(msgspec.Struct, frozen=True):
    """Points in order, joined by a line unless `markers_only`."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    markers_only: bool = False


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """A chart of curves, of bars, or of a matrix of counts: rows are true classes, columns the predicted ones.

    axis_max draws both axes from 0 to that number, with the diagonal.
    """

    title: str
    x_title: str = ""
    y_title: str = ""
    axis_max: float | None = None
    curves: tuple[Curve, ...] = ()
    bars: tuple[tuple[str, float], ...] = ()
    labels: tuple[str, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()


class EvaluationReport(ValidationReport, frozen=True):
    """A `ValidationReport` of a model.

    `metrics` has each metric by name, `baseline.<metric>` of the baseline, and `gain`, `gain.low` and `gain.high` of
    each, where there is one. task: `regression`, `binary`, `multiclass` or `ranking`. slices: by column, the worst
    first.
    """

    task: str = ""
    slices: tuple[Slice, ...] = ()
    plots: tuple[Plot, ...] = ()


def evaluation_sections(report: EvaluationReport) -> Iterator[Markup]:
    """Yield the tables of metrics and of slices, and the plots, for the page of a report."""
    if report.metrics:
        yield heading("Metrics")
        yield _metrics_table(report.metrics)
    for column, group in groupby(report.slices, lambda each: each.column):
        found = list(group)
        names = list(dict.fromkeys(name for each in found for name in each.metrics))
        yield heading(f"Slices by {column}, the worst first")
        yield plain_table(["", "rows", *names], [_slice_row(each, names) for each in found[:_MAX_SLICES]])
        yield from hidden_note(len(found) - _MAX_SLICES, "slice")
    for plot in report.plots:
        yield heading(plot.title)
        yield _draw(plot)


def _metrics_table(metrics: Mapping[str, float]) -> Markup:
    """Return the metrics of the model; with a baseline its metrics, and the gain with its interval."""
    names = [name for name in metrics if not name.startswith(("baseline.", "gain."))]
    if not any(f"baseline.{name}" in metrics for name in names):
        return plain_table(["", "model"], [[name, metrics[name]] for name in names])

    def number(name: str) -> str:
        return f"{metrics[name]:.4g}" if name in metrics else ""

    rows = []
    for name in names:
        interval = [number(f"gain.{side}.{name}") for side in ("low", "high")]
        rows.append(
            [
                name,
                number(name),
                number(f"baseline.{name}"),
                number(f"gain.{name}"),
                " to ".join(filter(None, interval)),
            ]
        )
    return plain_table(["", "model", "baseline", "gain", "95% interval"], rows)


def _slice_row(found: Slice, names: list[str]) -> list[Any]:
    label = f"{found.value} (few rows)" if found.is_small else found.value
    return [label, found.rows, *(f"{found.metrics[name]:.4g}" if name in found.metrics else "" for name in names)]


def _draw(plot: Plot) -> Markup:
    from airflow_zen.materializers.evaluation import confusion_matrix_svg
    from airflow_zen.materializers.previews.html import Line, bar_chart, line_chart

    if plot.bars:
        return bar_chart(plot.bars)
    if plot.counts:
        return confusion_matrix_svg([list(row) for row in plot.counts], list(plot.labels))
    lines = [Line(each.name, each.x, each.y, each.markers_only) for each in plot.curves]
    return line_chart(lines, plot.x_title, plot.y_title, plot.axis_max is not None, plot.axis_max)
