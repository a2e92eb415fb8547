"""The Airflow plugin of airflow_zen."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_zen.plugin.listener import DagRunListener


class ZenPlugin(AirflowPlugin):
    """Registers the listener that closes and draws DAG runs in MLflow."""

    name = "airflow_zen"
    listeners = [DagRunListener()]
