"""Promises of named artifacts in notebooks: `airflow_zen.artifact` and its like."""

import math
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Annotated

import pandas as pd
import polars as pl
import pytest
from airflow.sdk import dag

import airflow_zen
from airflow_zen import Artifact, Each, Output, ml_step
from airflow_zen.artifacts.diff import FieldChange
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import (
    ArtifactNameError,
    ArtifactNotFound,
    ArtifactRefused,
    InputError,
    MaterializerNotFound,
    MetadataError,
)
from tests.harness import run_dag


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    (tmp_path / "stacks.yaml").write_text(f"stacks: {{b: {{artifact_root: {tmp_path}/b}}}}")


def table(n, **more):
    return pd.DataFrame({"a": range(n), "b": [float(i) for i in range(n)], **more})


@ml_step
def load(n: int) -> Annotated[pd.DataFrame, Artifact("raw")]:
    return table(n)


@ml_step
def split(raw: pd.DataFrame) -> Output(train=Annotated[pd.DataFrame, Artifact("train")], test=pd.DataFrame):
    return raw[:2], raw[2:]


@ml_step
def fit(train: pd.DataFrame) -> int:
    return len(train)


@dag(dag_id="flights", schedule=None, start_date=datetime(2026, 1, 1))
def flights(n=5):
    train, _ = split(load(n))
    fit(train)


_TRANSFORMER = """
from sklearn.base import BaseEstimator, TransformerMixin

class Half(TransformerMixin, BaseEstimator):
    def transform(self, X):
        return X / 2
"""


@pytest.mark.parametrize("file", ["own_features.py", "team/own_features.py", "own_package/features.py"])
def test_own_class_of_the_dag_folder(file, tmp_path, monkeypatch):
    """Where a value's class is in a module of the DAG folder, the error has the line with which it is loaded."""
    pytest.importorskip("sklearn")
    path = tmp_path / "dags" / file
    path.parent.mkdir(parents=True)
    path.write_text(_TRANSFORMER)
    module = ".".join(Path(file).with_suffix("").parts).removeprefix("team.")
    folder = str(tmp_path / "dags" / ("team" if "team" in file else ""))
    with monkeypatch.context() as patch:
        patch.syspath_prepend(folder)
        ref = airflow_zen.save(import_module(module).Half(), "half")
    for name in {module, module.partition(".")[0]}:
        del sys.modules[name]
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path / "elsewhere"))
    with pytest.raises(MaterializerNotFound, match=r"sys\.path\.insert\(0, folder\)"):
        airflow_zen.load(ref)
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path / "dags"))
    with pytest.raises(MaterializerNotFound) as raised:
        airflow_zen.load(ref)
    (line,) = re.findall(r"first: (import sys; .*)", str(raised.value))
    exec(line)
    assert airflow_zen.load(ref).transform(3) == 1.5
    for name in {module, module.partition(".")[0]}:
        del sys.modules[name]


def test_a_notebook_loads_what_a_step_made():
    """A step's output is loaded by the name of its DAG and task, or by its own name, as any supported type."""
    run_dag(flights())
    pd.testing.assert_frame_equal(airflow_zen.artifact("raw").load(), table(5))
    found = airflow_zen.artifact("flights/split.test")
    assert isinstance(found.load(pl.DataFrame), pl.DataFrame)
    assert [path.name for path in found.load(Path).iterdir()] == ["table.parquet"]
    assert (found.summary["rows"], found.ref.shape) == (3, "3 rows × 2 columns")
    assert repr(found) == f"NamedArtifact(name='flights/split.test', version='{found.version}')"


def test_values_are_saved_by_name():
    """A saved value is the newest version of its name, with tags and metadata; saving it again makes no version."""
    first = airflow_zen.save_artifact([1, 2], "numbers", tags=["golden"], metadata={"source": "hand", "n": 2})
    second = airflow_zen.save_artifact([3], "numbers")
    assert airflow_zen.save_artifact([3], "numbers").version == second.version
    assert (first.load(), airflow_zen.artifact("numbers").load()) == ([1, 2], [3])
    found = airflow_zen.artifact("numbers", version="golden")
    assert (found, found.tags, found.metadata) == (first, ("golden",), {"source": "hand", "n": 2})
    assert [one.version for one in second.versions()] == [second.version, first.version]
    assert second.versions(limit=1) == [second]
    assert airflow_zen.artifact("numbers", datetime.now(UTC) + timedelta(seconds=9)) == second


def test_facts_of_a_step_are_metadata_of_the_version():
    """What `log_metadata` says about an output is read back from the version it made, each version with its own."""

    @ml_step
    def measure(n: int) -> Output(train=Annotated[list[int], Artifact("measured")], test=list[int]):
        airflow_zen.log_metadata({"source": "step", "rows": n}, output="train")
        airflow_zen.log_metadata({"of": "the step"})
        return [n], [n]

    @dag(dag_id="facts", schedule=None, start_date=datetime(2026, 1, 1))
    def facts(n):
        measure(n)

    run_dag(facts(1), run_id="r1")
    run_dag(facts(2), run_id="r2")
    found = airflow_zen.artifact("measured")
    assert [one.metadata for one in found.versions()] == [{"source": "step", "rows": n} for n in (2, 1)]
    assert airflow_zen.artifact("facts/measure.test").metadata == {}


