"""Promises of previews in MLflow: they are among the files of the run that made the artifact."""

import pytest

from airflow_zen.artifacts.folder import PreviewStore
from airflow_zen.lineage.mlflow.recorder import read_previews
from airflow_zen.lineage.mlflow.sync import deliver_pending
from airflow_zen.lineage.recorder import preview_files
from airflow_zen.runs.step_run import CacheState, StepState

PAGE = b"<!doctype html><p>a table</p>"


@pytest.fixture
def previews(transport):
    return PreviewStore(transport)


def files_of(client, run_id, folder="previews"):
    """List the files of a run in a folder, as MLflow's interface does."""
    found = []
    for item in client.list_artifacts(run_id, folder):
        found += files_of(client, run_id, item.path) if item.is_dir else [item.path]
    return found


def test_files_arrive_in_the_run(client, recorder, step, ended):
    """Files are listed and read through MLflow's own client, also when the run is closed."""
    run = step()
    opened = recorder.start(run)
    assert recorder.finish(ended(run), opened)
    assert recorder.attach_files(run, opened, {"previews/output/preview.html": PAGE})
    assert files_of(client, opened.run_id) == ["previews/output/preview.html"]
    path = client.download_artifacts(opened.run_id, "previews/output/preview.html")
    with open(path, "rb") as file:
        assert file.read() == PAGE


def test_undelivered_files_are_reported(new_recorder, step):
    """While MLflow is unavailable files are not delivered, and nothing is raised; no files count as delivered."""
    away = new_recorder("http://127.0.0.1:9")
    opened = away.start(step())
    assert not away.attach_files(step(), opened, {"previews/output/preview.html": PAGE})
    assert away.attach_files(step(), opened, {})


def test_previews_are_delivered_later(client, recorder, records, previews, step, ended, ref, dag_id):
    """A step that is delivered later has the previews that are in the store by then."""
    shown, hidden = ref(f"{dag_id}/t"), ref(f"{dag_id}/t.other")
    previews.put(shown.digest, {"preview.html": PAGE, "preview.png": b"\x89PNG"})
    records.put(ended(step(), outputs={"output": shown, "other": hidden}), delivered=False)
    assert deliver_pending(recorder, records).delivered
    experiment = client.get_experiment_by_name(f"airflow/{dag_id}").experiment_id
    (run,) = client.search_runs([experiment], "tags.`zen.kind` = 'step'")
    assert files_of(client, run.info.run_id) == ["previews/output/preview.html", "previews/output/preview.png"]


def test_a_hit_shows_what_it_reused(previews, step, ended, ref):
    """A hit has the previews of the outputs that it reused; a failed run has those of what it stored all the same."""
    output = ref("a")
    previews.put(output.digest, {"preview.html": PAGE})
    outputs = {"output": output}
    assert read_previews(ended(step(), state=StepState.FAILED, outputs={}), previews) == {}
    for state, cache in [
        (StepState.FINISHED, CacheState.MISS),
        (StepState.FINISHED, CacheState.HIT),
        (StepState.FAILED, CacheState.MISS),
    ]:
        run = ended(step(cache=cache), state=state, outputs=outputs)
        assert read_previews(run, previews) == {"previews/output/preview.html": PAGE}


def test_names_of_outputs_become_folders():
    """A folder name has only characters that every filesystem and URL accepts, and no two outputs share one."""
    files = {name: {"preview.md": b""} for name in ("train set", "train/set", "output[3]", "../..", "é")}
    folders = [path.split("/")[1] for path in preview_files(files)]
    assert folders == ["train-set", "train-set~1", "output-3", "output", "output~4"]
