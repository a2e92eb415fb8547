import json
import sys
from datetime import datetime

import pytest
from airflow.sdk import dag

from airflow_zen import ml_step
from airflow_zen.ui.dag_responses import PlanPage
from airflow_zen.ui.plan_page import Planner
from tests.harness import run_dag


def test_lists_runs_with_their_totals(ran, answer):
    """The runs of a DAG come newest first, with what they reused."""
    dag_id = ran("r1", rates=(0.1,))
    ran("r2", rates=(0.1,))
    runs = answer(f"api/dags/{dag_id}/runs")["runs"]
    assert [(run["run_id"], run["totals"]["reused"], run["totals"]["computed"]) for run in runs] == [
        ("r2", 3, 0),
        ("r1", 0, 3),
    ]


def test_shows_versions_over_time(ran, answer):
    """Each name has its versions, oldest first, with rows, bytes, and the changes of its columns."""
    dag_id = ran("r1", rates=(0.1,))
    ran("r2", rates=(0.1,), rows=21, column="z")
    series = {each["name"]: each["points"] for each in answer(f"api/dags/{dag_id}/artifacts")["series"]}
    first, second = series[f"{dag_id}/load.train"]
    assert (first["rows"], second["rows"], second["producer"]["run_id"]) == (20, 21, "r2")
    assert second["changes"] == ["column 'x' was removed", "column 'z' is new (int64)"]


def test_keeps_what_earlier_runs_made(ran, answer, monkeypatch):
    """After a run that failed at its second step, the page has the names that only an earlier run gave, up to a number."""
    dag_id = ran("r1", rates=(0.1,))
    ran("r2", rates=(-1.0,), rows=21)
    page = answer(f"api/dags/{dag_id}/artifacts")
    names = [f"{dag_id}/{name}" for name in ("best", "load.test", "load.train")]
    assert [each["name"] for each in page["series"]] == names
    assert not page["more"]
    monkeypatch.setattr("airflow_zen.ui.dag_page._MAX_SERIES", 2)
    page = answer(f"api/dags/{dag_id}/artifacts")
    assert [each["name"] for each in page["series"]] == names[1:]
    assert page["more"]


@pytest.mark.server
def test_shows_what_the_makers_of_versions_logged(server, root, answer, monkeypatch):
    """A version has the metrics that the step which made it logged in MLflow."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)

    @ml_step
    def measure(value: float) -> list:
        import mlflow

        mlflow.log_metric("rmse", value)
        return [value]

    def pipeline(value):
        @dag(dag_id="logs_metrics", schedule=None, start_date=datetime(2026, 1, 1))
        def logs():
            measure(value)

        return logs()

    for number, value in enumerate((0.5, 0.25)):
        run_dag(pipeline(value), run_id=f"r{number}")
    (series,) = answer("api/dags/logs_metrics/artifacts")["series"]
    assert [point["metrics"]["rmse"] for point in series["points"]] == [0.5, 0.25]


def test_compares_two_runs(ran, answer, get):
    """Two runs are side by side by step, with the parameters and outputs that differ."""
    dag_id = ran("r1", rates=(0.1,))
    ran("r2", rates=(0.2,), rows=21)
    steps = {step["task_id"]: step for step in answer(f"api/dags/{dag_id}/compare", before="r1", after="r2")["steps"]}
    found = {each["subject"]: (each["before"], each["after"]) for each in steps["load"]["differences"]}
    assert found["parameter rows"] == (20, 21)
    assert not steps["load"]["same_outputs"]
    (logged,) = (each for each in steps["trial"]["differences"] if each["fact"] == "metadata loss")
    assert (logged["subject"], logged["before"], logged["after"]) == ("step", 0.9, 0.8)
    assert get(f"api/dags/{dag_id}/compare", before="r1", after="none").status_code == 404


@pytest.mark.parametrize("page", ["runs", "artifacts", "plan", "compare?before=a&after=b"])
def test_finds_no_page_of_a_dag_that_does_not_exist(page, ran, get):
    """A DAG that neither Airflow nor the store has is answered like one that the user may not see."""
    missing, hidden = get(f"api/dags/no_such_dag/{page}"), get(f"api/dags/{ran(rates=(0.1,))}/{page}", reads="another")
    assert (missing.status_code, missing.text) == (404, hidden.text)


def test_makes_plans_only_where_the_deployment_allows_it(ran, get, answer, monkeypatch):
    """A plan runs the DAG's code: it needs the right to read that, and `[zen] plan_page`, which is off by default."""
    dag_id = ran(rates=(0.1,))
    made = []
    monkeypatch.setattr(
        "airflow_zen.ui.dag_routes._planner.plan", lambda dag: made.append(dag) or PlanPage(dag_id=dag, steps=[])
    )
    assert "set it to True" in answer(f"api/dags/{dag_id}/plan", reads=dag_id)["error"]
    monkeypatch.setenv("AIRFLOW__ZEN__PLAN_PAGE", "True")
    assert get(f"api/dags/{dag_id}/plan", reads=f"{dag_id}/CODE").status_code == 404
    assert made == []
    assert answer(f"api/dags/{dag_id}/plan", reads=dag_id)["error"] == ""
    assert made == [dag_id]


