"""Airflow operators of airflow_zen."""
