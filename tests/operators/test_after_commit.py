"""Promises about what follows the commit of a result: its failure is logged, and the task succeeds."""

from typing import Annotated

import pytest
from airflow.sdk import task

import airflow_zen
from airflow_zen import Artifact, ml_step
from airflow_zen.artifacts.named_artifacts import VersionIndex
from airflow_zen.caching.step_cache import KeyHistory, StepCache
from airflow_zen.config.settings import open_stack
from airflow_zen.lineage.recorder import NullRecorder
from airflow_zen.operators.links import MlflowRunLink
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRunId
from airflow_zen.steps.materialize import BackgroundPreviews
from tests.airflow_version import AIRFLOW_VERSION
from tests.harness import InMemorySupervisor, run_dag
from tests.operators.pipelines import pipeline

pytestmark = pytest.mark.usefixtures("root")


@ml_step
def features(rows: int) -> Annotated[list, Artifact("features")]:
    return list(range(rows))


def refuse(*_: object, **__: object) -> None:
    raise OSError("no space left on device")


@pytest.mark.parametrize(
    ("owner", "method", "warning"),
    [
        (StepCache, "put", "could not be remembered"),
        (KeyHistory, "add", "A later miss will not be explained"),
        (NullRecorder, "finish", "is sent later"),
        (NullRecorder, "on_record_stored", "is left on this host"),
        (StepRunRecords, "put", "could not be written"),
        (VersionIndex, "write", "has no new version"),
        (BackgroundPreviews, "_is_previewed", "have no previews"),
    ],
)
def test_a_full_disk_after_the_commit_is_a_warning(monkeypatch, caplog, owner, method, warning):
    """Whatever cannot be written after the outputs are stored, the task succeeds and passes them on."""
    monkeypatch.setattr(owner, method, refuse)
    run = run_dag(pipeline(lambda: features(3)))
    assert run.states == {"features": "success"}
    assert airflow_zen.load(run.xcom("features")) == [0, 1, 2]
    assert [record for record in caplog.records if warning in record.getMessage() and "no space" in record.getMessage()]


def test_a_broken_extra_of_an_event_is_a_warning(caplog):
    """Extras that user code replaced by something else are a warning, and the asset still gets its event."""

    @ml_step
    def careless(outlet_events) -> Annotated[int, Artifact("careless")]:
        outlet_events[Artifact("careless").asset].extra = None
        return 1

    run = run_dag(pipeline(careless))
    assert run.states == {"careless": "success"}
    assert [outlet.name for outlet in run.task("careless").outlets] == ["careless"]
    assert "The asset events of this task are incomplete: TypeError" in caplog.text


@pytest.mark.skipif(AIRFLOW_VERSION < (3, 3), reason="tasks have a state store from Airflow 3.3 on")
def test_an_unreachable_task_state_store_is_a_warning(monkeypatch, caplog):
    """A reused result that cannot be noted on the task instance is passed on all the same, and keeps its label."""

    def refuse_note(*_: object) -> None:
        raise ConnectionError("the API server restarts")

    monkeypatch.setattr(InMemorySupervisor, "_SetTaskStateStore", refuse_note, raising=False)
    for _ in range(2):
        run = run_dag(pipeline(lambda: features.expand(rows=[1])))
        assert run.states == {"features[0]": "success"}
    assert "the API server restarts" in caplog.text
    assert run.task("features", 0).label == "rows=1 (cached)"


def test_labels_in_templates_of_another_syntax():
    """A DAG whose templates are written in another syntax has the same labels."""
    options = {"jinja_environment_kwargs": {"variable_start_string": "<<", "variable_end_string": ">>"}}
    run = run_dag(pipeline(lambda: features.expand(rows=[1, 2]), **options))
    assert run.states == {"features[0]": "success", "features[1]": "success"}
    assert [task.label for task in run.tasks] == ["rows=1", "rows=2"]


@task
def bare() -> int:
    return 1


@pytest.mark.parametrize("native", [False, True], ids=["texts", "native"])
@pytest.mark.parametrize(
    ("template", "labels", "bare_states"),
    [
        ("{{ ti.map_index }}", ("0", "0"), ("success", "failed")),
        ("n{{ ti.map_index }}", ("n0", "n0"), ("success", "success")),
        ("{{ 1 / 0 }}", (None, None), ("failed", "failed")),
    ],
)
def test_a_label_of_the_users_own_fails_no_step(caplog, native, template, labels, bare_states):
    """A `map_index_template` that fails a plain task, because it renders to a number or an error, does not fail a step."""
    options = {"render_template_as_native_obj": native}
    if AIRFLOW_VERSION >= (3, 3):
        plain = bare.override(map_index_template=template)
        assert run_dag(pipeline(plain, **options)).states == {"bare": bare_states[native]}
    step = features.override(map_index_template=template)
    for run_id in ("computed", "cached"):
        run = run_dag(pipeline(lambda: step.expand(rows=[1]), **options), run_id=run_id)
        assert run.states == {"features[0]": "success"}
        assert run.task("features", 0).label == labels[native]
    assert ("The task has no label" in caplog.text) is (labels[native] is None)


def test_metadata_that_cannot_describe_itself_is_recorded_by_its_type():
    """A logged value whose repr raises an error is recorded by its type."""

    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError("no words")

    @ml_step
    def speak() -> int:
        airflow_zen.log_metadata({"who": Mute()})
        return 1

    assert run_dag(pipeline(speak)).states == {"speak": "success"}
    recorded = open_stack().records.get(StepRunId("d", "manual__1", "speak")).metadata
    assert "Mute object" in recorded[""]["who"]


@pytest.mark.server
def test_a_link_that_cannot_be_pushed_is_a_warning(monkeypatch, caplog, server):
    """A step whose link to MLflow cannot be pushed is computed, and reused, all the same."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    push = InMemorySupervisor._SetXCom

    def refuse_link(self: InMemorySupervisor, msg: object) -> object:
        if msg.key == MlflowRunLink().xcom_key:
            raise ConnectionError("the API server restarts")
        return push(self, msg)

    monkeypatch.setattr(InMemorySupervisor, "_SetXCom", refuse_link)
    for run_id in ("r1", "r2"):
        run = run_dag(pipeline(lambda: features(2), dag_id="unlinked"), run_id=run_id)
        assert run.states == {"features": "success"}
    assert run.xcom("features")["cached"] is True
    assert "has no link to its MLflow run yet" in caplog.text