def test_hides_why_there_is_no_plan(ran, answer, monkeypatch):
    """Why a plan failed may name what is of other DAGs: only who may read every DAG is told."""
    dag_id = ran(rates=(0.1,))
    reason = "There is no artifact 'secret/table'. Did you mean 'secret/tables'?"
    failed = PlanPage(dag_id=dag_id, steps=[], error=reason)
    monkeypatch.setattr("airflow_zen.ui.dag_routes._planner.plan", lambda _: failed)
    monkeypatch.setattr(
        "airflow_zen.ui.access.Access.may_read_every_dag", property(lambda user: user.may_read("secret"))
    )
    monkeypatch.setenv("AIRFLOW__ZEN__PLAN_PAGE", "True")
    told = answer(f"api/dags/{dag_id}/plan", reads=f"{dag_id},secret")["error"]
    hidden = answer(f"api/dags/{dag_id}/plan", reads=dag_id)["error"]
    assert told == reason
    assert "secret" not in hidden
    assert f"airflow zen plan {dag_id}" in hidden


def test_plans_in_a_process_of_its_own(airflow_db, root, tmp_path, monkeypatch):
    """The plan of a DAG file is made by Airflow's command, and kept, so that a second reader costs nothing."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "planned.py").write_text(
        "from datetime import datetime\nfrom airflow.sdk import dag\nfrom airflow_zen import ml_step\n"
        "@ml_step\ndef one() -> int:\n    return 1\n"
        "@dag(dag_id='planned', schedule=None, start_date=datetime(2026, 1, 1))\ndef planned():\n    one()\nplanned()\n"
    )
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path / "dags"))
    planner = Planner()
    page = planner.plan("planned")
    assert not page.error, page.error
    assert [(step.task_id, step.plan) for step in page.steps] == [("one", "miss")]
    assert planner.plan("planned") is page


def test_passes_on_the_warning_of_a_plan():
    """A step whose last peak of memory was near its limit has the warning of `airflow zen plan` on the page."""
    row = {"task": "fit[0]", "plan": "miss", "why": "new", "seconds": 1.5, "bytes": None, "warning": "its last peak"}
    page = Planner((sys.executable, "-c", f"print({json.dumps([row])!r})")).plan("a")
    assert [(step.task_id, step.seconds, step.warning) for step in page.steps] == [("fit[0]", 1.5, "its last peak")]


def test_says_why_there_is_no_plan():
    """What the command says when it fails is on the page."""
    failing = Planner((sys.executable, "-c", "raise SystemExit('The DAG file is not on this host.')"))
    assert failing.plan("a").error == "The DAG file is not on this host."
    assert json.loads(failing.plan("a").model_dump_json())["steps"] == []
