"""Who writes the story: step run records in the store, and their projection into MLflow."""
