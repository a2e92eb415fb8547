"""Promises of the environments of a worker: made once, whole or not at all, used ones kept, bounded in size."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_zen.errors import RuntimeUnavailable
from airflow_zen.runtimes import environments as module
from airflow_zen.runtimes.environments import Environments, Index
from airflow_zen.runtimes.virtualenv import Resolved
from tests.runtimes.moments import moments

SMALL = Resolved("msgspec==0.21.1\n", "3.11", sys.executable)
OTHER = Resolved("blake3==1.0.8\n", "3.11", sys.executable)


@pytest.fixture
def environments(tmp_path):
    """The environments of a worker that has none yet."""
    return Environments(tmp_path / "environments", 10 * 1024**3)


def version_in(interpreter, name):
    """Return the version of a distribution that an interpreter sees."""
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_concurrent_tasks_make_an_environment_once(environments, monkeypatch):
    """20 tasks that want the same new environment make it once, and all use it."""
    made, original = [], module._make_environment
    monkeypatch.setattr(module, "_make_environment", lambda *args: (made.append(args[0]), original(*args)))

    def use(_):
        with environments.use(SMALL, None) as interpreter:
            return interpreter

    with ThreadPoolExecutor(20) as pool:
        used = set(pool.map(use, range(20)))
    assert (len(made), len(used)) == (1, 1)
    assert version_in(used.pop(), "msgspec") == "0.21.1"


_MAKER = """
import sys
from pathlib import Path
from airflow_zen.runtimes.environments import Environments
from airflow_zen.runtimes.virtualenv import Resolved
text, folder = sys.argv[1:]
print("begun", flush=True)
with Environments(Path(folder), 10**12).use(Resolved(text, "3.11", sys.executable), None):
    print("made", flush=True)
"""


def test_a_killed_maker_leaves_nothing_that_is_used(environments):
    """Kill -9 of the maker at any moment: an environment is whole or made again, and the next task succeeds."""
    for moment in moments(0, 0.5, seed=18):
        maker = subprocess.Popen(
            [sys.executable, "-c", _MAKER, SMALL.text, str(environments.folder)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert maker.stdout.readline() == b"begun\n"
        time.sleep(moment)
        maker.send_signal(signal.SIGKILL)
        maker.communicate()
        for stored in environments.stored():
            assert version_in(str(environments.folder / stored.key / "bin/python"), "msgspec") == "0.21.1"
    with environments.use(SMALL, None) as interpreter:
        assert version_in(interpreter, "msgspec") == "0.21.1"
    environments.prune(limit=0)
    assert [path for path in environments.folder.iterdir() if path.is_dir()] == []


def test_what_is_used_stays(environments):
    """A prune deletes the least recently used, but nothing that a task uses."""
    with environments.use(SMALL, None), environments.use(OTHER, None):
        assert environments.prune(limit=0) == []
    with environments.use(SMALL, None):
        assert [each.requirements for each in environments.prune(limit=0)] == [("blake3==1.0.8",)]
    assert [each.requirements for each in environments.stored()] == [("msgspec==0.21.1",)]
    assert environments.prune(unused_since=time.time() - 60) == []
    assert len(environments.prune(unused_since=time.time() + 1)) == 1


def test_a_new_environment_makes_room(environments):
    """Above the limit the least recently used is deleted when another is made."""
    with environments.use(SMALL, None):
        pass
    bounded = Environments(environments.folder, environments.stored()[0].size + 1)
    with bounded.use(OTHER, None):
        pass
    assert [each.requirements for each in bounded.stored()] == [("blake3==1.0.8",)]


@pytest.mark.slow
def test_pip_where_uv_is_missing(environments, monkeypatch):
    """Without uv the environment is made, and requirements are resolved, with pip."""
    monkeypatch.setattr(module, "find_uv", lambda: None)
    text = module.resolve_requirements(["msgspec==0.21.1"], sys.executable, None, "", None)
    assert text == "msgspec==0.21.1\n"
    with environments.use(SMALL, None) as interpreter:
        assert version_in(interpreter, "msgspec") == "0.21.1"


def test_arrow_beside_numpy_1(environments):
    """NumPy 1 gets a pyarrow that can be imported with it, though newer ones do not say that they cannot."""
    text = module.resolve_requirements(["numpy<2", "pyarrow>=22"], sys.executable, None, "pyarrow==25.0.0\n", None)
    with environments.use(Resolved(text, "3.11", sys.executable), None) as interpreter:
        code = "import numpy, pyarrow; print(numpy.__version__[0], pyarrow.array(numpy.arange(3)).sum())"
        ended = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["1", "3"]


def test_credentials_of_an_index(tmp_path, monkeypatch):
    """An index comes from a connection; its credentials are neither in the repr nor in an error."""
    connection = {"conn_type": "package_index", "host": "http://127.0.0.1:9/simple", "login": "u", "password": "hidden"}
    monkeypatch.setenv("AIRFLOW_CONN_COMPANY", json.dumps(connection))
    index = Index.from_connection("company")
    assert (index.url, repr(index)) == ("http://u:hidden@127.0.0.1:9/simple", "Index('http://127.0.0.1:9/simple')")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(RuntimeUnavailable) as caught:
        module.resolve_requirements(["never-cached-name"], sys.executable, index, "", "Virtualenv")
    assert "127.0.0.1" in str(caught.value)
    assert "hidden" not in str(caught.value)
