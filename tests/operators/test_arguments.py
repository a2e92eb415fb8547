"""Promises of the arguments that Airflow gives to steps: templates, params and XCom."""

from dataclasses import dataclass
from datetime import date

import pandas as pd
import pytest
from airflow.sdk import task

import airflow_zen
from airflow_zen import ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRunId
from tests.harness import run_dag
from tests.operators.pipelines import frame, pipeline, total

pytestmark = pytest.mark.usefixtures("root")


@dataclass
class Search:
    depth: int
    rates: list[float]


@ml_step
def show(seed: int, day: date, search: Search, names: list[str], limit: int | None = None) -> str:
    return f"{seed + 1} {day.year} {search.depth + 1} {sum(search.rates)} {names} {limit}"


PARAMS = {"seed": 7, "search": {"depth": 3, "rates": [0.5, 1]}, "names": ["a", "b"], "limit": None}


@pytest.mark.parametrize("native", [False, True])
def test_templates_become_what_parameters_declare(native):
    """Params by template are the declared types, however the DAG renders templates, in the function and in the record."""

    def build():
        values = [f"{{{{ params.{name} }}}}" for name in ("search", "names", "limit")]
        show("{{ params.seed }}", "{{ ds }}", *values)

    run = run_dag(pipeline(build, params=PARAMS, render_template_as_native_obj=native))
    assert run.states == {"show": "success"}, run.tasks[0].error
    assert airflow_zen.load(run.xcom("show")) == "8 2026 4 1.5 ['a', 'b'] None"
    recorded = open_stack().records.get(StepRunId("d", "manual__1", "show")).parameters
    assert (recorded["seed"], recorded["names"], recorded["limit"]) == (7, ["a", "b"], None)


def test_a_number_and_its_text_are_one_cache_entry():
    """A step that was computed for a number is reused for the text of it."""
    run_dag(pipeline(lambda: frame(3)))
    again = run_dag(pipeline(lambda: frame("{{ params.rows }}"), params={"rows": 3}), run_id="r2")
    assert again.xcom("frame")["cached"] is True


def test_a_text_that_does_not_fit_fails_the_task_by_name():
    """A text that is no value of the declared type fails the task before the function is called, by the parameter's name.

    The step run is recorded as failed, with the reason.
    """
    run = run_dag(pipeline(lambda: frame("{{ ds }}")))
    assert run.states == {"frame": "failed"}
    assert "parameter 'rows' is declared int, got '2026-01-01'" in str(run.tasks[0].error)
    record = open_stack().records.get(StepRunId("d", "manual__1", "frame"))
    assert (record.state.name, record.error) == ("FAILED", f"InputError: {run.tasks[0].error}")


def test_an_artifact_in_a_template_is_refused_and_both_ways_out_work():
    """An artifact in a template is refused; passed as the step's output, or in a native DAG, it is the artifact."""
    template = "{{ ti.xcom_pull(task_ids='frame') }}"

    @ml_step
    def count(table: pd.DataFrame) -> int:
        return len(table)

    def by_template():
        frame(3) >> count(template)

    refused = run_dag(pipeline(by_template))
    assert refused.states == {"frame": "success", "count": "failed"}
    assert "parameter 'table' is declared DataFrame, got an artifact's ref as text" in str(refused.task("count").error)
    native = run_dag(pipeline(by_template, render_template_as_native_obj=True))
    direct = run_dag(pipeline(lambda: count(frame(3))))
    assert airflow_zen.load(native.xcom("count")) == airflow_zen.load(direct.xcom("count")) == 3


def test_nothing_from_upstream_is_refused_unless_it_is_allowed():
    """None of an upstream task is refused by the parameter's name, and allowed where None is declared or the default."""

    @task
    def nothing() -> None: ...

    @ml_step
    def strict(table: pd.DataFrame) -> int:
        return len(table)

    @ml_step
    def lenient(table: pd.DataFrame | None, other: pd.DataFrame = None) -> bool:
        return table is None and other is None

    run = run_dag(pipeline(lambda: strict(nothing())))
    assert "parameter 'table' is declared DataFrame, got None" in str(run.task("strict").error)
    assert airflow_zen.load(run_dag(pipeline(lambda: lenient(nothing(), nothing()))).xcom("lenient")) is True


def test_quotes_keep_a_text_in_a_native_dag():
    """In a native DAG a code of digits is refused as a str, and the advice, quotes in the template, keeps the text."""

    @ml_step
    def code_of(code: str) -> str:
        return code

    options = {"params": {"code": "0077"}, "render_template_as_native_obj": True}
    refused = run_dag(pipeline(lambda: code_of("{{ params.code | int }}"), **options))
    advice = "\"'{{ params.code }}'\""
    assert advice in str(refused.task("code_of").error)
    kept = run_dag(pipeline(lambda: code_of(advice.strip('"')), **options))
    assert airflow_zen.load(kept.xcom("code_of")) == "0077"


def test_texts_from_xcom_are_converted_inside_lists():
    """What a plain task returns is converted, also as elements of a list, and beside artifacts."""

    @task
    def rows() -> str:
        return "2"

    @ml_step
    def add(numbers: list[int], tables: dict[str, pd.DataFrame]) -> int:
        return sum(numbers) + sum(map(len, tables.values()))

    run = run_dag(pipeline(lambda: add([rows(), "3", total([frame(1)])], {"a": frame(rows())})))
    assert airflow_zen.load(run.xcom("add")) == 2 + 3 + 1 + 2
