"""A DAG in a git bundle of Airflow's own provider: which version ran, and what a new commit computes anew."""

import importlib
import shutil
import sys

import pytest

from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRunId
from tests.git import git
from tests.harness import run_dag

_DAG = """
from datetime import datetime

from airflow.sdk import dag

import factors
from airflow_zen import ml_step

@ml_step
def numbers(rows: int) -> list:
    return [number * factors.factor() for number in range(rows)]

@ml_step
def total(values: list, start: int) -> int:
    return sum(values) + start

@dag(schedule=None, start_date=datetime(2026, 1, 1))
def in_git():
    total.partial(values=numbers(4)).expand(start=[0, 1])

DAG = in_git()
"""


@pytest.fixture
def repository(tmp_path):
    """A repository with a bare clone of it, which the bundle follows."""
    if not shutil.which("git"):
        pytest.skip("no git on the PATH")
    folder = tmp_path / "repository"
    (folder / "dags").mkdir(parents=True)
    (folder / "dags" / "in_git.py").write_text(_DAG)
    (folder / "dags" / "factors.py").write_text("def factor():\n    return 2\n")
    git(folder, "init", "-q", "-b", "main")
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "bare.git")
    return folder


@pytest.fixture
def run_commit(repository, tmp_path, root, monkeypatch):
    """Commit a file, and run the DAG as a task does: from the folder of that version of the bundle."""
    bundles = pytest.importorskip("airflow.providers.git.bundles.git")
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))

    def bundle(version=None):
        options = {"tracking_ref": "main", "repo_url": str(tmp_path / "bare.git"), "subdir": "dags"}
        found = bundles.GitDagBundle(name="repo", version=version, **options)
        found.initialize()
        return found

    def run(path, text):
        (repository / path).write_text(text)
        git(repository, "add", ".")
        git(repository, "commit", "-q", "-m", path)
        git(repository, "push", "-q", str(tmp_path / "bare.git"), "main")
        tracked = bundle()
        tracked.refresh()
        version = tracked.get_current_version()
        # Airflow 3.3 has a record for it.
        versioned = bundle(getattr(version, "version", version))
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(versioned.path))
            for name in ("in_git", "factors"):
                patch.delitem(sys.modules, name, raising=False)
            dag = importlib.import_module("in_git").DAG
            done = run_dag(dag, run_id=versioned.version, bundle=versioned)
        assert set(done.states.values()) == {"success"}
        record = open_stack().records.get(StepRunId("in_git", versioned.version, "numbers"))
        assert record.code_version == git(repository, "rev-parse", "HEAD")
        return record.cache

    return run


def test_a_commit_computes_what_it_changed(run_commit):
    """A step run names the commit; a commit that changes no code of a step reuses its result, another one does not."""
    assert run_commit("README.md", "one\n") == "miss"
    assert run_commit("README.md", "two\n") == "hit"
    assert run_commit("dags/in_git.py", f"# A comment\n{_DAG}") == "hit"
    assert run_commit("dags/factors.py", "def factor():\n    return 3\n") == "miss"