def test_notebooks_show_tables():
    """An artifact, a list of versions and a diff are tables in a notebook and in print, with text escaped."""
    first = airflow_zen.save_artifact(table(2), "<b>", metadata={"source": "<i>"})
    second = airflow_zen.save_artifact(table(3), "<b>", tags=["golden"])
    assert "<tr><td>source</td><td>&lt;i&gt;</td></tr>" in first._repr_html_()
    assert second.versions()._repr_html_().count("<td>&lt;b&gt;</td>") == 2
    assert str(airflow_zen.artifacts(tag="golden")).splitlines()[1].startswith(f"<b>  | {second.version} | 3 rows")
    diff = first.diff(second)
    assert "<tr><td></td><td>rows</td><td>2</td><td>3</td></tr>" in diff._repr_html_()
    assert [line.split() for line in str(diff).splitlines() if " rows " in line][-1] == [
        "|",
        "rows",
        "|",
        "2",
        "|",
        "3",
    ]
    assert str(first.diff(first)) == "The content is the same."


def test_near_names_are_suggested():
    """The error for an unknown name, or an unknown tag of a name, has those that are nearly the same."""
    for name in ("flights/train", "flights/test", "churn"):
        airflow_zen.save_artifact(1, name, tags=["golden"])
    with pytest.raises(ArtifactNotFound, match=r"Did you mean 'flights/train'"):
        airflow_zen.artifact("flights/trian")
    with pytest.raises(ArtifactNotFound, match=r"no version 'goldne'\. Did you mean 'golden'\? Its newest is"):
        airflow_zen.artifact("churn", "goldne")
    with pytest.raises(ArtifactNotFound, match=r"No artifact is named 'models' here\. See `airflow"):
        airflow_zen.artifact("models")


def test_invalid_arguments_are_refused_before_anything_is_saved():
    """A bad name, a bad tag, and metadata that is not JSON are refused, and nothing is stored."""
    with pytest.raises(ArtifactNameError):
        airflow_zen.save_artifact(1, "")
    with pytest.raises(ArtifactNameError):
        airflow_zen.save_artifact(1, "x", tags=["latest"])
    with pytest.raises(MetadataError, match="is not JSON"):
        airflow_zen.save_artifact(1, "x", metadata={"at": datetime.now(UTC)})
    with pytest.raises(ArtifactNotFound):
        airflow_zen.artifact("x")
    assert list(open_stack().store.transport.list("artifacts")) == []


def test_artifacts_are_listed():
    """`airflow_zen.artifacts` returns the newest version of each name, with a prefix or a tag where one is given."""
    for name, value in (("a/x", 1), ("a/y", 2), ("b", 3), ("a/x", 4)):
        airflow_zen.save_artifact(value, name)
    airflow_zen.artifact("b").tag("golden", "eu")
    older = airflow_zen.artifact("a/x").versions()[1]
    older.tag("golden")
    assert [(one.name, one.load()) for one in airflow_zen.artifacts()] == [("a/x", 4), ("a/y", 2), ("b", 3)]
    assert [one.name for one in airflow_zen.artifacts(prefix="a/")] == ["a/x", "a/y"]
    assert [(one.name, one.load()) for one in airflow_zen.artifacts(tag="golden")] == [("a/x", 1), ("b", 3)]
    assert [one.name for one in airflow_zen.artifacts(tag="golden", prefix="b")] == ["b"]
    older.untag("golden", "never")
    assert [one.name for one in airflow_zen.artifacts(tag="golden")] == ["b"]


def test_artifacts_of_another_stack():
    """A stack's artifacts are found in it, and in no other."""
    airflow_zen.save_artifact(1, "x", stack="b")
    assert airflow_zen.artifact("x", stack="b").load() == 1
    assert airflow_zen.artifact("x", stack="b").versions()[0].load() == 1
    assert [one.name for one in airflow_zen.artifacts(stack="b")] == ["x"]
    assert airflow_zen.artifacts() == []


def test_the_package_and_the_function_share_a_name():
    """`airflow_zen.artifacts` is both the function and the package of this name."""
    from airflow_zen import artifacts
    from airflow_zen.artifacts.ref import ArtifactRef

    assert artifacts() == []
    assert artifacts.ref.ArtifactRef is ArtifactRef


def test_lineage_without_mlflow():
    """Upstream are the runs that it was made by and from; downstream are those of its DAG run that read it."""
    run_dag(flights(), run_id="r1")
    found = airflow_zen.artifact("train").lineage()
    assert [(run.task_id, run.dag_run_id) for run in found.upstream] == [("split", "r1"), ("load", "r1")]
    assert [run.task_id for run in found.downstream] == ["fit"]
    assert [one.name for one in found.downstream[0].inputs] == ["train"]
    lines = [[cell.strip() for cell in line.split("|")] for line in str(found).splitlines()]
    assert lines[1] == ["made by", "flights", "r1", "split", "train, flights/split.test"]
    assert "<td>read by</td><td>flights</td><td>r1</td><td>fit</td>" in found._repr_html_()
    alone = airflow_zen.save_artifact(1, "by/hand").lineage()
    assert (alone.upstream, alone.downstream) == ((), ())


