"""The Airflow plugin, and the process that finalizes ended DAG runs, which does not load Airflow."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Import the plugin when Airflow loads it by its entry point."""
    if name != "ZenPlugin":
        raise AttributeError(f"module 'airflow_zen.plugin' has no attribute {name!r}")
    from airflow_zen.plugin.listener import ZenPlugin

    return ZenPlugin
