"""Promises of errors on the options of stacks: what an error advises is written as it says, and works."""

import json

import pytest
from airflow.configuration import conf

import airflow_zen
from airflow_zen.config.options import active_stack_name, load_stacks_file, read_stacks, set_active_stack
from airflow_zen.config.settings import Settings, storage_options, tracking_server
from airflow_zen.runtimes import InProcess
from airflow_zen.steps.spec import STACK_VARIABLE
from tests.advice import advice_of
from tests.harness import run_dag
from tests.operators.pipelines import pipeline


def prune() -> str:
    return str(airflow_zen.prune())


PRODUCTION = "production: {artifact_root: s3://ml/production}"


@pytest.mark.parametrize(
    ("text", "corrected"),
    [
        (f"{{stacks: {{{PRODUCTION}}}}}", f"{{LINE, stacks: {{{PRODUCTION}}}}}"),
        (f"stacks: {{{PRODUCTION}}}\nactive: &name |\n  default\n", f"stacks: {{{PRODUCTION}}}\nLINE\n"),
    ],
)
def test_the_line_that_selects_a_stack(tmp_path, text, corrected):
    """A file whose layout allows no change is left alone; the line of the error, written there, selects the stack."""
    path = tmp_path / "stacks.yaml"
    path.write_text(text)
    (line,) = advice_of(
        lambda: set_active_stack(read_stacks(path), "production"),
        r"cannot be changed safely\. Write the line '(.+)' there\.",
    )
    assert path.read_text() == text
    path.write_text(corrected.replace("LINE", line))
    assert read_stacks(path).active == "production"


def test_the_option_that_selects_a_stack(tmp_path, monkeypatch):
    """Where the file cannot be replaced, the option that the error names selects the stack, in either place."""
    # Beside a name of this length there is no place for a new file.
    path = tmp_path / f"{'s' * 245}.yaml"
    path.write_text(f"stacks: {{{PRODUCTION}}}\n")
    monkeypatch.setenv("AIRFLOW__ZEN__STACKS_FILE", str(path))
    selected, variable, name = advice_of(
        lambda: set_active_stack(read_stacks(path), "production"), r"Set \[zen\] stack = (\w+) or (\w+)=(\w+) instead\."
    )
    monkeypatch.setenv(variable, name)
    assert active_stack_name(load_stacks_file()) == "production"
    monkeypatch.delenv(variable)
    assert active_stack_name(load_stacks_file()) == "default"
    conf.read_string(f"[zen]\nstack = {selected}\n")
    try:
        assert active_stack_name(load_stacks_file()) == "production"
    finally:
        conf.remove_option("zen", "stack")


@pytest.mark.parametrize(
    "option",
    ["password: hush", "mlflow_tracking_uri: 'http://ann:hush@mlflow'", "artifact_root: 's3://key:hush@host/b'"],
)
def test_secrets_are_in_connections(tmp_path, monkeypatch, option):
    """A file with a secret is refused; in the connections of the options that the error names, secrets are used."""
    path = tmp_path / "stacks.yaml"
    path.write_text(f"stacks: {{production: {{artifact_root: s3://ml, {option}}}}}")
    monkeypatch.setenv("AIRFLOW__ZEN__STACKS_FILE", str(path))
    store, mlflow = advice_of(
        lambda: Settings.read("production"), r"Put secrets into the connections that (\w+) and (\w+) name\."
    )
    path.write_text(f"stacks: {{production: {{artifact_root: s3://ml, {store}: store, {mlflow}: mlflow}}}}")
    for name, conn_type in (("STORE", "aws"), ("MLFLOW", "mlflow")):
        secret = {"conn_type": conn_type, "host": "host", "login": "ann", "password": f"hush {name}"}
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(secret))
    settings = Settings.read("production")
    assert storage_options(settings)["secret"] == "hush STORE"
    assert tracking_server(settings).password == "hush MLFLOW"


def test_another_name_for_a_stack(tmp_path):
    """A stack cannot have the name of that of airflow.cfg; it has another."""
    path = tmp_path / "stacks.yaml"
    path.write_text("stacks: {default: {artifact_root: s3://ml}}")
    advice_of(lambda: read_stacks(path), r"Give this one another name\.")
    path.write_text("stacks: {another: {artifact_root: s3://ml}}")
    assert [*read_stacks(path).stacks] == ["another"]


def test_stack_of_a_step_elsewhere(tmp_path, monkeypatch):
    """In the process of a step another stack has no name; without a name that of the step is used."""
    stack = {"root": str(tmp_path / "root"), "allow_pickle": False}
    monkeypatch.setenv(STACK_VARIABLE, json.dumps(stack))
    advice_of(
        lambda: airflow_zen.save(1, stack="prod"),
        r"Leave stack= out, or load the value in a task before the step and pass it as an argument\.",
    )
    assert airflow_zen.load(airflow_zen.save(1)) == 1
    (step,) = advice_of(
        airflow_zen.prune, r"Do it in a task whose function runs in the process of the task: @(ml_step\(.*\))\.$"
    )
    monkeypatch.delenv(STACK_VARIABLE)
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    tidy = eval(step, {"ml_step": airflow_zen.ml_step, "InProcess": InProcess})(prune)
    assert run_dag(pipeline(tidy)).states == {"prune": "success"}
