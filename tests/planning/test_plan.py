"""Promises of `airflow_zen.planning.plan`."""

import sys
from datetime import UTC, datetime
from typing import Annotated

import pandas as pd
import pytest
from airflow.sdk import dag, task, task_group

from airflow_zen import Artifact, Cache, Materializer, Output, ml_step
from airflow_zen.cli.plan import describe_environment
from airflow_zen.planning.plan import Plan, PlannedDagRun
from airflow_zen.runtimes import Python
from tests.airflow_version import AIRFLOW_VERSION
from tests.calls import CALLS_FILE_VARIABLE, record_call, recorded_calls
from tests.harness import NOW, run_dag

FACTOR = 2
DAY = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv(CALLS_FILE_VARIABLE, str(tmp_path / "calls"))


@ml_step
def load(rows: int) -> Output(left=list, right=list):
    record_call("load")
    return list(range(rows)), list(range(rows))


@ml_step
def double(values: list) -> list:
    record_call("double")
    return [value * FACTOR for value in values]


@ml_step
def add(values: list) -> int:
    record_call("add")
    return sum(values)


@ml_step(cache=False)
def always(x: int) -> int:
    record_call("always")
    return x


def pipeline(build):
    @dag(dag_id="planned", schedule=None, start_date=DAY)
    def planned():
        build()

    return planned()


def plan(built, conf=None, partition=None, day=NOW):
    """Plan a run; return its steps by task."""
    run = PlannedDagRun(conf or {}, day, (day, day), day, partition)
    steps = Plan(built, run).steps()
    return {s.task_id if s.map_index < 0 else f"{s.task_id}[{s.map_index}]": s for s in steps}


def decisions(*args, **kwargs):
    return {name: str(step.decision) for name, step in plan(*args, **kwargs).items()}


def chain():
    left, _ = load(3)
    add(double(left))


def test_before_the_first_run_only_the_roots_are_known():
    """A step whose inputs do not exist yet is unknown, with the task it needs; nothing is run."""
    planned = plan(pipeline(chain))
    assert {name: str(step.decision) for name, step in planned.items()} == {
        "load": "miss",
        "double": "unknown",
        "add": "unknown",
    }
    assert planned["double"].reason == "needs the result of 'load'"
    assert planned["load"].reason == "no earlier result of this task is remembered"
    assert recorded_calls() == []


def test_the_plan_comes_true(monkeypatch):
    """A planned hit is a hit in the run, with origin, seconds and bytes; a change is named before the run."""
    run_dag(pipeline(chain), run_id="r1")
    planned = plan(pipeline(chain))
    assert {str(step.decision) for step in planned.values()} == {"hit"}
    assert planned["double"].reason == "planned/r1/double/-1/1"
    assert planned["double"].seconds > 0
    assert planned["double"].size > 0
    monkeypatch.setitem(globals(), "FACTOR", 3)
    planned = plan(pipeline(chain))
    assert {name: str(step.decision) for name, step in planned.items()} == {
        "load": "hit",
        "double": "miss",
        "add": "unknown",
    }
    assert planned["double"].reason == "constant FACTOR changed"
    assert planned["add"].seconds > 0
    run_dag(pipeline(chain), run_id="r2")
    assert recorded_calls() == ["load", "double", "add", "double", "add"]


def test_the_conf_of_the_run_is_applied():
    """The plan follows the `recompute` and `cache` of the run's conf."""
    built = pipeline(chain)
    run_dag(built, run_id="r1")
    assert decisions(built, {"zen": {"cache": False}}) == {"load": "miss", "double": "unknown", "add": "unknown"}
    assert decisions(built, {"zen": {"recompute": ["double"]}}) == {"load": "hit", "double": "miss", "add": "unknown"}


@pytest.mark.skipif(AIRFLOW_VERSION < (3, 3), reason="templates know a partition from Airflow 3.3 on")
def test_templates_are_rendered_as_the_run_will():
    """Templated arguments get the planned run's dates, conf and partition."""

    @ml_step
    def read(day: str, region: str, part: str) -> str:
        return day + region + part

    arguments = ("{{ ds }}", "{{ dag_run.conf.get('region') }}", "{{ partition_key }}")
    built = pipeline(lambda: read(*arguments))
    run_dag(built, run_id="r1", conf={"region": "eu"})
    assert decisions(built, {"region": "eu"}) == {"read": "hit"}
    for other in (
        {"conf": {"region": "us"}},
        {"conf": {"region": "eu"}, "partition": "p"},
        {"conf": {"region": "eu"}, "day": DAY.replace(day=2)},
    ):
        planned = plan(built, **other)["read"]
        assert (str(planned.decision), planned.reason.split("'")[0]) == ("miss", "parameter ")


