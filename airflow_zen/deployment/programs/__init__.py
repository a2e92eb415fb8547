"""What runs in the environments of servers, which have no Airflow."""
