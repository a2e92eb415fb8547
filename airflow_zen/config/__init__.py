"""Settings of the deployment: airflow.cfg, connections and stacks.yaml."""
