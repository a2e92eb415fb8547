"""Promises of types: what mypy and pyright say of steps, in a folder of its own beside an editable install."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distributions
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "typing"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a virtualenv with an editable install of this package, and the libraries of the tests' own."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    executable = folder / "bin/python"
    libraries = folder / f"lib/python{sysconfig.get_python_version()}/site-packages/libraries.pth"
    libraries.write_text(f"{sysconfig.get_path('purelib')}\n")
    install = ("uv", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--python", executable)
    subprocess.run([sys.executable, "-m", *install, "--editable", ROOT], check=True)
    return executable


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder outside of the repository with the cases and an example."""
    folder = tmp_path_factory.mktemp("project")
    for file in (*CASES.glob("*.py"), ROOT / "dags_examples/flight_delay.py"):
        shutil.copy(file, folder)
    return folder


def run(project, *command):
    environment = {name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    command = [sys.executable, "-m", *map(str, command)]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True).stdout


def expected_errors(project):
    return {
        (file.name, number)
        for file in project.glob("*.py")
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if line.endswith("# error")
    }


def test_mypy_checks_calls_of_steps(python, project, pytestconfig):
    """Mypy refuses exactly the calls that a step's signature does not allow, and knows the types of their results."""
    cache = pytestconfig.cache.mkdir("mypy")
    options = (f"--config-file={CASES}/mypy.ini", f"--cache-dir={cache}", f"--python-executable={python}")
    said = run(project, "mypy", "--output=json", *options, ".")
    errors = [json.loads(line) for line in said.splitlines()]
    assert {(error["file"], error["line"]) for error in errors} == expected_errors(project), said


def test_pyright_checks_calls_of_steps(python, project):
    """Pyright refuses exactly the calls that a step's signature does not allow, and knows the types of their results."""
    said = json.loads(run(project, "pyright", "--outputjson", f"--pythonpath={python}", "."))["generalDiagnostics"]
    errors = {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in said if one["severity"] == "error"}
    assert errors == expected_errors(project), said


def test_an_editable_install_is_one_distribution(python):
    """Airflow does not find a second copy of this provider in the folder that an editable install adds to the path."""
    assert [one.name for one in distributions(path=[str(ROOT)])] == []
    where = subprocess.run(
        [python, "-c", "import airflow_zen; print(airflow_zen.__file__)"], cwd="/", capture_output=True, text=True
    )
    assert where.stdout.strip() == str(ROOT / "airflow_zen/__init__.py")
