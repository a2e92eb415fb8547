"""Keep what a step's code logs with MLflow while the server is away, and send it later."""

# While a step's function runs this names the server, and the relay that stands before it.
RELAY_VARIABLE = "AIRFLOW_ZEN_MLFLOW_RELAY"

# The step's run and experiment, and the process that the step runs in, as JSON.
STEP_VARIABLE = "AIRFLOW_ZEN_MLFLOW_STEP"
