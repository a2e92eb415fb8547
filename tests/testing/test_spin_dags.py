"""Promises of `airflow zen spin` for DAGs that Airflow knows: the code as it is now, and as it was recorded."""

import json
import sys
from argparse import Namespace

import pytest

from airflow_zen.cli.spin import spin_step
from airflow_zen.errors import SpinError
from airflow_zen.testing import spin
from tests.git import git
from tests.harness import run_dag

pytestmark = pytest.mark.airflow

DAG_FILE = """
from airflow.sdk import dag
from airflow_zen import ml_step
from spun_helpers import FACTOR

@ml_step
def load(rows: int) -> list:
    return list(range(rows))

@ml_step
def double(values: list, add: int = 0) -> list:
    return [value * FACTOR + add for value in values]

@dag(schedule=None)
def spun_from_file():
    double.partial(add=1).expand(values=[[1], [2]])
    double.override(task_id="one")(load(3))

spun_from_file()
"""


@pytest.fixture
def folder(root, airflow_db, tmp_path, monkeypatch):
    """A DAGs folder in a git repository, as a bundle that Airflow has parsed, and one recorded run of its DAG."""
    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    folder = tmp_path / "project" / "dags"
    folder.mkdir(parents=True)
    (folder / "pipeline.py").write_text(DAG_FILE)
    (folder / "spun_helpers.py").write_text("FACTOR = 2\n")
    git(folder.parent, "init", "--quiet")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "--quiet", "-m", "first")
    bundles = [
        {
            "name": "spun",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder)},
        }
    ]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    monkeypatch.syspath_prepend(folder)
    bag = DagBag(folder / "pipeline.py", bundle_path=folder)
    with create_session() as session:
        session.merge(DagBundleModel(name="spun"))
    sync_bag_to_db(bag, "spun", None)
    assert set(run_dag(bag.dags["spun_from_file"]).states.values()) == {"success"}
    sys.modules.pop("spun_helpers")
    yield folder
    sys.modules.pop("spun_helpers", None)


def test_runs_the_code_as_it_is_now_and_as_it_was(folder):
    """The DAG's file is parsed now, or taken with its modules from the recorded commit."""
    assert spin("spun_from_file", "one").output == [0, 2, 4]
    (folder / "spun_helpers.py").write_text("FACTOR = 30\n")
    sys.modules.pop("spun_helpers")
    now = spin("spun_from_file", "one")
    assert (now.output, now.same, now.same_key) == ([0, 30, 60], False, False)
    helpers = sys.modules["spun_helpers"]
    then = spin("spun_from_file", "one", as_recorded=True)
    assert (then.output, then.same, then.same_key) == ([0, 2, 4], True, True)
    assert sys.modules["spun_helpers"] is helpers


def test_a_mapped_task_of_a_file(folder):
    """The operator of a mapped task, which exists only while it runs, is made from its parts."""
    spun = spin("spun_from_file", "double", map_index=1)
    assert (spun.output, spun.same_key) == ([5], True)


def test_the_command_shows_what_differs(folder, capsys):
    """The command prints the key's changes and each output's diff; errors end it with their text."""
    options = {"run": None, "map_index": -1, "param": [], "as_recorded": False, "pdb": False, "stack": None}
    spin_step.func(Namespace(dag_id="spun_from_file", task_id="one", **options))
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("Replayed spun_from_file/manual__1/one/-1/1 in ")
    assert told[1:] == ["Cache key: as recorded", "Output output: as recorded"]
    spin_step.func(Namespace(dag_id="spun_from_file", task_id="one", **{**options, "param": ["add=2"]}))
    assert "Cache key: differs in parameter add\nOutput output differs\n" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="NAME=VALUE, got 'add'"):
        spin_step.func(Namespace(dag_id="spun_from_file", task_id="one", **{**options, "param": ["add"]}))
    with pytest.raises(SystemExit, match="map indexes 0, 1"):
        spin_step.func(Namespace(dag_id="spun_from_file", task_id="double", **options))


def test_code_that_is_not_kept_is_an_error(folder):
    """Where the recorded commit cannot be read, the error says so."""
    git(folder.parent, "commit", "--quiet", "--amend", "-m", "other")
    git(folder.parent, "reflog", "expire", "--expire=now", "--all")
    git(folder.parent, "gc", "--quiet", "--prune=now")
    with pytest.raises(SpinError, match="cannot be read from the git repository"):
        spin("spun_from_file", "one", as_recorded=True)
