"""Promises of named artifacts as Airflow assets, and as arguments."""

import subprocess
import sys
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

import pandas as pd
import pytest
from airflow.sdk import DAG, Asset, dag, task

import airflow_zen
from airflow_zen import Artifact, Model, Output, ml_step
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import ArtifactNameError, ModelNameError, StepDefinitionError
from airflow_zen.operators.assets import normalize_uri
from airflow_zen.operators.ml_step import MLStepOperator
from airflow_zen.planning.plan import Plan, PlannedDagRun
from airflow_zen.runs.step_run import StepRunId
from tests.airflow_version import AIRFLOW_VERSION
from tests.calls import CALLS_FILE_VARIABLE, record_call, recorded_calls
from tests.harness import NOW, run_dag


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv(CALLS_FILE_VARIABLE, str(tmp_path / "calls"))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    (tmp_path / "stacks.yaml").write_text(f"stacks: {{b: {{artifact_root: {tmp_path}/b}}}}")


FEATURES = Artifact("flights/features")


@ml_step
def features(rows: int, salt: int = 0) -> Annotated[list, FEATURES]:
    return list(range(rows))


def kept(rows: int) -> Annotated[list, FEATURES]:
    return list(range(rows))


@ml_step
def split(rows: int, salt: int = 0) -> Output(
    train=Annotated[int, Artifact("train")], test=Annotated[int, Artifact("test")]
):
    return rows, rows + salt


@ml_step
def total(values: list) -> int:
    record_call("total")
    return sum(values)


@ml_step
def totals(groups: dict) -> int:
    return sum(len(values) for values in groups["all"])


def pipeline(build, dag_id="d", **options):
    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), **options)
    def d():
        build()

    return d()


def updated_assets(build, run_id, task_id, map_index=-1, **more):
    """Run a pipeline; return the names of the assets that a task has events for."""
    run = run_dag(pipeline(build), run_id=run_id, **more)
    return sorted(outlet.name for outlet in run.task(task_id, map_index).outlets)


def test_a_named_output_is_an_asset():
    """The asset of a named output is declared when the DAG is parsed, in addition to the user's own."""
    built = pipeline(lambda: ml_step(outlets=[Asset("s3://b/x"), FEATURES.asset])(features.function)(1))
    assert built.get_task("features").outlets == [Asset("s3://b/x"), FEATURES.asset]
    assert (FEATURES.asset.name, FEATURES.asset.uri) == ("flights/features", "zen://default/flights/features")
    assert pipeline(lambda: total([1])).get_task("total").outlets == []


def test_a_mapped_step_declares_its_assets():
    """A mapped step declares its asset in the DAG, following default_args and options."""
    built = pipeline(lambda: features.expand(rows=[1, 2]), default_args={"outlets": [Asset("s3://b/x")]})
    assert built.get_task("features").outlets == [Asset("s3://b/x"), FEATURES.asset]
    built = pipeline(lambda: features.partial(salt=1).expand_kwargs([{"rows": 1}]))
    assert built.get_task("features").outlets == [FEATURES.asset]


def test_an_event_describes_the_content():
    """The event of new content has its name, version, digest, shape and address."""
    run = run_dag(pipeline(lambda: features(3)))
    newest = open_stack().names.get("flights/features")
    assert run.task("features").events == {
        "flights/features": {
            "name": "flights/features",
            "version": newest.version,
            "digest": newest.ref.digest,
            "type": "builtins.list",
            "shape": newest.ref.shape,
            "size": newest.ref.size,
            "uri": newest.ref.uri,
        }
    }


@ml_step
def table(rows: int) -> Annotated[pd.DataFrame, Artifact("table")]:
    return pd.DataFrame({"a": range(rows)})


def test_an_event_tells_the_rows_of_a_table():
    """The event of a table has its rows, also where its content comes back from the cache."""
    rows = [run_dag(pipeline(lambda n=n: table(n)), run_id=f"r{at}").task("table") for at, n in enumerate((3, 4, 3))]
    assert [task.events["table"]["rows"] for task in rows] == [3, 4, 3]


def test_unchanged_content_has_no_event():
    """A step that is reused, or computes the same bytes again, has no event; new bytes have one."""
    assert updated_assets(lambda: features(1), "r1", "features") == ["flights/features"]
    assert updated_assets(lambda: features(1), "r2", "features") == []
    assert updated_assets(lambda: features(1, salt=1), "r3", "features") == []
    assert updated_assets(lambda: features(2), "r4", "features") == ["flights/features"]


