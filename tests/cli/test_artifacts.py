"""Promises of `airflow zen artifacts`."""

import io
import json
import os
import shlex
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from airflow.cli import cli_parser

import airflow_zen
from airflow_zen import save_artifact
from airflow_zen.artifacts.named_artifacts import VersionIndex
from airflow_zen.config.settings import open_stack


@pytest.fixture(autouse=True)
def _root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def zen(capsys):
    """Return a function that calls a command through Airflow's own parser, with its exit code and its output or error."""
    parser = cli_parser.get_parser()

    def call(line):
        capsys.readouterr()
        args = parser.parse_args(["zen", "artifacts", *shlex.split(line)])
        try:
            args.func(args)
        except SystemExit as ended:
            return SimpleNamespace(code=ended.code if isinstance(ended.code, int) else 1, out=str(ended.code))
        return SimpleNamespace(code=0, out=capsys.readouterr().out)

    return call


@pytest.fixture
def features():
    """Two versions of a table; the first is tagged."""
    before = pd.DataFrame({"carrier": ["AA", "B6", "DL"], "delay": [3.0, 11.5, -2.0]})
    after = pd.DataFrame({"carrier": ["AA", "B6", "UA"], "delay": [3.0, 12.5, 4.0], "origin": ["JFK", "EWR", "LGA"]})
    return (
        save_artifact(before, "flights/features", tags=["golden"], metadata={"source": "BTS"}),
        save_artifact(after, "flights/features"),
    )


def test_lists_names_with_their_newest_version(zen, features):
    """Each name is listed with its newest version, its tags, or filtered by prefix or tag; JSON contains whole numbers."""
    save_artifact([1], "numbers", tags=["first", "small"])
    rows = json.loads(zen("list --output json").out)
    assert [(row["name"], row["version"], row["shape"]) for row in rows] == [
        ("flights/features", features[1].version, "3 rows × 3 columns"),
        ("numbers", rows[1]["version"], "1 item"),
    ]
    assert int(rows[0]["size"]) == features[1].ref.size
    assert [row["name"] for row in json.loads(zen("list --prefix num -o json").out)] == ["numbers"]
    assert [row["version"] for row in json.loads(zen("list --tag golden -o json").out)] == [features[0].version]
    assert [row["tags"] for row in rows] == ["", "first, small"]
    assert "3 rows × 3 columns" in zen("list").out


def test_lists_the_maker_and_the_tags_of_each_name(zen):
    """The step run that made a version is listed; a tag is of one name only, though two have a version of that time."""
    stack = open_stack(lineage=False)
    for name in ("churn/test", "churn/train"):
        stack.names.add(name, stack.save(name, name).ref, 100.0, origin="churn/r1/load/-1/1")
    zen("tag churn/train latest golden")
    rows = json.loads(zen("list -o json").out)
    assert [(row["made by"], row["tags"]) for row in rows] == [
        ("churn/r1/load/-1/1", ""),
        ("churn/r1/load/-1/1", "golden"),
    ]


def test_nothing_to_list_ends_with_one(zen):
    """If no artifact matches, the command says so and ends with exit code 1."""
    for line, told in [("", "has a name"), ("--prefix x", "'x'…"), ("--tag t", "has the tag 't'")]:
        done = zen(f"list {line}")
        assert (done.code, told in done.out) == (1, True)


def test_shows_one_version(zen, features):
    """All facts of a version are shown, with the columns of a table and their statistics."""
    table = zen("show flights/features --version golden").out
    for told in (features[0].version, "source=BTS", "golden", "table.parquet", "pandas.DataFrame", "4.1666"):
        assert told in table
    (shown,) = json.loads(zen("show flights/features -o json").out)
    assert [column["name"] for column in shown["columns"]] == ["carrier", "delay", "origin"]
    assert shown["tags"] == ""


def test_lists_versions_with_their_tags(zen, features):
    """Versions are listed newest first, with their current tags, up to the limit."""
    zen("tag flights/features latest eu")
    rows = json.loads(zen("versions flights/features -o json").out)
    assert [(row["version"], row["tags"]) for row in rows] == [
        (features[1].version, "eu"),
        (features[0].version, "golden"),
    ]
    assert len(json.loads(zen("versions flights/features --limit 1 -o json").out)) == 1


def test_gets_the_files(zen, features, tmp_path):
    """The files of a version are written to a new directory, writable by the user, and never over existing files."""
    assert zen("get flights/features out --version golden").code == 0
    file = tmp_path / "out" / "table.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(file), features[0].load())
    assert file.stat().st_mode & stat.S_IWUSR
    assert not os.path.samefile(file, Path(features[0].ref.uri) / "table.parquet")
    done = zen("get flights/features out")
    assert (done.code, done.out) == (1, "out already exists. Name a directory that is new or empty.")
    (tmp_path / "empty").mkdir()
    for directory in ("new", "empty"):
        assert zen(f"get flights/features {directory}").code == 0
        assert (tmp_path / directory / "table.parquet").is_file()


def test_refuses_damaged_files(zen, features, tmp_path):
    """Bytes that differ from their digest end the command with exit code 1, and nothing is written."""
    file = Path(features[0].ref.uri) / "table.parquet"
    file.chmod(0o644)
    file.write_bytes(b"other")
    done = zen("get flights/features out --version golden")
    assert (done.code, "stored bytes are damaged" in done.out) == (1, True)
    assert not (tmp_path / "out").exists()


