"""ML pipelines on Apache Airflow: typed artifacts, caching that is right, lineage in MLflow."""

__version__ = "0.1.0"
