"""Promises of `promote`: a real MLflow, and Airflow's real task runner."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from airflow_zen import Better, Model, PromoteModelOperator, evaluate, load, ml_step, promote
from airflow_zen.config.model_selectors import open_registry
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import ModelNameError, StepDefinitionError
from airflow_zen.models.promotion import Promotions
from airflow_zen.runs.step_run import StepRunId
from tests.harness import run_dag
from tests.operators.pipelines import pipeline

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("root")]


def flights() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(300, 3)), columns=["x", "y", "noise"])
    return frame.assign(delay=2 * frame["x"] + frame["y"] + generator.normal(size=300))


@ml_step
def table() -> pd.DataFrame:
    return flights()


@pytest.fixture
def name(server, monkeypatch):
    """A registered model of the test's own, which is also the id of its DAG."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    return f"delay_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def champion(server, name):
    client = mlflow.MlflowClient(server.uri)
    return lambda: client.get_registered_model(name).aliases.get("champion")


def training(name, columns, **options):
    @ml_step(model=name)
    def fit(columns: list[str]) -> LinearRegression:
        frame = flights()
        return LinearRegression().fit(frame[columns], frame["delay"])

    def build():
        model, rows = fit(columns), table()
        promote(name, if_=[Better("rmse", by=0.01)], candidate=model, table=rows, target="delay", **options)

    return pipeline(build, dag_id=name)


def report_of(run, name):
    return load(run.xcom(f"promote_{name}_champion"))


def test_better_model_is_promoted_and_a_worse_one_is_not(name, champion):
    """The first version has nothing to beat; then only a gain moves the alias, and only a move is an event."""
    task, asset = f"promote_{name}_champion", f"models/{name}@champion"
    first = run_dag(training(name, ["noise"]), run_id="r1")
    assert set(first.states.values()) == {"success"}
    assert champion() == "1"
    assert first.task(task).events[asset]["version"] == "1"

    better = run_dag(training(name, ["x", "y"], why="more columns"), run_id="r2")
    assert champion() == "2"
    event = better.task(task).events[asset]
    assert (event["version"], event["previous"], event["model"], event["alias"]) == ("2", "1", name, "champion")
    report = report_of(better, name)
    assert report.passed
    assert report.check("better", "rmse").value > 0.01
    assert report.metrics["promotion.moved"] == 1.0

    worse = run_dag(training(name, ["x"]), run_id="r3")
    assert worse.states[task] == "success"
    assert champion() == "2"
    assert worse.task(task).events == {}
    assert [outlet for outlet in worse.task(task).outlets if outlet.name == asset] == []
    assert not report_of(worse, name).check("better", "rmse").passed

    again = run_dag(training(name, ["x", "y"]), run_id="r4")
    assert report_of(again, name).check("already_promoted").passed
    assert again.task(task).events == {}

    record = open_stack().records.get(StepRunId(name, "r2", task))
    assert record.inputs["candidate"].name == f"{name}/fit"
    assert record.inputs["current"].digest == first.xcom("fit")["digest"]
    assert record.selected == {"current": f"{name}@champion, version 1"}


KILLED_TASK = """
import os, signal, sys
from airflow_zen.models.registered_models import RegisteredModels
from tests.harness import run_dag
from tests.operators.test_promotion import training
move = RegisteredModels.set_alias
RegisteredModels.set_alias = lambda *alias: (move(*alias), os.kill(os.getpid(), signal.SIGKILL))
run_dag(training(sys.argv[1], ["x"]), run_id="r1")
"""


