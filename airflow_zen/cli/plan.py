"""`airflow zen plan`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from airflow.sdk import timezone
from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.lineage.savings import format_bytes, format_count, format_seconds
from airflow_zen.operators.stack_selection import zen_conf
from airflow_zen.planning.plan import Decision, Plan, PlannedStep
from airflow_zen.planning.supervisor import PlannedDagRun


@suppress_logs_and_warning
def show_plan(args: Any) -> None:
    """Print for each step of a DAG whether a run would reuse or compute it, and why; nothing is run."""
    from airflow.cli.simple_table import AirflowConsole

    dag = _parse_dag(args.dag_id)
    steps = list(Plan(dag, _planned_run(args, dag)).steps())
    if not steps:
        raise SystemExit(f"DAG {args.dag_id!r} has no step of @ml_step.")
    AirflowConsole().print_as(data=[_planned_row(step, args.output) for step in steps], output=args.output)
    if args.output == "table":
        print(plan_summary(steps))


def plan_summary(steps: Iterable[PlannedStep]) -> str:
    """Sum a plan up in one line."""
    steps = list(steps)
    by_verdict = {decision: [step for step in steps if step.decision is decision] for decision in Decision}
    saved = sum(step.seconds or 0 for step in by_verdict[Decision.HIT])
    known = [step.seconds for step in by_verdict[Decision.MISS] if step.seconds is not None]
    costs = f", about {format_seconds(sum(known))}" if known else ""
    parts = [
        f"{len(by_verdict[Decision.HIT])} reused ({format_seconds(saved)} saved)",
        f"{len(by_verdict[Decision.MISS])} computed{costs}",
    ]
    if by_verdict[Decision.UNKNOWN]:
        parts.append(f"{len(by_verdict[Decision.UNKNOWN])} unknown until the run")
    return f"{format_count(len(steps), 'step')}: {', '.join(parts)}"


def _planned_row(step: PlannedStep, output: str) -> dict[str, Any]:
    task = step.task_id if step.map_index < 0 else f"{step.task_id}[{step.map_index}]"
    if output in ("json", "yaml"):
        return {
            "task": task,
            "plan": step.decision.value,
            "why": step.reason,
            "seconds": step.seconds,
            "bytes": step.size,
        }
    return {
        "task": task,
        "plan": step.decision.value,
        "why": step.reason,
        "takes": "" if step.seconds is None else format_seconds(step.seconds),
        "makes": "" if step.size is None else format_bytes(step.size),
    }


def _parse_dag(dag_id: str) -> Any:
    """Parse the DAG's own file only, where Airflow knows it; else its bundles."""
    from airflow.models import DagModel
    from airflow.utils.cli import get_bagged_dag

    known = DagModel.get_current(dag_id)
    if known is None:
        return get_bagged_dag(None, dag_id)
    return get_bagged_dag([known.bundle_name], dag_id, dagfile_path=known.fileloc)


def _planned_run(args: Any, dag: Any) -> PlannedDagRun:
    """Plan what Airflow would make of a trigger by hand, its data interval included."""
    from airflow.serialization.serialized_objects import DagSerialization

    now = timezone.utcnow()
    date = timezone.coerce_datetime(now if args.logical_date is None else args.logical_date)
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    interval = timetable.infer_manual_data_interval(run_after=date)
    return PlannedDagRun(
        conf=_with_stack(args.stack, _parse_conf(args.conf)),
        logical_date=date,
        data_interval=(interval.start, interval.end),
        run_after=now,
        partition_key=args.partition,
    )


def _with_stack(stack: str | None, conf: dict[str, Any]) -> dict[str, Any]:
    """Ask for a stack as a run's configuration does."""
    return {**conf, "zen": {**zen_conf(conf), "stack": stack}} if stack else conf


def _parse_conf(text: str | None) -> dict[str, Any]:
    try:
        conf = json.loads(text or "{}")
    except ValueError as error:
        raise SystemExit(f"--conf takes a JSON object, got {text!r}: {error}") from error
    if not isinstance(conf, dict):
        raise SystemExit(f"--conf takes a JSON object, got {text!r}.")
    return conf
