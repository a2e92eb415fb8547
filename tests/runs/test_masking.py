"""Promises of `airflow_zen.runs.step_run`: a secret parameter is never written."""

import json
from pathlib import Path

import pytest

from airflow_zen.runs.step_run import mask_secrets

SECRET = "hunter2"


@pytest.mark.parametrize("name", ["password", "db_password", "apiKey", "API_KEY", "hf_token", "client-secret"])
def test_secret_names(name):
    """A value is masked by its name, at the top level and in dicts and lists."""
    parameters = {name: SECRET, "options": [{"login": {name: SECRET}}]}
    assert mask_secrets(parameters) == {name: "***", "options": [{"login": {name: "***"}}]}


@pytest.mark.parametrize("name", ["max_tokens", "tokenizer", "token_count", "secretary", "key", "passwords_seen"])
def test_other_names_are_not_masked(name):
    """Similar names keep their values, and a missing secret stays None."""
    assert mask_secrets({name: 5, "token": None}) == {name: 5, "token": None}


@pytest.mark.server
def test_a_secret_is_in_no_record_and_not_in_mlflow(client, transport, recorder, records, step, ended):
    """The record, its marker, MLflow's parameters and the graph have the mask instead of the secret."""
    run = step(parameters={"api_key": SECRET, "lr": 0.1})
    opened = recorder.start(run)
    records.put(ended(run), recorder.finish(ended(run), opened))
    assert recorder.publish_graph(run.id.dag_id, run.id.run_id, records)
    assert records.get(run.id).parameters == {"api_key": "***", "lr": 0.1}
    assert client.get_run(opened.run_id).data.params == {"api_key": "***", "lr": "0.1"}
    parent = client.get_run(opened.run_id).data.tags["mlflow.parentRunId"]
    assert SECRET not in json.dumps(client.get_run(parent).data.tags)
    assert not [
        path for path in Path(transport.root).rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
