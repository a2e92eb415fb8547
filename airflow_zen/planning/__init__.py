"""The plan of a DAG run that does not exist yet."""
