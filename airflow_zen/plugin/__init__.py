"""What runs inside Airflow's own processes."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_zen.plugin import dag_runs


class ZenPlugin(AirflowPlugin):
    """Close a DAG run's lineage with its real end state."""

    name = "airflow_zen"
    listeners = [dag_runs]
