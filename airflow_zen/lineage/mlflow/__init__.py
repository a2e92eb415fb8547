"""The projection of step run records into MLflow."""
