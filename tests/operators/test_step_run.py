"""Promises of `airflow_zen.operators.step_run`: a run names the source it ran, without git's help."""

import shutil
from types import SimpleNamespace

import pytest

from airflow_zen.operators.step_run import checked_out_commit, code_version
from tests.git import git


@pytest.fixture
def repository(tmp_path):
    if not shutil.which("git"):
        pytest.skip("no git on the PATH")
    folder = tmp_path / "repository"
    (folder / "dags").mkdir(parents=True)
    (folder / "dags" / "d.py").write_text("x = 1\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return folder


@pytest.mark.parametrize("form", ["branch", "packed", "detached", "worktree", "packed worktree"])
def test_the_commit_is_what_git_says(repository, tmp_path, form):
    """On a branch, detached, packed, and in a linked worktree the commit is the one that git returns."""
    folder = repository
    if "packed" in form:
        git(repository, "pack-refs", "--all")
    if form == "detached":
        git(repository, "checkout", "-q", "--detach")
    if "worktree" in form:
        folder = tmp_path / "linked"
        git(repository, "worktree", "add", "-q", "-b", "other", str(folder))
    if form == "packed worktree":
        git(repository, "pack-refs", "--all")
    assert checked_out_commit(folder / "dags" / "d.py") == git(folder, "rev-parse", "HEAD") != ""


def test_outside_a_repository(tmp_path):
    """Outside of a repository there is no commit, and a broken repository is no error."""
    assert checked_out_commit(tmp_path / "d.py") == ""
    (tmp_path / ".git").write_text("gitdir: /no/such/folder")
    assert code_version(None, SimpleNamespace(__code__=SimpleNamespace(co_filename=str(tmp_path / "d.py")))) == ""


def test_the_bundles_version_comes_first():
    """The version of the DAG bundle takes precedence over the commit."""
    assert code_version(SimpleNamespace(version="v7"), test_outside_a_repository) == "v7"
