"""Promises of the progress on a terminal, and of its absence elsewhere."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time

import pytest
from airflow.cli import cli_parser

from airflow_zen import save
from airflow_zen.caching.step_cache import CacheEntry
from airflow_zen.config.settings import open_stack
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "root"


@pytest.fixture
def on_a_terminal(monkeypatch):
    """Return a function that calls a command on a terminal, and returns all output."""

    def call(*words):
        ours, theirs = pty.openpty()
        shown = []

        def read():
            try:
                while chunk := os.read(ours, 65536):
                    shown.append(chunk)
            except OSError:
                # Linux says so that the other side is closed.
                return

        reader = threading.Thread(target=read)
        reader.start()
        args = cli_parser.get_parser().parse_args(["zen", *words])
        with open(theirs, "w") as terminal, monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", terminal)
            patched.setattr(sys, "stderr", terminal)
            args.func(args)
        reader.join(30)
        os.close(ours)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(shown).decode())

    return call


def run_in_pipes(*words):
    """Run a command in its own process, with pipes; return its stdout and stderr."""
    command = [sys.executable, "-m", "airflow", "zen", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.mark.airflow
@pytest.mark.server
@pytest.mark.slow
def test_sync_counts_step_runs_on_a_terminal_only(server, monkeypatch, airflow_db, on_a_terminal):
    """`lineage sync` counts delivered and pending step runs; a pipe gets only its result."""

    def put_pending_run(number):
        step = StepRunId("late", "r1", f"step{number}")
        open_stack().records.put(StepRun(step, state=StepState.FINISHED, started=1.0, ended=2.0), delivered=False)

    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    for number in range(6):
        put_pending_run(number)
    counts = re.findall(r"Delivering step runs.*?(\d) of 6", on_a_terminal("lineage", "sync"))
    assert (counts[0], counts[-1]) == ("0", "6")
    assert counts == sorted(counts)
    put_pending_run(6)
    printed, said = run_in_pipes("lineage", "sync")
    # What Airflow itself logs while it starts comes before.
    assert (printed.splitlines()[-1], said) == ("Delivered 1 step run.", "")
    assert "Delivering" not in printed


@pytest.mark.airflow
def test_prune_counts_artifacts_and_bytes(root, airflow_db, on_a_terminal):
    """`artifacts prune` counts artifacts and bytes as it lists, notes and deletes them; JSON contains no progress."""
    for number in range(60):
        save({"nobody refers to": number, "bytes": "x" * 20_000})
    old = time.time() - 100
    for path in root.rglob("*"):
        os.utime(path, (old, old))
    prune = ("artifacts", "prune", "--unreferenced", "--grace", "1s")
    shown = on_a_terminal(*prune)
    assert re.search(r"Listing artifacts +0 kept \(0 B\), 0 unreferenced", shown), shown
    assert re.search(r"Listing artifacts.*?40  0 kept \(0 B\), 40 unreferenced \(8\d\d\.\d kB\)", shown), shown
    rows = json.loads(on_a_terminal(*prune, "--dry-run", "--output", "json"))
    assert rows[1]["what"] == "unreferenced"
    time.sleep(1.1)
    shown = on_a_terminal(*prune)
    assert re.search(r"Marking artifacts.*?60 of 60", shown), shown
    assert re.search(r"Deleting files.*?60  60 artifacts \(1\.2 MB\) freed", shown), shown
    assert "60 artifacts (1.2 MB) deleted" in shown


def test_cache_clear_counts_entries(on_a_terminal):
    """`cache clear` counts the entries that it reads and deletes, and the tasks whose histories it reads."""
    cache = open_stack().cache
    for number in range(3):
        cache.put(CacheEntry(f"{number}" * 64, {}, f"d/r/t{number}/-1/1", seconds=1.0, created=1.0))
    shown = on_a_terminal("cache", "clear", "--yes")
    for stage in ("Reading cache entries", "Forgetting histories of tasks"):
        counts = re.findall(rf"{stage}.*?(\d) of 3", shown)
        assert (counts[0], counts[-1]) == ("0", "3"), shown
    assert "Forgetting cache entries" in shown
    assert "Deleted 3 results of 3 tasks" in shown


@pytest.mark.server
@pytest.mark.parametrize("client", ["obstore", "fsspec"])
def test_put_and_get_count_bytes(ceph, monkeypatch, tmp_path, on_a_terminal, client):
    """`artifacts put` and `get` count the transferred bytes, and show the total."""
    # What obstore has no word for, fsspec does.
    extra = {"config_kwargs": {"connect_timeout": 60} if client == "fsspec" else {}}
    extra |= {"region_name": "us-east-1", "endpoint_url": ceph.endpoint}
    connection = {"conn_type": "aws", "login": ceph.access_key, "password": ceph.secret_key, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_S3", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_CONN_ID", "s3")
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", f"{ceph.root}/counted-{client}-{os.getpid()}")
    assert client in type(open_stack().store.transport).__name__.lower()
    (tmp_path / "noise.bin").write_bytes(os.urandom(20_000_000))
    shown = on_a_terminal("artifacts", "put", "noise.bin", "--name", "noise")
    counts = re.findall(r"Storing.*?(\S+ M?B) of 20.0 MB", shown)
    assert (counts[0], counts[-1]) == ("0 B", "20.0 MB"), shown
    shown = on_a_terminal("artifacts", "get", "noise", "copy")
    for stage in ("Fetching", "Writing"):
        counts = re.findall(rf"{stage}.*?(\S+ M?B) of 20.0 MB", shown)
        assert (counts[0], counts[-1]) == ("0 B", "20.0 MB"), shown
    assert (tmp_path / "copy" / "noise.bin").read_bytes() == (tmp_path / "noise.bin").read_bytes()


def test_put_shows_nothing_in_a_pipe(tmp_path, capfd):
    """If stderr is not a terminal, a command prints its result and nothing else."""
    (tmp_path / "b.txt").write_text("b")
    args = cli_parser.get_parser().parse_args(["zen", "artifacts", "put", "b.txt", "--name", "b"])
    args.func(args)
    printed = capfd.readouterr()
    assert re.fullmatch(r"b \S+: 1 file, 1 B, digest [0-9a-f]{12}\n", printed.out)
    assert printed.err == ""
