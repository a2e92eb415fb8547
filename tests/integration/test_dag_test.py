"""The same steps under `dag.test()`, with Airflow's own metadata database."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import pandas as pd
import pytest
from airflow.models.asset import AssetEvent, AssetModel
from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import Asset, Metadata, dag, task
from airflow.utils.session import create_session

import airflow_zen
from airflow_zen import Artifact, Each, Output, ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRunId


@ml_step
def numbers(upto: int) -> Output(even=list, odd=list):
    return [n for n in range(upto) if n % 2 == 0], [n for n in range(upto) if n % 2]


@ml_step
def add(values: list, start: int) -> int:
    return sum(values) + start


@ml_step
def largest(sums: list[int]) -> int:
    return max(sums)


@dag(dag_id="dag_test", schedule=None, start_date=datetime(2026, 1, 1))
def pipeline():
    even, odd = numbers(10)
    largest(add.partial(values=even).expand(start=[0, 100]))
    add.override(task_id="add_odd")(odd, 0)
    evens, _ = numbers.override(task_id="numbers_of_each").expand(upto=[5, 7])
    add.override(task_id="add_each").partial(start=0).expand(values=evens)


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))


def test_dag_test_runs_steps(run_dag_test):
    """`dag.test()` runs a pipeline of steps, mapped ones too, and leaves its artifacts and records."""
    run = run_dag_test(pipeline())
    assert run.state == "success"

    def result(task_id, map_index=-1):
        record = open_stack().records.get(StepRunId("dag_test", run.run_id, task_id, map_index))
        return airflow_zen.load(record.outputs["output"])

    assert (result("largest"), result("add_odd")) == (120, 25)
    assert [result("add_each", index) for index in (0, 1)] == [6, 12]


def test_dag_test_uses_the_cache_and_can_leave_it(run_dag_test):
    """A second `dag.test()` reuses everything, unless its conf says otherwise."""
    first, second = (run_dag_test(pipeline()) for _ in range(2))
    third = run_dag_test(pipeline(), run_conf={"zen": {"cache": False}})
    records = open_stack().records
    told = [{record.cache for record in records.read_dag_run("dag_test", run.run_id)} for run in (first, second, third)]
    assert told == [{"miss"}, {"hit"}, {"off"}]


@ml_step
def regions(names: list) -> Annotated[list[pd.DataFrame], Each]:
    return [pd.DataFrame({"region": [name] * len(name)}) for name in names]


@ml_step
def doubled(region: pd.DataFrame) -> Iterator[pd.DataFrame]:
    yield region
    yield region


@ml_step
def together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables)


@task
def digest_of(region: dict) -> str:
    return region["digest"]


@dag(dag_id="fan_out", schedule=None, start_date=datetime(2026, 1, 1))
def fan_out():
    found = regions(["ab", "c", "def"])
    digest_of.expand(region=found)
    together(doubled.expand(region=found))


def test_step_is_expanded_over_each_element_of_a_list(run_dag_test):
    """A list marked Each fans out to steps and plain tasks, and the steps' tables come back as one list; cached as well."""
    for cache in ("miss", "hit"):
        run = run_dag_test(fan_out())
        assert run.state == "success"
        tasks = sorted((ti.task_id, ti.map_index) for ti in run.get_task_instances())
        assert tasks[:6] == [(name, index) for name in ("digest_of", "doubled") for index in range(3)]
        record = open_stack().records.get(StepRunId("fan_out", run.run_id, "together"))
        assert record.cache == cache
        assert list(airflow_zen.load(record.outputs["output"])["region"]) == ["ab"] * 4 + ["c"] * 2 + ["def"] * 6
        made = open_stack().records.get(StepRunId("fan_out", run.run_id, "regions")).outputs
        assert [ref.name for ref in made.values()] == [f"fan_out/regions[{n}]" for n in range(3)]


@task
def skipped() -> int:
    raise AirflowSkipException


@ml_step
def grown(depth: int) -> int:
    return depth


