"""Keep what a step's code logs with MLflow while the server is away, and send it later."""

from __future__ import annotations

import json
import os

# While a step's function runs this names the server, and the relay that stands before it.
RELAY_VARIABLE = "AIRFLOW_ZEN_MLFLOW_RELAY"

# The step's run and experiment, and the process that the step runs in, as JSON.
STEP_VARIABLE = "AIRFLOW_ZEN_MLFLOW_STEP"


def mlflow_environment() -> dict[str, str]:
    """Return the variables with which MLflow in an environment without this package logs into the running step's run.

    For programs that a step starts: `subprocess.run(command, env={**os.environ, **mlflow_environment()})`. Their tracking
    URI is that of the step's relay, so that what they log is kept while the server is away, too. Empty outside a step, and
    where no MLflow server is set.
    """
    relay = os.environ.get(RELAY_VARIABLE, "").partition(" ")[2]
    if not relay:
        return {}
    run_id = json.loads(os.environ[STEP_VARIABLE])["run_id"]
    # Links to the relay would lead nowhere.
    quiet = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    return {"MLFLOW_TRACKING_URI": relay, "MLFLOW_RUN_ID": run_id, **quiet}
