"""The answers about a DAG: its plan, its runs, and the versions of its artifacts over time."""

from __future__ import annotations

from typing import Any

from airflow_zen.ui.responses import Answer, RunKey, StepRow, Totals


class PlannedRow(Answer):
    """One step of a plan: `hit`, `miss` or `unknown`, and why; seconds and size are of earlier results."""

    task_id: str
    plan: str
    why: str
    seconds: float | None = None
    size: int | None = None
    warning: str = ""


class PlanPage(Answer):
    """What a run started now would reuse. error: why there is no plan, such as a DAG file that is not on this host."""

    dag_id: str
    steps: list[PlannedRow]
    error: str = ""


class DagRunRow(Answer):
    """A DAG run with step run records, with its totals."""

    run_id: str
    ended: float
    totals: Totals


class DagRunList(Answer):
    """The DAG runs of a DAG, newest first."""

    dag_id: str
    runs: list[DagRunRow]


class VersionPoint(Answer):
    """One version of an artifact in time; `changes` are changes of the schema from the version before, as sentences.

    metrics: what the step that made it logged in MLflow, and the numbers of the version's metadata.
    """

    version: str
    created: float
    digest: str
    size: int
    rows: int | None
    shape: str
    producer: RunKey | None
    changes: list[str]
    metrics: dict[str, float]
    tags: list[str]


class VersionSeries(Answer):
    """The versions of a named artifact over time, oldest first; `more`: whether older ones are left out."""

    name: str
    points: list[VersionPoint]
    more: bool


class DagArtifacts(Answer):
    """The names of the artifacts that a DAG makes, with their versions over time; `more`: whether names are left out."""

    dag_id: str
    series: list[VersionSeries]
    more: bool


class Difference(Answer):
    """One fact that differs; `subject` is a parameter, an output, a column, a metric."""

    subject: str
    fact: str
    before: Any
    after: Any


class StepComparison(Answer):
    """One step in two DAG runs; `before` and `after` are null where the run does not have it."""

    task_id: str
    map_index: int
    same_outputs: bool
    before: StepRow | None
    after: StepRow | None
    differences: list[Difference]


class RunComparison(Answer):
    """Two DAG runs of one DAG, side by side."""

    dag_id: str
    before: DagRunRow
    after: DagRunRow
    steps: list[StepComparison]
