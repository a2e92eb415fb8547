"""What runs inside Airflow's own processes."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_zen.plugin.listener import DagRunListener


class ZenPlugin(AirflowPlugin):
    """Show a DAG run's lineage, with its real end state, when it ends."""

    name = "airflow_zen"
    listeners = [DagRunListener()]
