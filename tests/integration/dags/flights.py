"""The steps of the flight example, which learn from two weeks of flights with several numbers of trees."""

from __future__ import annotations

import importlib.util
import sys
from datetime import datetime
from pathlib import Path

from airflow.sdk import dag

_EXAMPLE = Path(__file__).resolve().parents[3] / "dags_examples" / "flight_delay.py"
_SPEC = importlib.util.spec_from_file_location("flight_delay", _EXAMPLE)
steps = sys.modules[_SPEC.name] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(steps)


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, render_template_as_native_obj=True)
def flights():
    parts = steps.split(steps.ingest(), test_from="2013-01-15")
    rate = "{{ dag_run.conf.get('learning_rate', 0.1) }}"
    steps.train.partial(table=steps.features(parts.train), learning_rate=rate).expand(max_iter=[2, 3, 4, 5])


flights()