@ml_step(trigger_rule="none_failed")
def grown_or_none(depth: int | None) -> int:
    return -1 if depth is None else depth


@dag(dag_id="skips", schedule=None, start_date=datetime(2026, 1, 1))
def skips():
    depth = skipped()
    grown(depth)
    grown_or_none(depth)
    grown.override(task_id="regardless", trigger_rule="none_failed")(depth)


def test_argument_of_a_skipped_task(run_dag_test):
    """None of a skipped task fails a step that runs regardless; `| None` takes it, and the usual trigger rule skips it."""
    run = run_dag_test(skips())
    states = {ti.task_id: ti.state for ti in run.get_task_instances()}
    assert states == {"skipped": "skipped", "grown": "skipped", "grown_or_none": "success", "regardless": "failed"}
    made = open_stack().records.get(StepRunId("skips", run.run_id, "grown_or_none")).outputs["output"]
    assert airflow_zen.load(made) == -1


@ml_step
def seeded(seed: int, extra: dict | None = None) -> int:
    return seed + len(extra or {})


@dag(
    dag_id="native", schedule=None, start_date=datetime(2026, 1, 1), render_template_as_native_obj=True, params={"n": 7}
)
def native():
    seeded.override(task_id="by_kwargs").expand_kwargs([{"seed": 1}, {"seed": "{{ params.n }}"}])
    seeded.override(task_id="by_value").expand(seed=[5, 6])
    seeded.override(task_id="by_dict").partial(seed="{{ params.n }}").expand(extra=[{"a": 1}, {"b": 2}])


def test_mapped_steps_succeed_with_native_templates(run_dag_test):
    """In a DAG that renders templates as Python values, mapped steps succeed, computed and cached, and have labels."""
    for cache in ("", " (cached)"):
        run = run_dag_test(native())
        labels = {(ti.task_id, ti.map_index): (ti.state, ti.rendered_map_index) for ti in run.get_task_instances()}
        assert set(labels.values()) == {("success", f"{name}{cache}") for name in ("0", "1", "seed=5", "seed=6")}
        made = open_stack().records.get(StepRunId("native", run.run_id, "by_dict", 1)).outputs["output"]
        assert airflow_zen.load(made) == 8


REPORT = Asset("s3://reports/latest")


@ml_step
def grid(upto: int) -> Annotated[list[dict], Each]:
    return [{"seed": seed, "extra": {"a": seed}} for seed in range(upto)]


@ml_step(outlets=[REPORT])
def report(values: list[int]) -> Annotated[pd.DataFrame, Artifact("report")]:
    yield Metadata(REPORT, {"total": sum(values)})
    yield Metadata(Artifact("report").asset, {"owner": "crm"})
    return pd.DataFrame({"value": values})


@dag(dag_id="search", schedule=None, start_date=datetime(2026, 1, 1))
def search():
    report(seeded.expand_kwargs(grid("{{ 2 + 1 }}")))


def test_a_step_maps_over_dicts_and_describes_its_events(run_dag_test):
    """In Airflow, a step is mapped over the dicts that a step returns, and yielded metadata is in the asset events."""
    run = run_dag_test(search())
    assert run.state == "success"
    made = open_stack().records.get(StepRunId("search", run.run_id, "report")).outputs["output"]
    assert list(airflow_zen.load(made)["value"]) == [1, 2, 3]
    mapped = open_stack().records.get(StepRunId("search", run.run_id, "seeded", 2))
    assert (mapped.inputs["kwargs"].name, mapped.parameters) == ("search/grid[2]", {"seed": 2, "extra": {"a": 2}})
    with create_session() as session:
        found = session.query(AssetModel.name, AssetEvent.extra).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        events = dict(found.filter(AssetEvent.source_run_id == run.run_id, AssetEvent.source_dag_id == "search").all())
    assert events[REPORT.name] == {"total": 6}
    own = events["report"]
    assert (own["owner"], own["name"], own["rows"], own["digest"]) == ("crm", "report", 3, made.digest)
    assert own["version"]
