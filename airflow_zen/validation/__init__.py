"""Validation of data and models: reports, built-in checks, and validators of other libraries, without Airflow."""
