"""Airflow connections, converted to the options of storage and MLflow."""