@pytest.mark.skipif(AIRFLOW_VERSION < (3, 2), reason="DAG runs have partitions from Airflow 3.2 on")
def test_each_partition_has_an_event():
    """A partition's run has events of all outlets, also of reused and unchanged content: its consumers wait for them."""
    plain = Asset("s3://b/x")

    def build():
        ml_step(outlets=[plain])(features.function)(3)

    run_dag(pipeline(build), run_id="first")
    for day in ("2026-01-01", "2026-01-02"):
        assert updated_assets(build, day, "features", partition_key=day) == ["flights/features", "s3://b/x"]
    assert updated_assets(build, "last", "features") == []


def test_content_that_comes_back_has_an_event():
    """A step that reuses a result has an event when the name had other content in between."""
    for run_id, rows in (("r1", 1), ("r2", 2), ("r3", 1)):
        assert updated_assets(lambda rows=rows: features(rows), run_id, "features") == ["flights/features"]


def test_each_output_has_its_own_event():
    """Of several outputs, only those that changed have events."""
    assert updated_assets(lambda: split(1), "r1", "split") == ["test", "train"]
    assert updated_assets(lambda: split(1, salt=5), "r2", "split") == ["test"]


def test_instances_of_a_mapped_step_have_their_own_events():
    """A mapped instance has an event only when its own content changed."""
    assert updated_assets(lambda: features.expand(rows=[1, 2]), "r1", "features", 1) == ["flights/features"]
    assert updated_assets(lambda: features.expand(rows=[3, 2]), "r2", "features", 1) == []
    assert updated_assets(lambda: features.expand(rows=[4, 2]), "r3", "features", 0) == ["flights/features"]


def test_other_outlets_have_events_when_computed():
    """Outlets that the user declares have events when the step was computed, and not when it was reused."""

    def build(salt=0):
        ml_step(outlets=[Asset("s3://b/x")])(features.function)(1, salt)

    assert updated_assets(build, "r1", "features") == ["flights/features", "s3://b/x"]
    assert updated_assets(lambda: build(1), "r2", "features") == ["s3://b/x"]
    assert updated_assets(build, "r3", "features") == []


def test_stacks_have_assets_of_their_own():
    """A step that declares a stack has that stack's asset; a run in another stack gives it no event."""

    def build():
        ml_step(stack="b")(features.function)(1)

    assert updated_assets(build, "r1", "features") == ["b:flights/features"]
    assert FEATURES.asset_in("b").uri == "zen://b/flights/features"
    assert updated_assets(lambda: features(1), "r2", "features", conf={"zen": {"stack": "b"}}) == []
    assert updated_assets(lambda: features(1), "r3", "features", conf={"zen": {"stack": "default"}}) == [
        "flights/features"
    ]


def test_the_newest_version_is_an_argument():
    """`Artifact("…").latest()` passes the newest content, at any depth; a changed version has a different key."""
    run_dag(pipeline(lambda: features(3)))
    reads = pipeline(lambda: total(FEATURES.latest()), "reads")
    (first, again) = (run_dag(reads, run_id=run_id).xcom("total") for run_id in ("r1", "r2"))
    assert (airflow_zen.load(first), again["cached"]) == (3, True)
    record = open_stack().records.get(StepRunId("reads", "r1", "total"))
    assert record.inputs["values"].name == "flights/features"
    run_dag(pipeline(lambda: features(4)), run_id="later")
    assert airflow_zen.load(run_dag(reads, run_id="r3").xcom("total")) == 6
    assert recorded_calls() == ["total", "total"]
    older = FEATURES.version(record.inputs["values"].digest[:12])
    deep = run_dag(pipeline(lambda: totals({"all": [FEATURES.latest(), older]}), "deep"))
    assert airflow_zen.load(deep.xcom("totals")) == 7


def test_a_version_may_come_from_a_template():
    """The version may be a template, such as the run's own date."""
    run_dag(pipeline(lambda: features(3)))
    version = FEATURES.version("{{ dag_run.conf['when'] }}")
    run = run_dag(pipeline(lambda: total(version), "reads"), conf={"when": "2126-01-01"})
    assert airflow_zen.load(run.xcom("total")) == 3