def test_puts_a_file_and_a_directory(zen, tmp_path):
    """A file or directory becomes the newest version of a name, with tags and metadata, and is returned unchanged."""
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    assert "1 file" in zen("put data --name raw/data --tag first --tag eu --metadata by=hand").out
    found = airflow_zen.artifact("raw/data", "first")
    assert (found.metadata, found.load().name) == ({"by": "hand"}, "data")
    zen("get raw/data out")
    assert (tmp_path / "out" / "deep" / "a.txt").read_text() == "a"
    zen("put b.txt --name raw/b")
    zen("get raw/b out2")
    assert (tmp_path / "out2" / "b.txt").read_text() == "b"


def test_puts_standard_input(zen, monkeypatch):
    """`-` stores standard input as a file named after the artifact."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"\x00bytes")))
    assert zen("put - --name raw/words.bin").code == 0
    path = airflow_zen.artifact("raw/words.bin").load()
    assert (path.name, path.read_bytes()) == ("words.bin", b"\x00bytes")


def test_refuses_to_put_invalid_arguments(zen):
    """A missing path, or an invalid name, tag or metadata ends with exit code 1, and makes no version."""
    Path("b.txt").write_text("b")
    for line, told in [
        ("nothing --name x", "nothing does not exist"),
        ("b.txt --name /x", "cannot be named '/x'"),
        ("b.txt --name x --tag latest", "cannot be a tag"),
        ("b.txt --name x --metadata by", "--metadata takes a key"),
    ]:
        done = zen(f"put {line}")
        assert (done.code, told in done.out) == (1, True), done.out
    assert airflow_zen.artifacts() == []


def test_registers_stored_data(zen, tmp_path):
    """Data under the root gets a name, tags and metadata without a copy: a directory is a path, a parquet file is a table."""
    raw = tmp_path / "root" / "raw"
    (raw / "deep").mkdir(parents=True)
    (raw / "deep" / "a.txt").write_text("a")
    table = pd.DataFrame({"carrier": ["AA", "B6"], "delay": [3.0, 11.5]})
    table.to_parquet(raw / "flights.parquet")
    told = zen(f"register raw/flights {raw}/flights.parquet --tag eu --metadata by=hand")
    found = airflow_zen.artifact("raw/flights", "eu")
    assert (
        told.out
        == f"raw/flights {found.version}: 2 rows × 2 columns, {told.out.split(', ')[1]}, digest {found.ref.digest[:12]}\n"
    )
    assert (found.metadata, found.load().to_pydict()) == ({"by": "hand"}, table.to_dict("list"))
    assert "1 file, 1 B" in zen(f"register raw/all {raw}/deep").out
    assert os.path.samefile(airflow_zen.artifact("raw/all").load() / "a.txt", raw / "deep" / "a.txt")


def test_refuses_to_register_other_data(zen, tmp_path):
    """Data outside the root, in one of our directories, or missing, ends with exit code 1, and makes no version."""
    root = tmp_path / "root"
    for uri, told in [
        (tmp_path, "is not under the artifact root"),
        (f"{root}/previews/x", "that airflow_zen writes itself"),
        (f"{root}/raw", "There is nothing at"),
    ]:
        done = zen(f"register x {uri}")
        assert (done.code, told in done.out) == (1, True), done.out
    assert airflow_zen.artifacts() == []


def test_shows_differences(zen, features):
    """Changes of the artifact and of its columns are shown, and with --rows the rows that only one version has."""
    told = zen("diff flights/features golden latest --rows 5").out
    assert "differences, in 3 columns" in told
    rows = [" ".join(line.replace("|", " ").split()) for line in told.splitlines()]
    assert "shape 3 rows × 2 columns 3 rows × 3 columns" in rows
    assert "origin column - str" in rows
    assert [row for row in rows if row.startswith(("before ", "after "))] == [
        "before B6 11.5",
        "before DL -2.0",
        "after B6 12.5 EWR",
        "after UA 4.0 LGA",
    ]
    changes = json.loads(zen("diff flights/features golden latest -o json").out)
    assert {"column": "delay", "fact": "max", "before": "11.5", "after": "12.5"} in changes
    assert zen("diff flights/features golden golden").out == "The same content.\n"


def test_tags_and_untags(zen, features):
    """A tag selects its version until it is removed."""
    assert zen("tag flights/features latest best").out == f"flights/features {features[1].version} is tagged 'best'.\n"
    assert json.loads(zen("show flights/features --version best -o json").out)[0]["version"] == features[1].version
    zen("untag flights/features latest best")
    assert zen("show flights/features --version best").code == 1


@pytest.mark.parametrize(
    "line",
    [
        "show x",
        "versions x",
        "get x out",
        "diff x latest latest",
        "tag x latest t",
        "show flights/features --version no",
    ],
)
def test_a_missing_artifact_ends_with_one(zen, features, line):
    """A name or version that does not exist is reported, with exit code 1."""
    done = zen(line)
    assert done.code == 1
    assert done.out.startswith(("No artifact is named 'x'", "Artifact 'flights/features' has no version 'no'"))


def test_a_concurrently_pruned_version_is_left_out(zen, features, monkeypatch):
    """A version that is deleted between listing and reading is not listed, and nothing fails."""
    listed = VersionIndex.keys
    monkeypatch.setattr(
        VersionIndex,
        "keys",
        lambda self, name: iter([*listed(self, name), f"names/{name}/versions/{'9' * 13}-{'0' * 16}.json"]),
    )
    assert len(json.loads(zen("versions flights/features -o json").out)) == 2
