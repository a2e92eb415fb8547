"""Promises of `airflow_zen.runs.redaction`: a secret is never recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from airflow_zen.runs.redaction import Redactor

SECRET = "hunter2"
REDACTOR = Redactor()


@pytest.mark.parametrize(
    "name",
    [
        "password", "db_password", "apiKey", "API_KEY", "hf_token", "client-secret", "tokens", "passwords",
        "X-Api-Key", "private-key", "AccountKey", "awsSecretAccessKey", "login.passwd", "Proxy-Authorization",
    ],
)  # fmt: skip
def test_secret_names(name):
    """A value is removed by its name, at the top level and in dicts and lists."""
    parameters = {name: SECRET, "options": [{"login": {name: SECRET}}]}
    assert REDACTOR.mapping(parameters) == {name: "***", "options": [{"login": {name: "***"}}]}


@pytest.mark.parametrize(
    "name", ["max_tokens", "tokenizer", "token_count", "secretary", "key", "passwords_seen", "tokens"]
)
def test_other_names(name):
    """Similar names and numbers of tokens keep their values, and a missing secret stays None."""
    assert REDACTOR.mapping({name: 5, "token": None}) == {name: 5, "token": None}


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("postgresql://zen:hunter2@db:5432/x", "postgresql://zen:***@db:5432/x"),
        ("mysql+pymysql://zen:hunter2@hunter2@db/x", "mysql+pymysql://zen:***@db/x"),
        ("cannot reach redis://:hunter2@cache/0: refused", "cannot reach redis://:***@cache/0: refused"),
        ("https://hunter2@github.com/a/b.git", "https://***@github.com/a/b.git"),
        ("https://store/x?sv=1&sig=hunter2&se=2", "https://store/x?sv=1&sig=***&se=2"),
        ("host=db user=zen password=hunter2 dbname=x", "host=db user=zen password=*** dbname=x"),
        ("Login(user='zen', password='hunter2 x')", "Login(user='zen', password=***)"),
        ("KeyError: {'user': 'zen', 'api_key': 'hunter2'}", "KeyError: {'user': 'zen', 'api_key': '***'}"),
        ('{"token": "hunter2", "a": 1}', '{"token": \'***\', "a": 1}'),
        ("401 for Authorization: Bearer hunter2", "401 for Authorization: ***"),
        ("DefaultEndpointsProtocol=https;AccountKey=hunter2;", "DefaultEndpointsProtocol=https;AccountKey=***;"),
    ],
)
def test_texts(text, recorded):
    """A secret inside a text is removed where it stands in a URL, an assignment, a dict or a header."""
    assert REDACTOR.text(text) == recorded
    assert REDACTOR.mapping({"texts": [text]}) == {"texts": [recorded]}


@pytest.mark.parametrize(
    "text", ["ValueError: depth=8 of 'a': 3", "max_tokens=100, url='http://mlflow:5000/'", "if token == other: 5"]
)
def test_other_texts(text):
    """A text without secrets stays as it is."""
    assert REDACTOR.text(text) == text


def test_what_the_deployment_knows():
    """A text loses what the deployment's function removes, and further names can be declared as secret."""
    redactor = Redactor(lambda text: text.replace(SECRET, "***"), ("pin",))
    assert redactor.mapping({"dsn": f"a {SECRET}", "card_pin_code": 7}) == {"dsn": "a ***", "card_pin_code": "***"}


@pytest.mark.server
def test_no_record_holds_a_secret(client, transport, recorder, records, step, ended):
    """A run that nobody masked is recorded without its secrets: in journal, record, marker, MLflow and the graph."""
    run = step(parameters={"api_key": SECRET, "lr": 0.1}, dag_run_parameters={"token": SECRET}, label=f"pwd={SECRET}")
    opened = recorder.start(run)
    failed = ended(
        run, error=f"no login with password={SECRET}", metadata={"": {"secret": SECRET}}, why=f"pwd={SECRET}"
    )
    journal = next(path for path in Path(transport.root).rglob("zen-step-*") if path.is_dir())
    assert SECRET not in (journal / "run.json").read_text()
    records.put(failed, recorder.finish(failed, opened))
    recorder.replay(failed)
    assert recorder.publish_graph(run.id.dag_id, run.id.run_id, records)
    assert records.get(run.id).parameters == {"api_key": "***", "lr": 0.1}
    assert client.get_run(opened.run_id).data.params == {"api_key": "***", "lr": "0.1"}
    parent = client.get_run(opened.run_id).data.tags["mlflow.parentRunId"]
    assert SECRET not in json.dumps([client.get_run(each).to_dictionary() for each in (parent, opened.run_id)])
    assert not [
        path for path in Path(transport.root).rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


def test_step_run(step):
    """A record loses the secrets of parameters, metadata and texts, and a second time changes nothing."""
    secrets = {"token": SECRET}
    texts = dict.fromkeys(("label", "why", "error"), f"pwd={SECRET} at https://{SECRET}@host: 'token': '{SECRET}'")
    run = replace(step(), parameters=secrets, dag_run_parameters=secrets, metadata={"": secrets}, **texts)
    redacted = REDACTOR.step_run(run)
    masked = {"token": "***"}
    assert (redacted.parameters, redacted.dag_run_parameters, redacted.metadata) == (masked, masked, {"": masked})
    assert {redacted.label, redacted.why, redacted.error} == {"pwd=*** at https://***@host: 'token': '***'"}
    assert REDACTOR.step_run(redacted) == redacted
