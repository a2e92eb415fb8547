"""Promises of `airflow_zen.lineage.ancestry`: upstream and downstream of a named artifact, with a real MLflow."""

import pytest

from airflow_zen.artifacts.named_artifacts import VersionIndex
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.lineage.ancestry import find_relatives
from airflow_zen.runs.step_run import StepRun, StepRunId


@pytest.fixture
def names(root, transport):
    return VersionIndex(ArtifactStore(root, transport))


@pytest.mark.server
def test_readers_of_all_dags(names, records, recorder, rest, ended, ref, dag_id):
    """Downstream are the readers in MLflow, of any DAG, and those in records only; each once."""
    raw, table = ref(f"{dag_id}/load"), ref(f"{dag_id}/clean")

    def did(dag, task, started, inputs=(), outputs=(), sent=True):
        run = StepRun(StepRunId(dag, "r/1", task), started=started, inputs=dict(inputs))
        run = ended(run, outputs=dict(outputs))
        if sent:
            assert recorder.finish(run, recorder.start(run))
        records.put(run, sent)
        for each in run.outputs.values():
            names.add(each.name, each, started, origin=str(run.id), dag_run=f"{dag}/r/1")

    did(dag_id, "load", 1.0, (), {"o": raw})
    did(dag_id, "clean", 2.0, {"raw": raw}, {"o": table})
    did(dag_id, "train", 3.0, {"table": table})
    did(dag_id, "unsent", 4.0, {"table": table}, sent=False)
    did(f"other_{dag_id}", "report", 5.0, {"table": table})
    found = find_relatives(names.get(table.name), names, records, rest)
    assert [(run.task_id, run.dag_run_id) for run in found.upstream] == [("clean", "r/1"), ("load", "r/1")]
    below = [(run.dag_id, run.task_id, bool(run.run_id)) for run in found.downstream]
    assert below == [(f"other_{dag_id}", "report", True), (dag_id, "train", True), (dag_id, "unsent", False)]
    alone = find_relatives(names.get(table.name), names, records, None)
    assert sorted(run.task_id for run in alone.downstream) == ["train", "unsent"]


def test_a_step_run_id_round_trip():
    """A step run's id is parsed from its text, whatever slashes its run id contains."""
    for run_id in ("r", "manual__2026-01-01T00:00:00+00:00", "a/b/c"):
        run = StepRunId("dag", run_id, "group.task", 3, 2)
        assert StepRunId.parse(str(run)) == run
