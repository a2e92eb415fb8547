"""From Airflow connections to what the lower rooms understand."""