def test_repeated_try_of_a_killed_task_emits_the_event(name, champion):
    """A task that was killed after the alias moved emits the event in its next try, which compares nothing again."""
    task, asset = f"promote_{name}_champion", f"models/{name}@champion"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run([sys.executable, "-c", KILLED_TASK, name], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert champion() == "1"
    transport = open_stack().store.transport
    (lock,) = transport.list(f"models/{name}/lock")
    transport.delete([lock])
    retried = run_dag(training(name, ["x"]), run_id="r1", try_number=2)
    event = retried.task(task).events[asset]
    assert (event["version"], event["previous"]) == ("1", "")
    assert report_of(retried, name).check("already_promoted").passed
    (moved,) = Promotions(open_registry(Settings.read()), transport).history(name, "champion")
    assert (moved.state, moved.version) == ("moved", "1")


def test_mapped_promotion_moves_the_alias_with_one_event(name, champion):
    """Candidates of mapped promotions are compared one after the other, and each move is an event of the alias's asset."""
    run_dag(training(name, ["noise"]), run_id="r1")
    run_dag(training(name, ["x"], on_failure="warn"), run_id="r2")

    def build():
        candidates = [Model(name).version(number) for number in (1, 2)]
        PromoteModelOperator.partial(task_id="promote", name=name, on_failure="warn").expand(candidate=candidates)

    dag = pipeline(build, dag_id=f"{name}_mapped")
    assert [outlet.name for outlet in dag.get_task("promote").outlets] == [f"models/{name}@champion"]
    run = run_dag(dag)
    assert run.states == {"promote[0]": "success", "promote[1]": "success"}
    assert [run.task("promote", at).events[f"models/{name}@champion"]["version"] for at in (0, 1)] == ["1", "2"]
    assert champion() == "2"


def test_approval_is_of_the_candidate_that_was_shown(name, champion, server):
    """A candidate that has changed while a person was asked is refused."""
    first = run_dag(training(name, ["noise"]), run_id="r1")
    run_dag(training(name, ["x"], on_failure="warn"), run_id="r2")
    approval = {"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": "ada"}}

    def build(number):
        shown = first.xcom(f"promote_{name}_champion")
        options = {"approval": approval, "approved": shown, "on_failure": "warn"}
        PromoteModelOperator(task_id="promote", name=name, candidate=Model(name).version(number), **options)

    mlflow.MlflowClient(server.uri).delete_registered_model_alias(name, "champion")
    refused = load(run_dag(pipeline(lambda: build(2), dag_id=f"{name}_2")).xcom("promote"))
    assert not refused.check("approved_candidate").passed
    assert champion() is None
    assert load(run_dag(pipeline(lambda: build(1), dag_id=f"{name}_1")).xcom("promote")).check("approval").passed
    assert champion() == "1"