def test_mapped_steps_are_planned_one_by_one(monkeypatch):
    """Each mapped instance is planned separately, also of a step mapped over it; a step that takes all needs all."""

    @ml_step
    def square(x: int) -> int:
        return x * x

    @ml_step
    def half(x: int) -> float:
        return x / 2

    def build(numbers):
        squares = square.expand(x=numbers)
        half.expand(x=squares)
        add(squares)

    run_dag(pipeline(lambda: build([1, 2])))
    assert decisions(pipeline(lambda: build([2, 3]))) == {
        "square[0]": "hit", "square[1]": "miss", "half[0]": "hit", "half[1]": "unknown", "add": "unknown",
    }  # fmt: skip
    assert set(decisions(pipeline(lambda: build([1, 2]))).values()) == {"hit"}


def test_what_only_the_run_knows_is_unknown():
    """Results of plain tasks, mapped groups and templates that fail leave a step unknown, with the reason."""

    @task
    def plain():
        return 3

    def build():
        @task_group
        def group(rows):
            load.override(task_id="grouped")(rows)

        load(plain())
        double.expand(values=plain.override(task_id="lists")())
        group.expand(rows=[1, 2])
        add("{{ no_such_thing.at_all }}")

    planned = plan(pipeline(build))
    assert {str(step.decision) for step in planned.values()} == {"unknown"}
    assert planned["load"].reason == "needs the result of 'plain'"
    assert planned["double"].reason == "how many there will be: needs the result of 'lists'"
    assert "mapped task group" in planned["group.grouped"].reason
    assert "no_such_thing" in planned["add"].reason


class CsvMaterializer(Materializer):
    encoding = "planned.csv@1"

    def save(self, value, directory):
        value.to_csv(directory / "table.csv", index=False)
        return {}

    def load(self, directory, encoding, wanted=None):
        return pd.read_csv(directory / "table.csv")


def test_artifacts_of_a_projects_own_materializer_are_planned():
    """A step that reads an artifact of a project's own materializer is planned as a hit."""
    csv = Annotated[pd.DataFrame, Artifact(materializer=CsvMaterializer)]

    @ml_step
    def make() -> csv:
        return pd.DataFrame({"a": [1]})

    @ml_step
    def size(table: csv) -> int:
        return len(table)

    built = pipeline(lambda: size(make()))
    run_dag(built, run_id="r1")
    assert decisions(built) == {"make": "hit", "size": "hit"}


def test_a_failing_cache_does_not_stop_the_plan():
    """A step whose cache look-up fails is planned as computed, and the others are planned as usual."""

    @ml_step(cache=Cache(files=("**.sql",)))
    def odd() -> int:
        return 1

    built = pipeline(lambda: (odd(), always(1)))
    run_dag(built, run_id="r1")
    assert decisions(built) == {"odd": "miss", "always": "miss"}


def test_nothing_to_map_over_is_no_result():
    """A step mapped over nothing, which Airflow skips, and its downstream step are not hits."""
    built = pipeline(lambda: add(add.override(task_id="none").expand(values=[])))
    assert decisions(built) == {"none": "unknown", "add": "unknown"}


def test_results_of_other_dags_are_unknown():
    """A template that pulls XCom of another DAG is unknown."""

    @ml_step
    def use(value: str) -> str:
        return value

    built = pipeline(lambda: (load(1), use("{{ ti.xcom_pull(task_ids='load', dag_id='other') }}")))
    run_dag(pipeline(lambda: load(1)), run_id="r1")
    planned = plan(built)["use"]
    assert (str(planned.decision), "other" in planned.reason) == ("unknown", True)


def test_steps_without_cache_are_planned_as_computed():
    """A step that is never cached is planned as computed, and its downstream step is unknown."""
    planned = decisions(pipeline(lambda: ml_step(cache=Cache(ttl=1))(double.function)([always(1)])))
    assert planned == {"always": "miss", "double": "unknown"}


@pytest.mark.airflow
@pytest.mark.usefixtures("airflow_db")
def test_variables_are_read_as_the_run_will_read_them():
    """A template that reads an Airflow Variable gets its present value; an unset Variable leaves the step unknown."""
    from airflow.models import Variable

    @ml_step
    def read(region: str) -> str:
        return region

    built = pipeline(lambda: (read("{{ var.value.planned_region }}"), read.override(task_id="same")("eu")))
    run_dag(pipeline(lambda: read.override(task_id="same")("eu")))
    planned = plan(built)
    assert (str(planned["read"].decision), "planned_region" in planned["read"].reason) == ("unknown", True)
    Variable.set("planned_region", "eu")
    try:
        assert decisions(built) == {"read": "hit", "same": "hit"}
    finally:
        Variable.delete("planned_region")


def test_shows_the_runtime_of_a_step_and_what_it_has():
    """A step in another runtime has its text and the distributions in its key, whether it is reused or not."""
    where = Python(sys.executable)
    built = pipeline(lambda: add.override(runtime=where)([1, 2]))
    for decision in ("miss", "hit"):
        step = plan(built)["add"]
        assert (str(step.decision), step.runtime) == (decision, repr(where))
        assert step.environment["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
        assert "distribution pandas" in step.environment
        assert {label.partition(" ")[0] for label in step.environment} == {"python", "distribution"}
        run_dag(built)
    assert describe_environment({"python": "3.11", "distribution numpy": "1.26.4"}) == "python 3.11, numpy 1.26.4"
    assert plan(pipeline(chain))["load"].runtime == ""
