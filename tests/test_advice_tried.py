"""Promises of errors that name what to write instead: written so, it works."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

import airflow_zen
from airflow_zen import Artifact, Check, Model, NotNull, ValidationReport
from airflow_zen.artifacts.ref import validate_artifact_name, validate_tag
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import ZenError
from airflow_zen.materializers.registry import default_registry
from airflow_zen.models.model import ModelSelector, validate_alias, validate_model_name
from airflow_zen.models.predict import predict_batches, predict_frame
from airflow_zen.pruning.retention import DAY, Retention, parse_duration
from airflow_zen.transports.base import normalize_root
from airflow_zen.validation.evaluation import evaluate_model
from airflow_zen.validation.validators import run_validator
from tests.advice import advice_of

FRAME = pd.DataFrame({"flight": ["a", "b", "c", "d"], "x": np.arange(4.0), "delay": [1.0, 2.0, 4.0, 3.0]})
LINE = LinearRegression().fit(FRAME[["x"]], FRAME["delay"])
NO_METHOD = SimpleNamespace(score_rows=lambda frame: frame["x"])


class Advice(NamedTuple):
    """What is refused, some words of what to do, and calls that do it, in each way that is offered."""

    refused: Callable[[], Any]
    words: str
    advised: tuple[Callable[[], Any], ...]


def evaluate(**options: Any) -> ValidationReport:
    return evaluate_model(LINE, FRAME, "delay", resamples=100, **options)


def largest_error(true: Any, predicted: Any) -> float:
    return -float(np.abs(true - predicted).max())


def saved(report: ValidationReport, folder: Any) -> Any:
    return default_registry().save(report, folder).summary


CASES = {
    "name of an artifact": Advice(
        lambda: validate_artifact_name("flights//features"),
        "Use words, separated by slashes: 'flights/features'",
        (lambda: validate_artifact_name("flights/features"),),
    ),
    "brackets in a name": Advice(
        lambda: Artifact("features[3]"), "Remove them", (lambda: Artifact("features3"), lambda: Artifact("features"))
    ),
    "tag": Advice(lambda: validate_tag(" "), "Use a word such as 'golden'", (lambda: validate_tag("golden"),)),
    "name of a model": Advice(
        lambda: validate_model_name("eu:delay"),
        "Write a name such as 'flight_delay'",
        (lambda: validate_model_name("flight_delay"),),
    ),
    "alias": Advice(
        lambda: validate_alias("v7"),
        r"Write a word .* such as 'champion'; .*version\(7\) and Model\('name'\)\.latest\(\)",
        (lambda: validate_alias("champion"), lambda: Model("name").version(7), lambda: Model("name").latest()),
    ),
    "version of a model": Advice(
        lambda: ModelSelector.parse("name"),
        "Write 'name@champion', 'name/7' or 'name/latest'",
        tuple(lambda text=text: ModelSelector.parse(text) for text in ("name@champion", "name/7", "name/latest")),
    ),
    "version of a version": Advice(
        lambda: Model("name@champion").version(7), "Pass it as it is", (lambda: Model("name@champion").selector,)
    ),
    "key that is a prediction": Advice(
        lambda: predict_frame(LINE, FRAME.assign(prediction=0), keys=["prediction"]),
        "Rename the key",
        (lambda: predict_frame(LINE, FRAME.assign(earlier=0), keys=["earlier"]),),
    ),
    "method of a model": Advice(
        lambda: predict_frame(NO_METHOD, FRAME),
        "Write method=function, with a function of the model and a frame",
        (lambda: predict_frame(NO_METHOD, FRAME, method=lambda model, frame: model.score_rows(frame)),),
    ),
    "table without a batch": Advice(
        lambda: [*predict_batches(LINE, iter([]))],
        "Return an empty table with columns",
        (lambda: [*predict_batches(LINE, iter([FRAME[:0]]))],),
    ),
    "duration": Advice(
        lambda: parse_duration("90"), "Write a number and one of s, m, h, d, w: '90d'", (lambda: parse_duration("90d"),)
    ),
    "age below the grace": Advice(
        lambda: Retention(older_than=DAY / 2),
        "set a longer age, or a shorter grace",
        (lambda: Retention(older_than=2 * DAY), lambda: Retention(older_than=DAY / 2, grace=DAY / 4)),
    ),
    "artifact root": Advice(
        lambda: normalize_root("s3:/bucket/zen"),
        "Write '://' after the scheme",
        (lambda: normalize_root("s3://bucket/zen"),),
    ),
    "threshold of no metric": Advice(
        lambda: evaluate(metrics=["rmse"], thresholds={"mae": 5.0}),
        r"Add it to metrics=",
        (lambda: evaluate(metrics=["rmse", "mae"], thresholds={"mae": 5.0}),),
    ),
    "no metrics": Advice(lambda: evaluate(metrics=[]), "Leave it out for the usual ones", (evaluate,)),
    "unknown metric": Advice(
        lambda: evaluate(metrics=["auc"]),
        "Choose one of these, or give a function of the true and the predicted values",
        (lambda: evaluate(metrics=["r2"]), lambda: evaluate(metrics=[largest_error])),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_the_error_says_works(name: str) -> None:
    """The error names the way out, and each call that is written so returns something."""
    case = CASES[name]
    with pytest.raises(ZenError, match=case.words):
        case.refused()
    for call in case.advised:
        assert call() is not None


def test_value_that_is_no_table_is_checked_by_a_function() -> None:
    """A value that is no table is a failed check; the function that its message names checks it."""
    (failed,) = run_validator(NotNull("x"), 3).failures
    assert "write a function that takes this value and returns a ValidationReport" in failed.message
    assert run_validator(lambda value: ValidationReport("mine", [Check(name="odd", passed=value % 2 == 1)]), 3).passed
    assert run_validator(NotNull("x"), FRAME).passed


def test_function_that_returns_no_report_returns_one() -> None:
    """A validator that returns something else is a failed check; one that returns a report is not."""
    (failed,) = run_validator(lambda table: True, FRAME).failures
    assert "Return an airflow_zen.ValidationReport" in failed.message
    assert run_validator(lambda table: airflow_zen.ValidationReport("mine"), FRAME).passed


def test_report_of_other_values_is_stored_as_text(tmp_path) -> None:
    """Statistics that are not JSON, and a file of a bad name, are refused; text, and a good name, are stored."""
    for refused, words, advised in (
        (
            ValidationReport("mine", statistics={"kinds": object()}),
            "Convert them to numbers or text",
            ValidationReport("mine", statistics={"kinds": "1, 2"}),
        ),
        (
            ValidationReport("mine", files={"a b.html": b""}),
            "Use letters, digits, '_', '-' and '.'",
            ValidationReport("mine", files={"a_b.html": b""}),
        ),
    ):
        (folder := tmp_path / str(len(words))).mkdir()
        with pytest.raises(ZenError, match=words):
            saved(refused, folder)
        assert saved(advised, folder)["shape"] == "passed, 0 checks"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The artifact root of the default stack, and Airflow's folder for `stacks.yaml` beside it."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


def test_facts_of_an_artifact_are_texts_numbers_lists_and_dicts(root) -> None:
    """Metadata that is not JSON is refused; what the error names is stored."""
    with pytest.raises(ZenError, match="Use texts, numbers, lists and dicts"):
        airflow_zen.save_artifact(1, "n", metadata={"seen": {1}})
    facts = {"text": "a", "number": 1.5, "list": [1], "dict": {"a": 1}}
    assert airflow_zen.save_artifact(1, "n", metadata=facts).metadata == facts


def test_data_is_registered_from_a_folder_of_its_own(root) -> None:
    """Data in a folder of this package, and an address without any, are refused; another folder, or a file, is registered."""
    for folder in ("cache/mine", "deployments/mine"):
        with pytest.raises(ZenError, match="Move the data to another folder"):
            airflow_zen.register_artifact(f"{root}/{folder}", "mine")
    with pytest.raises(ZenError, match="Use the address of a file, or of a folder"):
        airflow_zen.register_artifact(f"{root}/data/mine", "mine")
    (root / "data/mine").mkdir(parents=True)
    (root / "data/mine/a.txt").write_text("a")
    assert (airflow_zen.register_artifact(f"{root}/data/mine", "mine").load() / "a.txt").read_text() == "a"
    assert airflow_zen.register_artifact(f"{root}/data/mine/a.txt", "file").load().read_text() == "a"


def test_stack_that_the_error_says_to_define_is_found(root, tmp_path) -> None:
    """An unknown stack is refused with the file; defined there, it has artifacts of its own."""
    with pytest.raises(ZenError, match=f"Define it in '{tmp_path}/stacks.yaml'"):
        airflow_zen.save_artifact(1, "n", stack="prod")
    (tmp_path / "stacks.yaml").write_text(f"stacks: {{prod: {{artifact_root: {tmp_path}/prod}}}}")
    assert airflow_zen.save_artifact(1, "n", stack="prod").load() == 1
    assert not root.exists()


def test_type_of_a_loaded_value_is_the_type_itself(root) -> None:
    """A type as a text is refused, and the type is taken."""
    ref = airflow_zen.save_artifact(FRAME, "frame").ref
    with pytest.raises(ZenError, match="Pass the type itself"):
        airflow_zen.load(ref, "pandas.DataFrame")
    assert airflow_zen.load(ref, pd.DataFrame).equals(FRAME)


def test_artifact_of_another_root_is_read_with_its_stack(root, tmp_path, monkeypatch):
    """A ref of another artifact root is refused; with the stack that made it, or with that root, it is read."""
    ref = airflow_zen.save(1)
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "other"))
    (option,) = advice_of(
        lambda: airflow_zen.load(ref), r"Use the stack that made it, or set \[zen\] (artifact_root)\."
    )
    (tmp_path / "stacks.yaml").write_text(f"stacks: {{made: {{artifact_root: {root}}}}}")
    (call,) = advice_of(lambda: airflow_zen.load(ref), r"Load it with (airflow_zen\.load\(ref, stack='made'\))\.")
    assert eval(call, {"airflow_zen": airflow_zen, "ref": ref}) == 1
    (tmp_path / "stacks.yaml").unlink()
    monkeypatch.setenv(f"AIRFLOW__ZEN__{option.upper()}", str(root))
    assert airflow_zen.load(ref) == 1


def test_object_that_is_no_version_is_deleted(root):
    """A foreign object that is the newest of a name's versions is refused by its key; without it the next is stored."""
    airflow_zen.save_artifact(1, "n")
    transport = open_stack().store.transport
    (key,) = transport.list("names/n/versions")
    transport.write(f"{key.rpartition('/')[0]}/0.json", b"{}")
    (named,) = advice_of(
        lambda: airflow_zen.save_artifact(2, "n"), r"'(\S+)' is not a version of an artifact\. Delete the object\."
    )
    transport.delete([named])
    airflow_zen.save_artifact(2, "n")
    assert airflow_zen.artifact("n").load() == 2


