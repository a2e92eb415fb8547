"""Promises of `airflow_zen.steps.cache_key`."""

import hashlib

import pytest

from airflow_zen import Cache
from airflow_zen.errors import FingerprintError
from airflow_zen.steps.cache_key import external_fingerprints
from tests.caching.code.project import Project

FILES = {
    "dags/flow.py": "def step(): ...\n",
    "dags/sql/a.sql": "select 1",
    "dags/sql/b.sql": "select 2",
    "shared.txt": "s",
}


def named(folder, *patterns):
    """Return the ingredients of a project's files."""
    with Project(folder, FILES).imported("dags.flow") as flow:
        return external_fingerprints(Cache(files=patterns), flow.step, {})


def test_files_enter_by_relative_path_and_content(tmp_path):
    """Files are in the key by relative path and content, so two checkouts have the same key."""
    first, second = named(tmp_path / "one", "sql/*.sql"), named(tmp_path / "two", "sql/*.sql")
    assert first == second
    assert first == {
        "file sql/a.sql": hashlib.sha256(b"select 1").hexdigest(),
        "file sql/b.sql": hashlib.sha256(b"select 2").hexdigest(),
    }


def test_patterns_reach_below_and_above(tmp_path):
    """`**` matches folders below, `..` folders above the step's own; folders and `__pycache__` are skipped."""
    (tmp_path / "dags" / "__pycache__").mkdir(parents=True)
    (tmp_path / "dags" / "__pycache__" / "flow.cpython-311.pyc").write_bytes(b"compiled")
    assert list(named(tmp_path, "**/*")) == ["file flow.py", "file sql/a.sql", "file sql/b.sql"]
    assert list(named(tmp_path, "../*.txt")) == ["file ../shared.txt"]


def test_a_pattern_without_files_leaves_the_step_uncached(tmp_path):
    """A pattern that matches no file leaves the step uncached."""
    with pytest.raises(FingerprintError, match=r"'sql/\*\.csv' matches no file in"):
        named(tmp_path, "sql/*.csv")


def test_folders_and_last_stars_mean_all_below(tmp_path):
    """A final `**` matches the files below on every Python version; a folder is refused with the pattern to write."""
    assert list(named(tmp_path, "sql/**")) == ["file sql/a.sql", "file sql/b.sql"]
    with pytest.raises(FingerprintError, match=r"write 'sql/\*\*/\*'"):
        named(tmp_path, "sql")


@pytest.mark.parametrize("pattern", [".", "**.sql"])
def test_an_invalid_pattern_leaves_the_step_uncached(tmp_path, pattern):
    """An invalid pattern leaves the step uncached, and the reason has an example of a valid one."""
    with pytest.raises(FingerprintError, match=r"is not a pattern of files, such as 'sql/\*\.sql'"):
        named(tmp_path, pattern)


def test_files_need_a_step_in_a_file():
    """A function that was typed at a prompt is refused, because it has no folder."""
    scope: dict = {}
    exec("def step(): ...", scope)
    with pytest.raises(FingerprintError, match="defined in no file"):
        external_fingerprints(Cache(files=("a.sql",)), scope["step"], {})


def test_variables_enter_by_value():
    """A variable is in the key by the fingerprint of its value; unset and empty differ."""
    policy = Cache(env=("REGION",))
    found = [
        external_fingerprints(policy, named, env)["env REGION"]
        for env in ({"REGION": "eu"}, {"REGION": ""}, {}, {"REGION": "eu"})
    ]
    assert len(set(found)) == 3
    assert found[0] == found[3]
    assert "eu" not in found[0]
