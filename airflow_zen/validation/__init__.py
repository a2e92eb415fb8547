"""Validation of data and models: reports, built-in checks, and validators of other libraries; nothing imports Airflow."""
