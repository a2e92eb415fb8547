"""MLflow's client inside a step while the server is away."""
