"""A local stack: Airflow, MLflow and an object store as processes of this machine."""
