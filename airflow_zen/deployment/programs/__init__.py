"""Programs that run in the environments of servers, which have no Airflow."""
