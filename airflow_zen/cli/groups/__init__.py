"""What Airflow's command line is told of `airflow zen`: one file for each group of commands."""
