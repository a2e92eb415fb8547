"""A timetable of one's own: a run for every second day."""

from __future__ import annotations

from datetime import timedelta

from airflow.plugins_manager import AirflowPlugin
from airflow.timetables.base import DagRunInfo, DataInterval, Timetable


class EveryOtherDay(Timetable):
    def infer_manual_data_interval(self, *, run_after):
        return DataInterval.exact(run_after)

    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        last = last_automated_data_interval
        start = last.start + timedelta(days=2) if last else restriction.earliest
        ended = start is None or (restriction.latest is not None and start > restriction.latest)
        return None if ended else DagRunInfo.interval(start, start + timedelta(days=1))


class Timetables(AirflowPlugin):
    name = "every_other_day"
    timetables = [EveryOtherDay]  # noqa: RUF012