def test_lineage_of_what_was_reused():
    """The run upstream of an artifact made from reused data is the run that made the data."""
    run_dag(flights(), run_id="r1")
    run_dag(flights(), run_id="r2", conf={"zen": {"recompute": ["split"]}})
    airflow_zen.save_artifact(table(1), "train")
    run_dag(flights(), run_id="r3", conf={"zen": {"recompute": ["split"]}})
    upstream = airflow_zen.artifact("train").lineage().upstream
    assert [(run.task_id, run.dag_run_id) for run in upstream] == [("split", "r3"), ("load", "r1")]


def test_lineage_leads_through_mapped_steps_and_lists():
    """Upstream are the instances of a mapped step that were read, and the step whose list they were mapped over."""

    @ml_step
    def parts() -> Annotated[list[int], Each]:
        return [1, 2]

    @ml_step
    def double(x: int) -> int:
        return 2 * x

    @ml_step
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @dag(dag_id="mapped", schedule=None, start_date=datetime(2026, 1, 1))
    def mapped():
        total(double.expand(x=parts()))

    run_dag(mapped())
    upstream = airflow_zen.artifact("mapped/total").lineage().upstream
    assert [run.task_id for run in upstream] == ["total", "double", "double", "parts"]
    assert [run.task_id for run in airflow_zen.artifact("mapped/double[1]").lineage().downstream] == ["total"]


def test_versions_are_compared():
    """Schemas, row counts and column statistics are compared without reading the tables."""
    before = airflow_zen.save_artifact(table(3, gone=["x"] * 3), "t")
    after = airflow_zen.save_artifact(table(5, new=[1] * 5).astype({"a": float}), "t")
    found = before.diff("latest")
    assert found == before.diff(after)
    assert FieldChange("rows", 3, 5) in found.changes
    assert found.of_column("gone")["column"][1] is None
    assert found.of_column("new")["column"] == (None, "int64")
    assert found.of_column("a")["type"] == ("int64", "float64")
    assert found.of_column("b") == {"distinct": (3, 5), "max": (2.0, 4.0), "mean": (1.0, 2.0)}
    assert (found.same, found.rows) == (False, None)
    again = after.diff(after)
    assert (again.same, again.changes) == (True, ())


def test_other_than_tables_are_compared_by_files():
    """Artifacts that are not tables are compared by their files."""
    before, after = (airflow_zen.save_artifact(value, "x") for value in ([1], {"a": 1}))
    found = {change.fact: (change.before, change.after) for change in before.diff(after).changes}
    assert found["type"] == ("builtins.list", "builtins.dict")
    assert "file value.json" in found
    with pytest.raises(ArtifactRefused, match="rows of tables are compared, and .* is no table. Leave the rows out"):
        before.diff(after, rows=3)


def test_differing_rows_are_shown_on_request():
    """A few rows that only one table has are shown. Order is ignored, duplicates are counted, and NaN equals NaN."""
    before = airflow_zen.save_artifact(table(4, c=[math.nan, 1.0, 1.0, 2.0]).iloc[::-1], "t")
    more = pd.concat([table(4, c=[math.nan, 1.0, 5.0, 2.0]), table(1, c=[math.nan])])
    after = airflow_zen.save_artifact(more.reset_index(drop=True), "t")
    rows = before.diff(after, rows=10).rows
    assert [row["c"] for row in rows.before] == [1.0]
    assert (rows.after[0]["a"], rows.after[0]["c"]) == (2, 5.0)
    assert len(rows.after) == 2
    assert rows.compared == 5
    assert len(before.diff(after, rows=1).rows.after) == 1


def test_a_value_that_is_no_ref_or_type_is_refused():
    """The error for a value in place of a ref, or a name in place of a type, shows the value."""
    ref = airflow_zen.save(table(2))
    for wrong in (None, 3, "raw"):
        with pytest.raises(ArtifactRefused, match=f"takes a ref, .*, got {wrong!r}"):
            airflow_zen.load(wrong)
    with pytest.raises(InputError, match="such as pandas.DataFrame, got the text 'pd.DataFrame'"):
        airflow_zen.load(ref, "pd.DataFrame")
    with pytest.raises(InputError, match=r"is asked for as dict, but its artifact holds pandas\.DataFrame"):
        airflow_zen.artifact(airflow_zen.save_artifact(table(2), "raw").name).load(dict)


def test_loads_leave_no_empty_directories(monkeypatch, tmp_path):
    """A process that loads many values keeps directories only for values that map files."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    ref = airflow_zen.save(table(3))
    assert len(airflow_zen.load(ref)) == 3
    assert sum(map(len, airflow_zen.load(ref, Iterator[pd.DataFrame]))) == 3
    assert airflow_zen.artifact(airflow_zen.save_artifact([1], "one").name).load() == [1]
    (own,) = (tmp_path / "scratch").iterdir()
    assert list(own.iterdir()) == []