def test_version_of_an_artifact_needs_no_mlflow(root, monkeypatch):
    """Without MLflow a registered model is refused; the version of an artifact that the error names is read."""
    for name in ("MLFLOW_TRACKING_URI", "AIRFLOW__ZEN__MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    airflow_zen.save_artifact(1, "name").tag("champion")
    (selected,) = advice_of(
        lambda: airflow_zen.load(Model("name@champion")),
        r"set \[zen\] mlflow_conn_id or mlflow_tracking_uri\. Versions of artifacts need none: (\S+)\.$",
    )
    assert airflow_zen.load(eval(selected, {"Artifact": Artifact})) == 1


def test_class_of_the_dag_folder_is_found_by_the_line(root, tmp_path, monkeypatch):
    """A value whose class is in a module beside the DAGs is refused in another process; after the line it is loaded."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "palette_of_dags.py").write_text("from enum import Enum\nclass Color(Enum):\n    RED = 1\n")
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path / "dags"))
    path = list(sys.path)
    monkeypatch.setattr(sys, "path", [*path, str(tmp_path / "dags")])
    ref = airflow_zen.save(importlib.import_module("palette_of_dags").Color.RED)
    sys.path[:] = path
    del sys.modules["palette_of_dags"]
    (line,) = advice_of(lambda: airflow_zen.load(ref), r"Airflow's DAG folder has it\. Run this line first: (.+)$")
    exec(line)
    assert airflow_zen.load(ref).name == "RED"
