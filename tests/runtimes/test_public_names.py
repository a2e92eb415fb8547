"""Promises about this package's functions inside a step that runs elsewhere: they work on the step's own stack."""

import sys

import pytest

import airflow_zen
from airflow_zen import artifact, lineage, load
from airflow_zen.runtimes import Python

_HEADER = """
from pathlib import Path
from typing import Annotated
import airflow_zen
from airflow.sdk import dag
from airflow_zen import (
    Artifact, ArtifactRef, Cache, ClassificationEvaluation, Columns, CSVString, Each, HTMLString, JSONString, MarkdownString,
    Materializer, MLflowModel, NamedArtifact, Output, ZenError, log_metadata, ml_step, mlflow_environment, register_materializer,
)
"""

_ARTIFACTS = """
@ml_step
def made(value: int) -> Annotated[int, Artifact("numbers/first")]:
    return value

@ml_step
def uses(ref: ArtifactRef, folder: str) -> dict:
    log_metadata({"seen": 1})
    kept = airflow_zen.save({"a": 1}, "kept")
    mine = airflow_zen.save_artifact([1, 2], "numbers/second", tags=["golden"], metadata={"why": "a test"})
    mine.tag("best")
    plain = Path(folder, "data/plain.txt")
    plain.parent.mkdir()
    plain.write_text("text")
    found = airflow_zen.artifact("numbers/first")
    latest: NamedArtifact = airflow_zen.artifact("numbers/second", "golden")
    return {
        "ref": airflow_zen.load(ref), "latest": airflow_zen.load(Artifact("numbers/first").latest()),
        "kept": airflow_zen.load(kept), "version": latest.load(), "tags": sorted(latest.versions()[0].tags),
        "names": sorted(one.name for one in airflow_zen.artifacts("numbers/")),
        "registered": airflow_zen.register_artifact(str(plain), "files/plain").load(Path).name,
        "maker": [run.task_id for run in found.lineage().upstream], "same": found.diff(found).same,
        "environment": mlflow_environment(), "queries": len(airflow_zen.lineage.__all__),
    }

@dag(schedule=None)
def pipeline():
    uses(made(7), "FOLDER")
"""


def test_artifacts_by_ref_and_by_name(run_file, small, root):
    """What a step saves, finds, loads, tags, compares and registers is in the artifact root of the step."""
    run = run_file(_HEADER + _ARTIFACTS.replace("FOLDER", str(root)), small)
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    assert load(run.xcom("uses")) == {
        "ref": 7,
        "latest": 7,
        "kept": {"a": 1},
        "version": [1, 2],
        "tags": ["golden"],
        "names": ["numbers/first", "numbers/second"],
        "registered": "plain.txt",
        "maker": ["made"],
        "same": True,
        "environment": {},
        "queries": len(lineage.__all__),
    }
    assert artifact("numbers/second", "best").load() == [1, 2]


_LINEAGE = """
import os

@ml_step
def made(value: int) -> Annotated[int, Artifact("numbers/first")]:
    return value

@ml_step
def queries(value: int) -> dict:
    found = airflow_zen.artifact("numbers/first")
    makers = airflow_zen.lineage.runs_that_made(found.ref.digest, os.environ["MLFLOW_TRACKING_URI"])
    return {
        "makers": [run.task_id for run in makers], "upstream": [run.task_id for run in found.lineage().upstream],
        "environment": sorted(mlflow_environment()),
    }

@dag(schedule=None)
def pipeline():
    queries(made(7))
"""


def test_lineage_in_mlflow(run_small, server, monkeypatch):
    """Queries ask the tracking server of the step, also where MLflow is not installed, and programs can log into its run."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    run = run_small(_HEADER + _LINEAGE)
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    assert load(run.xcom("queries")) == {
        "makers": ["made"],
        "upstream": ["made"],
        "environment": ["MLFLOW_RUN_ID", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "MLFLOW_TRACKING_URI"],
    }


_EACH = """
import importlib.util

@ml_step
def each(value: int) -> list[str]:
    missing = []
    for name in airflow_zen.__all__:
        try:
            getattr(airflow_zen, name)
        except ImportError as error:
            missing.append(f"{name}: {error.name}")
    return missing

@dag(schedule=None)
def pipeline():
    each(1)
"""


def test_each_public_name(run_small):
    """Every public name can be imported without Airflow, but for those that define tasks."""
    run = run_small(_HEADER + _EACH)
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    modules = {name: module for name, module in airflow_zen._MODULES.items() if name not in ("Artifact", "Model")}
    of_airflow = ("airflow_zen.operators.", "airflow_zen.decorators.", "airflow_zen.sensors.")
    expected = sorted(f"{name}: airflow" for name, module in modules.items() if module.startswith(of_airflow))
    assert load(run.xcom("each")) == expected
    assert {"MLStepOperator: airflow", "ml_step: airflow"} <= set(expected)


_REFUSED = """
@ml_step
def refused(value: int) -> int:
    CALL
    return value

@dag(schedule=None)
def pipeline():
    refused(1)
"""
_OTHER_STACK = "reaches the artifact root of the step's own stack, and not stack 'prod' by its name. Leave stack= out"
_NEEDS_CONFIGURATION = (
    "does not have Airflow's configuration, which this needs. Do it in a task whose function runs in the"
)


@pytest.mark.parametrize("has_airflow", [False, True])
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("airflow_zen.artifact('numbers', stack='prod')", _OTHER_STACK),
        ("airflow_zen.save(1, stack='prod')", _OTHER_STACK),
        ("airflow_zen.prune()", _NEEDS_CONFIGURATION),
    ],
)
def test_what_needs_the_configuration_is_refused(run_file, small_python, call, reason, has_airflow):
    """Other stacks, and what needs the settings of the deployment, say what to do, also where Airflow is installed."""
    runtime = Python(sys.executable if has_airflow else small_python)
    error = run_file(_HEADER + _REFUSED.replace("CALL", call), runtime).tasks[-1].error
    assert (type(error).__name__, reason in str(error)) == ("SettingsError", True), error


@pytest.mark.parametrize("call", ["airflow_zen.MLStepOperator", "airflow_zen.ml_step"])
def test_what_defines_dags_is_refused(run_small, call):
    """The names that make a task need Airflow, as a note of the error says."""
    error = run_small(_HEADER + _REFUSED.replace("CALL", call)).tasks[-1].error
    assert isinstance(error, ModuleNotFoundError)
    assert "Airflow is not in Python(path=" in error.__notes__[0]


def test_a_ref_of_another_root_is_refused(run_small):
    """A ref that is outside the artifact root of the step is not read."""
    ref = "airflow_zen.load({**airflow_zen.save(1).to_wire(), 'uri': '/elsewhere/artifacts/ab/cd'})"
    error = run_small(_HEADER + _REFUSED.replace("CALL", ref)).tasks[-1].error
    assert type(error).__name__ == "ArtifactRefused"
    assert "outside the artifact root" in str(error)
