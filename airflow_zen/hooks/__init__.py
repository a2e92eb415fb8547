"""Airflow connections of MLflow."""
