"""Totals of DAG runs: reused and computed steps, and the seconds saved, from their step run records."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress

import msgspec
from msgspec.structs import asdict

from airflow_zen.errors import ArtifactNotFound
from airflow_zen.markup import format_seconds
from airflow_zen.runs.records import list_step_records, newest_record_time
from airflow_zen.runs.step_run import StepRun, StepState
from airflow_zen.transports.base import Transport, map_in_parallel, quote_key_part


class RunTotals(msgspec.Struct, frozen=True):
    """Totals of one DAG run, or of several: steps by how they ended, and seconds computed and saved.

    `ended` is the end of the latest step in seconds since the epoch. `runs` counts DAG runs, `runs_reused` those
    without a computed step.
    """

    dag_id: str
    run_id: str = ""
    ended: float = 0.0
    runs: int = 0
    runs_reused: int = 0
    reused: int = 0
    computed: int = 0
    failed: int = 0
    seconds_computed: float = 0.0
    seconds_saved: float = 0.0

    @property
    def steps(self) -> int:
        """The number of steps, however they ended."""
        return self.reused + self.computed + self.failed


def last_tries(runs: Iterable[StepRun]) -> Collection[StepRun]:
    """Return the last try of each task, or of each of its mapped instances."""
    in_order = sorted(runs, key=lambda run: run.id.try_number)
    return {(run.id.task_id, run.id.map_index): run for run in in_order}.values()


def totals_of_dag_run(dag_id: str, run_id: str, records: Iterable[StepRun]) -> RunTotals:
    """Return the totals of one DAG run; of the tries of a task the last one counts."""
    last = last_tries(records)
    reused = [run for run in last if run.is_hit]
    computed = [run for run in last if not run.is_hit and run.state is StepState.FINISHED]
    return RunTotals(
        dag_id,
        run_id,
        ended=max((run.end_time for run in last), default=0.0),
        runs=1,
        runs_reused=int(bool(reused) and len(reused) == len(last)),
        reused=len(reused),
        computed=len(computed),
        failed=len(last) - len(reused) - len(computed),
        seconds_computed=sum(run.end_time - run.started for run in computed),
        seconds_saved=sum(run.seconds_saved for run in reused),
    )


def sum_totals(totals: Iterable[RunTotals]) -> RunTotals:
    """Return the sum of several totals; without a DAG's name where they are of different DAGs."""
    totals = list(totals)
    names = {each.dag_id for each in totals}
    summed = RunTotals.__struct_fields__[RunTotals.__struct_fields__.index("runs") :]
    return RunTotals(
        names.pop() if len(names) == 1 else "",
        ended=max((each.ended for each in totals), default=0.0),
        **{name: sum(getattr(each, name) for each in totals) for name in summed},
    )


def savings_summary(totals: Iterable[RunTotals], noun: str) -> str:
    """Return how many DAG runs were reused as a whole: `365 partitions: 351 reused, 14 run, 6.2 h saved`."""
    total = sum_totals(totals)
    return (
        f"{total.runs} {noun}: {total.runs_reused} reused, {total.runs - total.runs_reused} run, "
        f"{format_seconds(total.seconds_saved)} saved"
    )


class RunTotalsReader:
    """Read the totals of the DAG runs in the artifact root.

    The totals of a run are stored beside its records, as `runs/<dag>/<run>/totals.json`, with the number of records
    that they were computed from. While that number stays the same, a run costs one request however many steps it has.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def read(
        self, dag_id: str | None = None, run_ids: Collection[str] | None = None, limit: int | None = None
    ) -> Iterator[RunTotals]:
        """Yield the totals of each run of one DAG, or of all; with `run_ids`, of those runs only.

        limit: only that many runs, those with the newest records.
        """
        wanted = None if run_ids is None else {quote_key_part(run_id) for run_id in run_ids}
        runs = list_step_records(self._transport, dag_id).values()
        found = [run for run in runs if wanted is None or run[0].key.split("/")[2] in wanted]
        if limit is not None:
            found = sorted(found, key=newest_record_time, reverse=True)[:limit]
        return map_in_parallel(self._totals_of_run, ([each.key for each in run] for run in found))

    def _totals_of_run(self, keys: list[str]) -> RunTotals:
        key = f"{keys[0].partition('/steps/')[0]}/totals.json"
        with suppress(ArtifactNotFound, ValueError, KeyError, TypeError):
            known = json.loads(self._transport.read(key))
            if known.pop("records") == len(keys):
                return RunTotals(**known)
        records = [StepRun.from_json(json.loads(self._transport.read(key))) for key in keys]
        totals = totals_of_dag_run(records[0].id.dag_id, records[0].id.run_id, records)
        # A user without permission to write still gets the totals.
        with suppress(Exception):
            self._transport.write(key, json.dumps({"records": len(keys), **asdict(totals)}, indent=1).encode())
        return totals
