"""The installed version of Airflow, and what has another name in an earlier one."""

from importlib.metadata import version

from airflow.serialization import serialized_objects

AIRFLOW_VERSION = tuple(int(part) for part in version("apache-airflow-core").split(".")[:2])

DagSerialization = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG
