"""Promises of the runtime `Virtualenv`: requirements of a step's own, resolved once for all workers."""

import os
import subprocess
import sys
from zipfile import ZipFile

import pytest

from airflow_zen import load
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import RuntimeUnavailable, StepDefinitionError
from airflow_zen.runtimes import Virtualenv, parse_runtime
from airflow_zen.runtimes.environments import find_uv
from airflow_zen.runtimes.virtualenv import RESOLUTIONS
from airflow_zen.steps.step import Step
from tests.harness import run_dag
from tests.runtimes.conftest import other_releases

_FILE = """
from airflow.sdk import dag
from airflow_zen import ml_step

@ml_step
def versions(value: int) -> dict:
    import numpy, pandas
    return {"pandas": pandas.__version__.partition(".")[0], "numpy": numpy.__version__.partition(".")[0]}

@dag(schedule=None)
def pipeline():
    versions(1)
"""


def test_a_step_has_its_own_libraries(run_file):
    """The function sees the resolved versions, not those beside Airflow; the second run reuses the result."""
    first, second = (run_file(_FILE, Virtualenv(["pandas<3", "numpy<2"])) for _ in range(2))
    assert first.states == {"versions": "success"}, first.tasks[-1].error
    assert load(first.xcom("versions")) == {"pandas": "2", "numpy": "1"}
    assert not first.xcom("versions")["cached"]
    assert second.xcom("versions")["cached"]


def test_the_resolved_set_is_in_the_key(root):
    """The versions of all distributions are ingredients, and other requirements of the same result are the same key."""

    def step(value: int) -> int:
        return value

    stack = open_stack(lineage=False)
    one, two = (
        Virtualenv(list(lines)).ingredients(Step(step, "s"), stack)
        for lines in (["pandas<3", "numpy==1.26.4"], ["numpy==1.26.4", "pandas<3"])
    )
    assert one == two
    assert one["distribution numpy"] == "1.26.4"
    assert one["distribution pandas"].startswith("2.")
    assert set(one) >= {"python", "distribution blake3", "distribution pyarrow", "distribution python-dateutil"}


def test_the_first_resolution_holds(root):
    """What requirements were resolved to is stored in the artifact root, where every worker finds it."""
    stack, runtime = open_stack(lineage=False), Virtualenv(["pandas<3"])
    step = Step(len, "s")
    resolved = runtime.resolve(step, stack)
    (key,) = stack.store.transport.list(RESOLUTIONS)
    stack.store.transport.write(key, resolved.text.replace("pandas==2", "pandas==1").encode())
    assert "pandas==1" in runtime.resolve(step, stack).text


def test_a_resolver_fails_with_its_reason(run_file):
    """Requirements that contradict one another fail the step with what the resolver says."""
    run = run_file(_FILE, Virtualenv(["pandas<3", "pandas>=3"]))
    assert run.states == {"versions": "failed"}
    error = run.tasks[-1].error
    assert isinstance(error, RuntimeUnavailable)
    assert "pandas<3" in str(error)
    assert "pandas>=3" in str(error)


def test_files_of_requirements(tmp_path, root, load_dag_file):
    """A requirements file and a group of a pyproject.toml are found beside the file of the step."""
    (tmp_path / "requirements.txt").write_text("# ours\npandas<3  # old\n\n-r more.txt\n")
    (tmp_path / "more.txt").write_text("numpy<2 \\\n  ; python_version > '3'\n")
    (tmp_path / "pylock.toml").write_text(
        'lock-version = "1.0"\n[[packages]]\nname = "numpy"\nversion = "1.26.4"\n'
        '[[packages]]\nname = "pandas"\nversion = "2.3.3"\n'
    )
    (tmp_path / "pyproject.toml").write_text(
        '[dependency-groups]\nold = ["pandas<3", {include-group = "older"}]\nolder = ["numpy<2"]\n'
    )
    step = Step(load_dag_file(_FILE).versions.function, "versions")
    stack = open_stack(lineage=False)
    keys = {
        runtime.resolve(step, stack).key
        for runtime in (
            Virtualenv("requirements.txt"),
            Virtualenv("pyproject.toml", group="old"),
            Virtualenv("pylock.toml"),
            Virtualenv(["pandas<3", "numpy<2"]),
        )
    }
    assert len(keys) == 1
    with pytest.raises(RuntimeUnavailable, match="has no dependency group 'new'"):
        Virtualenv("pyproject.toml", group="new").resolve(step, stack)


def test_a_lock_of_uv(tmp_path, root, load_dag_file, monkeypatch):
    """A group of a project is taken as its uv.lock has it; uv is asked once for one content of that file."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "trainer"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["numpy==1.26.4"]\n'
        '[dependency-groups]\nold = ["pandas==2.3.3"]\n'
    )
    subprocess.run([find_uv(), "lock", "--quiet", "--project", tmp_path], check=True)
    step = Step(load_dag_file(_FILE).versions.function, "versions")
    stack = open_stack(lineage=False)
    pins = Virtualenv("uv.lock", group="old").resolve(step, stack).text
    assert {"numpy==1.26.4", "pandas==2.3.3"} <= set(pins.splitlines())
    assert "numpy==1.26.4" in Virtualenv("uv.lock").resolve(step, stack).text.splitlines()
    with pytest.raises(RuntimeUnavailable, match=r"uv\.lock cannot be read: .*new"):
        Virtualenv("uv.lock", group="new").resolve(step, stack)
    monkeypatch.setattr("airflow_zen.runtimes.environments.find_uv", lambda: None)
    assert Virtualenv("uv.lock", group="old").resolve(step, stack).text == pins


_RELEASE = """
from airflow.sdk import dag
from airflow_zen import ml_step

@ml_step
def made(rows: int) -> "pandas.DataFrame":
    import pandas, sys
    return pandas.DataFrame({"release": [sys.version_info[1]] * rows})

@ml_step
def read(table: "pandas.DataFrame") -> list[int]:
    import sys
    return [sys.version_info[1], *table["release"]]

@dag(schedule=None)
def pipeline():
    read.override(runtime="InProcess()")(made(2))

import pandas
"""


def test_another_release_of_python(run_file, root, load_dag_file, monkeypatch):
    """A step runs under another release of Python that uv finds; the release is in the key, its tables are read here."""
    release, interpreter = next(iter(other_releases()), (None, None))
    if release is None:
        pytest.skip("no later release of Python is on this machine: install one where `uv python list` finds it")
    monkeypatch.setenv("PATH", f"{interpreter.parent}{os.pathsep}{os.environ['PATH']}")
    runtime = Virtualenv(["pandas<3"], python=release)
    module = load_dag_file(_RELEASE.replace("made(2)", f"made.override(runtime={str(runtime)!r})(2)"))
    run = run_dag(module.pipeline())
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    minor = int(release.partition(".")[2])
    assert load(run.xcom("read")) == [sys.version_info[1], minor, minor]
    step = Step(module.made.function, "made")
    assert runtime.ingredients(step, open_stack(lineage=False))["python"] == release


def test_a_release_of_python_that_is_not_there(run_file, monkeypatch):
    """A release that no interpreter of this machine has is named, by uv and by pip; one that is too old is refused."""
    error = run_file(_FILE, Virtualenv(["pandas<3"], python="3.99")).tasks[-1].error
    assert isinstance(error, RuntimeUnavailable)
    assert "No environment can be made with 3.99: error: No interpreter found for Python 3.99" in str(error)
    step, stack = Step(len, "s"), open_stack(lineage=False)
    monkeypatch.setattr("airflow_zen.runtimes.environments.find_uv", lambda: None)
    with pytest.raises(RuntimeUnavailable, match=r"No environment can be made with 3\.99: .*'python3\.99'"):
        Virtualenv(["msgspec"], python="3.99").resolve(step, stack)
    with pytest.raises(StepDefinitionError, match=r"python='3\.10'\): steps need Python 3\.11 or later"):
        Virtualenv(["pandas<3"], python="3.10")


def test_what_the_key_cannot_hold(tmp_path, root, load_dag_file):
    """Constraints and local paths, whose content is not in the key, are refused by their line; pins and a wheel are not."""
    step, stack, file = (
        Step(load_dag_file(_FILE).versions.function, "versions"),
        open_stack(),
        tmp_path / "requirements.txt",
    )
    for line in ("-c constraints.txt", "-e .", "./package", "--editable=../package"):
        file.write_text(f"pandas<3\n{line}\n")
        with pytest.raises(RuntimeUnavailable, match="Write pins, and build a wheel of local code"):
            Virtualenv(file.name).resolve(step, stack)
    wheel = tmp_path / "zen_probe-0.3-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("zen_probe-0.3.dist-info/METADATA", "Metadata-Version: 2.1\nName: zen-probe\nVersion: 0.3\n")
        archive.writestr(
            "zen_probe-0.3.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("zen_probe-0.3.dist-info/RECORD", "")
    file.write_text(f"six==1.17.0\nzen-probe @ {wheel.as_uri()}\n")
    resolved = Virtualenv(file.name).resolve(step, stack).text
    assert "six==1.17.0" in resolved
    assert "zen-probe @ file://" in resolved


def test_the_text_form():
    """The repr is the text by which settings and a DAG run's configuration name a runtime."""
    runtime = Virtualenv(["pandas<3"], python="3.12", index_conn_id="index")
    assert parse_runtime(repr(runtime), "[zen] runtime") == runtime


def test_a_wrong_declaration():
    """What is no list of requirements is refused where it is written."""
    with pytest.raises(StepDefinitionError, match="takes a list of requirements"):
        Virtualenv({"pandas": "<3"})
    with pytest.raises(StepDefinitionError, match=r"needs the path of a pyproject\.toml"):
        Virtualenv("requirements.txt", group="old")