def test_names_that_airflow_does_not_take_make_valid_task_ids(server, monkeypatch):
    """A model whose name has spaces, brackets and quotes is promoted and read like any other."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    name = f"Verspätung (ada's) {uuid.uuid4().hex[:8]}"

    @ml_step(model=name)
    def fit() -> LinearRegression:
        return LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])

    run = run_dag(pipeline(lambda: promote(name, candidate=fit()), dag_id="odd_names"))
    assert set(run.states.values()) == {"success"}
    assert load(Model(f"{name}@champion")).coef_[0] == pytest.approx(1.0)


def test_stale_or_foreign_comparison_is_refused(name, champion):
    """A report about another model, or against another version than the alias has now, moves nothing."""
    for number, columns in enumerate((["noise"], ["x"], ["x", "y"])):
        run_dag(training(name, columns, on_failure="warn"), run_id=f"r{number}")
    assert champion() == "3"

    def build(candidate, baseline):
        rows = table()
        report = evaluate(candidate, rows, "delay", baseline=baseline, on_failure="warn")
        promote(name, if_=[report, Better("rmse")], candidate=Model(name).version(2), task_id="promote")

    stale = run_dag(pipeline(lambda: build(Model(name).version(2), Model(name).version(1)), dag_id=f"{name}_stale"))
    report = load(stale.xcom("promote"))
    assert report.check("better", "rmse").passed
    assert not report.check("compared_with_current").passed
    foreign = run_dag(pipeline(lambda: build(Model(name).version(3), Model(name).version(1)), dag_id=f"{name}_other"))
    assert not load(foreign.xcom("promote")).check("evaluated_candidate").passed
    assert champion() == "3"


def test_gain_that_nobody_measured_is_refused(name, champion):
    """Without a comparison with the present version a `Better` fails, and says how to get one."""
    run_dag(training(name, ["x"]), run_id="r1")
    run_dag(training(name, ["x", "y"]), run_id="r2", conf={"zen": {"cache": False}})

    def build():
        report = evaluate(Model(name).version(1), table(), "delay", on_failure="warn")
        promote(name, if_=[report, Better("rmse")], candidate=Model(name).version(1), task_id="promote")

    report = load(run_dag(pipeline(build, dag_id=f"{name}_alone")).xcom("promote"))
    assert "baseline=" in report.check("better", "rmse").message
    assert champion() == "2"


def test_model_that_was_not_registered_is_an_error(name):
    """A candidate that is no version of the model fails the task, with the way out."""

    @ml_step
    def fit() -> LinearRegression:
        return LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])

    run = run_dag(pipeline(lambda: promote(name, candidate=fit(), task_id="promote"), dag_id=name))
    assert f"@ml_step(model='{name}')" in str(run.task("promote").error)


def test_person_decides_what_has_passed_the_gates(name, champion):
    """With `approval` the gates are checked, a person is asked, and only an approval moves the alias; who, is kept."""
    run_dag(training(name, ["noise"]), run_id="r1")
    dag = training(name, ["x"], approval={"body": "Look at the report."})
    task = f"promote_{name}_champion"
    asked = dag.get_task(f"approve_{task}")
    assert type(asked).__name__ == "ApprovalOperator"
    assert (asked.subject, asked.body) == (f"Promote {name} to champion?", "Look at the report.")
    assert asked.upstream_task_ids == {f"check_{task}"}
    assert asked.downstream_task_ids == {task}

    def answered(option):
        answer = {"chosen_options": [option], "responded_by_user": {"id": "7", "name": "ada"}}

        @ml_step(model=name)
        def fit() -> LinearRegression:
            frame = flights()
            return LinearRegression().fit(frame[["x"]], frame["delay"])

        def build():
            PromoteModelOperator(task_id="promote", name=name, candidate=fit(), approval=answer, on_failure="warn")

        return run_dag(pipeline(build, dag_id=name), run_id=option)

    assert not load(answered("Reject").xcom("promote")).check("approval").passed
    assert champion() == "1"
    assert load(answered("Approve").xcom("promote")).passed
    assert champion() == "2"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "a/b"}, ModelNameError, "cannot be named"),
        ({"to": "latest"}, ModelNameError, "cannot be an alias"),
        ({"to": "challenger"}, StepDefinitionError, "needs a candidate"),
        ({"if_": [0.9]}, StepDefinitionError, "takes reports"),
        ({"candidate": LinearRegression()}, StepDefinitionError, "version\\(7\\)"),
        ({"candidate": [Model("delay").version(7)]}, StepDefinitionError, "takes one model"),
        ({"target": "delay"}, StepDefinitionError, "takes both"),
        ({"on_failure": "fial"}, TypeError, "'fial'"),
    ],
)
def test_wrong_arguments_fail_when_the_dag_is_parsed(arguments, error, message):
    """What cannot be promoted is refused where it is written."""
    with pytest.raises(error, match=message):
        pipeline(lambda: promote(**{"name": "delay", **arguments}))


def test_one_model_of_a_mapped_step_is_promoted():
    """The models of a mapped step are refused as a candidate; the output of a step that chooses one of them is taken."""

    @ml_step
    def fit(slope: float) -> LinearRegression:
        return LinearRegression().fit([[0.0], [1.0]], [0.0, slope])

    @ml_step(model="delay")
    def choose(models: list[LinearRegression]) -> LinearRegression:
        return models[0]

    def build(candidate):
        promote("delay", candidate=candidate(fit.expand(slope=[1.0, 2.0])))

    with pytest.raises(StepDefinitionError, match=r"Choose one in a step of its own, with @ml_step\(model='delay'\)"):
        pipeline(lambda: build(lambda models: models))
    assert "choose" in pipeline(lambda: build(choose)).task_ids


def test_wrong_gains_fail_when_they_are_written():
    """A gain is a number of at least 0 of a named metric."""
    for metric, by in (("", 0.1), ("rmse", -1), ("rmse", True), ("rmse", float("nan")), (3, 0.1)):
        with pytest.raises(StepDefinitionError, match="Better takes"):
            Better(metric, by=by)


def test_candidate_that_mlflow_missed_is_registered_first(name, champion, server, monkeypatch):
    """Where MLflow was away when the candidate was made, the promotion delivers that step run, and goes on."""

    @ml_step(model=name)
    def fit() -> LinearRegression:
        return LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])

    def dag():
        return pipeline(lambda: promote(name, candidate=fit(), task_id="promote"), dag_id=name)

    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    outage = run_dag(dag())
    assert outage.states["promote"] != "success"
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    assert run_dag(dag(), try_number=2, earlier=outage).states == {"fit": "success", "promote": "success"}
    assert champion() == "1"
