"""Pages inside Airflow: the application behind them, what it answers, and who may see it."""
