"""`airflow zen plan`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_DAG_ID, ARG_LOGICAL_DATE

from airflow_zen.cli.command import STACK_AND_OUTPUT, argument, command
from airflow_zen.cli.output import Cell, bytes_cell, is_machine_readable, print_rows, seconds_cell

if TYPE_CHECKING:
    from airflow_zen.planning.plan import PlannedDagRun
    from airflow_zen.planning.planned_step import PlannedStep

_CONF = argument("--conf", "The run's configuration, as JSON")
_PARTITION = argument("--partition", "The run's partition key")


@command("plan", ARG_DAG_ID, _CONF, _PARTITION, ARG_LOGICAL_DATE, *STACK_AND_OUTPUT)
def show_plan(args: Any) -> None:
    """Show what a run would reuse and what it would compute.

    For each step: hit, miss or unknown, the reason, the earlier duration and size, and a warning where its last peak of
    memory was near its limit. Nothing is run.
    """
    from airflow_zen.planning.plan import Plan, parse_dag
    from airflow_zen.planning.planned_step import plan_summary

    dag = parse_dag(args.dag_id)
    steps = list(Plan(dag, _planned_run(args, dag)).steps())
    if not steps:
        raise SystemExit(f"DAG {args.dag_id!r} has no step of @ml_step.")
    has_runtimes = any(step.runtime for step in steps)
    print_rows([_planned_row(step, args.output, has_runtimes) for step in steps], args.output)
    if args.output == "table":
        for runtime, environment in {step.runtime: step.environment for step in steps if step.runtime}.items():
            print(f"{runtime}: {describe_environment(environment)}")
        for step in steps:
            if step.warning:
                print(f"warning: {_task_name(step)}: {step.warning}")
        print(plan_summary([(step.decision, step.seconds) for step in steps]))


def describe_environment(environment: Mapping[str, str]) -> str:
    """Return what a runtime has in one line: `python 3.11, numpy 1.26.4, pandas 2.3.3`."""
    parts = (f"{label.removeprefix('distribution ')} {value}" for label, value in environment.items())
    return ", ".join(parts) or "unknown until the run"


def _planned_row(step: PlannedStep, output: str, has_runtimes: bool) -> dict[str, Any]:
    machine = is_machine_readable(output)
    environment = {"environment": Cell(dict(step.environment), "")} if machine else {}
    warning = {"warning": step.warning} if machine else {}
    where = {"runtime": step.runtime, **environment} if has_runtimes else {}
    return {
        "task": _task_name(step),
        "plan": step.decision.value,
        "why": step.reason,
        "seconds" if machine else "takes": seconds_cell(step.seconds),
        "bytes" if machine else "makes": bytes_cell(step.size),
        **where,
        **warning,
    }


def _task_name(step: PlannedStep) -> str:
    return step.task_id if step.map_index < 0 else f"{step.task_id}[{step.map_index}]"


def _planned_run(args: Any, dag: Any) -> PlannedDagRun:
    """Return the run that Airflow would make of a manual trigger, with its data interval."""
    from airflow.sdk import timezone
    from airflow.serialization import serialized_objects

    from airflow_zen.planning.plan import PlannedDagRun

    now = timezone.utcnow()
    date = timezone.coerce_datetime(now if args.logical_date is None else args.logical_date)
    # Airflow 3.1 has the same under another name.
    names = vars(serialized_objects)
    serialization: Any = names.get("DagSerialization") or names["SerializedDAG"]
    timetable = serialization.from_dict(serialization.to_dict(dag)).timetable
    interval = timetable.infer_manual_data_interval(run_after=date)
    return PlannedDagRun(
        conf=_read_conf(args.conf, args.stack),
        logical_date=date,
        data_interval=(interval.start, interval.end),
        run_after=now,
        partition_key=args.partition,
    )


def _read_conf(text: str | None, stack: str | None) -> dict[str, Any]:
    """Parse the run's configuration, and select a stack in it."""
    from airflow_zen.operators.stack_selection import zen_conf

    try:
        conf = json.loads(text or "{}")
    except ValueError as error:
        raise SystemExit(f"--conf takes a JSON object, got {text!r}: {error}") from error
    if not isinstance(conf, dict):
        raise SystemExit(f"--conf takes a JSON object, got {text!r}.")
    return {**conf, "zen": {**zen_conf(conf), "stack": stack}} if stack else conf