def test_a_selected_artifact_is_an_inlet():
    """The asset of a selected artifact is an inlet of the step, mapped steps included."""
    built = pipeline(lambda: totals({"all": [FEATURES.latest()]}))
    assert built.get_task("totals").inlets == [FEATURES.asset]
    built = pipeline(lambda: total.expand(values=[FEATURES.latest(), Artifact("train").latest()]))
    assert built.get_task("total").inlets == [FEATURES.asset, Artifact("train").asset]


def test_a_missing_version_fails_the_step():
    """A step that selects a version that does not exist fails, and the error names it."""
    run = run_dag(pipeline(lambda: total(FEATURES.latest())))
    assert run.states == {"total": "failed"}
    assert "No artifact is named 'flights/features'" in str(run.task("total").error)


def test_plain_tasks_load_the_newest():
    """A plain task loads the version that `latest()` selects."""
    run_dag(pipeline(lambda: features(3)))

    @task
    def look(asked: dict) -> int:
        return len(airflow_zen.load(asked))

    assert run_dag(pipeline(lambda: look(FEATURES.latest()), "plain")).xcom("look") == 3


def test_a_plan_knows_the_newest():
    """`airflow zen plan` looks up the version, and reports when there is none."""
    reads = pipeline(lambda: total(FEATURES.latest()), "reads")

    def plan():
        run = PlannedDagRun({}, NOW, (NOW, NOW), NOW)
        ((decision, reason),) = [(str(step.decision), step.reason) for step in Plan(reads, run).steps()]
        return decision, reason

    assert plan() == (
        "unknown",
        "ArtifactNotFound: No artifact is named 'flights/features' here. See `airflow zen artifacts list`.",
    )
    run_dag(pipeline(lambda: features(3)))
    assert plan()[0] == "miss"
    run_dag(reads)
    assert plan()[0] == "hit"


def test_expanding_over_one_version_is_refused():
    """Expanding over one version is refused at parse: Airflow would map over its fields."""
    with pytest.raises(StepDefinitionError, match="a version of one artifact"):
        pipeline(lambda: total.expand(values=FEATURES.latest()))


def test_an_artifact_without_a_name_has_no_asset():
    """An `Artifact` that only chooses a materializer has no asset and no versions, and a `Model` without an alias no asset."""
    with pytest.raises(ArtifactNameError, match=r"no name to refer to\. Write Artifact\(\"features\"\)\."):
        Artifact().asset  # noqa: B018
    assert Artifact("features").asset.name == "features"
    with pytest.raises(ArtifactNameError, match="cannot be named"):
        Artifact("/x")
    with pytest.raises(
        ModelNameError, match=r"has no alias whose moves are events\. Write Model\('delay@champion'\)\.asset"
    ):
        Model("delay").asset  # noqa: B018
    assert Model("delay@champion").asset.uri


def test_annotations_need_no_airflow():
    """Names of outputs can be read, and versions selected, without Airflow."""
    code = (
        "import sys; sys.modules['airflow'] = None\n"
        "from typing import Annotated\n"
        "from airflow_zen import Artifact\n"
        "from airflow_zen.steps.outputs import declared_outputs\n"
        "def step() -> Annotated[int, Artifact('features')]: ...\n"
        "assert declared_outputs(step).artifact_names == {'output': 'features'}\n"
        "print(Artifact('features').latest()['version'])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "latest\n"


def test_addresses_have_one_form():
    """Airflow knows the scheme `zen`, and an address without a stack or a name is refused."""
    assert Asset(name="x", uri="zen://default/a%20b/").uri == "zen://default/a%20b"
    assert FEATURES.asset.normalized_uri == FEATURES.asset.uri
    for uri in ("zen://default", "zen:///x", "zen://default/x?y=1"):
        with pytest.raises(ValueError, match="has an address such as"):
            normalize_uri(urlsplit(uri))


def test_a_mapped_classic_operator_declares_its_asset_in_outlets():
    """`MLStepOperator.partial(outlets=…)` shows the asset at parse, and its instances have it once."""
    with DAG("mapped", schedule=None, start_date=datetime(2026, 1, 1)) as d:
        mapped = MLStepOperator.partial(task_id="kept", python_callable=kept, outlets=[FEATURES.asset])
        mapped.expand(op_args=[[1], [2]])
    declared = d.get_task("kept")
    instance = declared.unmap({"op_args": [1]})
    for outlets in (declared.partial_kwargs["outlets"], instance.outlets):
        assert [asset.name for asset in outlets] == ["flights/features"]
