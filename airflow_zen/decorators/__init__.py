"""Airflow task decorators of airflow_zen."""
