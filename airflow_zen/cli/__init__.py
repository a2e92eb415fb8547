"""Commands: the local stack, and what they are built from. Nothing here imports Airflow."""
