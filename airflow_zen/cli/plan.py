"""`airflow zen plan`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from airflow.sdk import timezone
from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.lineage.quantities import bytes_text, count_text, seconds_text
from airflow_zen.operators.choice import zen_conf
from airflow_zen.operators.foresight import FutureRun
from airflow_zen.operators.planning import Plan, PlannedStep, Verdict


@suppress_logs_and_warning
def plan(args: Any) -> None:
    """Print for each step of a DAG whether a run would reuse or compute it, and why; nothing is run."""
    from airflow.cli.simple_table import AirflowConsole

    dag = _dag(args.dag_id)
    steps = list(Plan(dag, _run(args, dag)).steps())
    if not steps:
        raise SystemExit(f"DAG {args.dag_id!r} has no step of @ml_step.")
    AirflowConsole().print_as(data=[_row(step, args.output) for step in steps], output=args.output)
    if args.output == "table":
        print(total(steps))


def total(steps: Iterable[PlannedStep]) -> str:
    """Sum a plan up in one line."""
    steps = list(steps)
    of = {verdict: [step for step in steps if step.verdict is verdict] for verdict in Verdict}
    saved = sum(step.seconds or 0 for step in of[Verdict.HIT])
    known = [step.seconds for step in of[Verdict.MISS] if step.seconds is not None]
    costs = f", about {seconds_text(sum(known))}" if known else ""
    parts = [f"{len(of[Verdict.HIT])} reused ({seconds_text(saved)} saved)", f"{len(of[Verdict.MISS])} computed{costs}"]
    if of[Verdict.UNKNOWN]:
        parts.append(f"{len(of[Verdict.UNKNOWN])} unknown until the run")
    return f"{count_text(len(steps), 'step')}: {', '.join(parts)}"


def _row(step: PlannedStep, output: str) -> dict[str, Any]:
    task = step.task_id if step.map_index < 0 else f"{step.task_id}[{step.map_index}]"
    if output in ("json", "yaml"):
        return {"task": task, "plan": step.verdict.value, "why": step.why, "seconds": step.seconds, "bytes": step.size}
    return {
        "task": task,
        "plan": step.verdict.value,
        "why": step.why,
        "takes": "" if step.seconds is None else seconds_text(step.seconds),
        "makes": "" if step.size is None else bytes_text(step.size),
    }


def _dag(dag_id: str) -> Any:
    """Parse the DAG's own file only, where Airflow knows it; else its bundles."""
    from airflow.models import DagModel
    from airflow.utils.cli import get_bagged_dag

    known = DagModel.get_current(dag_id)
    if known is None:
        return get_bagged_dag(None, dag_id)
    return get_bagged_dag([known.bundle_name], dag_id, dagfile_path=known.fileloc)


def _run(args: Any, dag: Any) -> FutureRun:
    """Plan what Airflow would make of a trigger by hand, its data interval included."""
    from airflow.serialization.serialized_objects import DagSerialization

    now = timezone.utcnow()
    date = timezone.coerce_datetime(now if args.logical_date is None else args.logical_date)
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    interval = timetable.infer_manual_data_interval(run_after=date)
    return FutureRun(
        conf=_in_stack(args.stack, _conf(args.conf)),
        logical_date=date,
        data_interval=(interval.start, interval.end),
        run_after=now,
        partition=args.partition,
    )


def _in_stack(stack: str | None, conf: dict[str, Any]) -> dict[str, Any]:
    """Ask for a stack as a run's configuration does."""
    return {**conf, "zen": {**zen_conf(conf), "stack": stack}} if stack else conf


def _conf(text: str | None) -> dict[str, Any]:
    try:
        conf = json.loads(text or "{}")
    except ValueError as error:
        raise SystemExit(f"--conf takes a JSON object, got {text!r}: {error}") from error
    if not isinstance(conf, dict):
        raise SystemExit(f"--conf takes a JSON object, got {text!r}.")
    return conf
