"""The hook of Airflow connections to MLflow."""
