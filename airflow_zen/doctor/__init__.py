"""Checks of an installation: Airflow, MLflow and the artifact store."""
