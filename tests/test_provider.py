"""Promises of the package as Airflow and a newcomer meet it."""

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest

import airflow_zen
from tests.airflow_command import call_all

HEAVY_LIBRARIES = (
    "airflow",
    "fsspec",
    "mlflow",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "s3fs",
    "sklearn",
    "obstore",
    "torch",
)


def run_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """What the commands of Airflow print that concern a provider, by their first word."""
    commands = [
        ["version"],
        ["providers", "get", "airflow-provider-zen", "-o", "json"],
        ["config", "list", "--section", "zen", "--include-descriptions"],
        ["plugins", "-o", "json"],
    ]
    home = str(tmp_path_factory.mktemp("home"))
    answers = call_all(commands, AIRFLOW_HOME=home, AIRFLOW__CORE__LOAD_EXAMPLES="False")
    return {command[0]: answer for command, answer in zip(commands, answers, strict=True)}


def modules_loaded_by(statement):
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    return set(json.loads(run_python(code).splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    [
        "import airflow_zen",
        "from airflow_zen.get_provider_info import get_provider_info; get_provider_info()",
    ],
)
def test_importing_the_package_imports_nothing(statement):
    """Importing the package, or what Airflow discovers of it, imports neither Airflow nor any heavy library."""
    assert modules_loaded_by(statement).isdisjoint(HEAVY_LIBRARIES)


def test_lower_layers_need_no_airflow():
    """The step, the stack and all layers below them load without Airflow and without a heavy library."""
    rooms = "import airflow_zen.steps.run, airflow_zen.stack, airflow_zen.lineage.mlflow.recorder"
    assert modules_loaded_by(rooms).isdisjoint(HEAVY_LIBRARIES)


def test_every_public_name_is_there():
    """Every name in `__all__` can be imported."""
    for name in airflow_zen.__all__:
        assert getattr(airflow_zen, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = airflow_zen.nothing


def test_airflow_starts(airflow):
    """Airflow starts with the provider installed."""
    code, out, err = airflow["version"]
    assert code == 0, err
    assert out.strip().splitlines()[-1] == importlib.metadata.version("apache-airflow")


def test_airflow_knows_the_provider(airflow):
    """`airflow providers get` names the provider and its version."""
    assert json.loads(airflow["providers"].out.splitlines()[-1])[0]["Version"] == airflow_zen.__version__


def test_airflow_documents_every_option(airflow):
    """`airflow config list` shows the section with each option described."""
    from airflow_zen.get_provider_info import get_provider_info

    options = get_provider_info()["config"]["zen"]["options"]
    assert {"artifact_root", "artifact_conn_id", "mlflow_tracking_uri", "mlflow_conn_id", "cache"} <= set(options)
    told = airflow["config"].out.replace("\n# ", " ")
    for option, about in options.items():
        assert f"{option} = " in airflow["config"].out
        assert about["description"].split(".")[0].split("(")[0].split(":")[0][:30] in told


def test_airflow_loads_the_plugin(airflow):
    """The plugin and its listener are loaded without an import error."""
    _, out, err = airflow["plugins"]
    assert "airflow_zen" in out
    assert "Failed to import" not in out + err


def test_dir_shows_the_public_names():
    """`dir(airflow_zen)`, which notebooks complete from, has the public names and nothing else but special ones."""
    assert [name for name in dir(airflow_zen) if not name.startswith("__")] == sorted(airflow_zen.__all__)
    for name in airflow_zen.__all__:
        assert getattr(airflow_zen, name) is not None
    assert dir(airflow_zen.lineage) == sorted(airflow_zen.lineage.__all__)


def test_python_suggests_a_near_name():
    """A misspelled public name is an error in which Python names the right one."""
    done = subprocess.run(
        [sys.executable, "-c", "import airflow_zen; airflow_zen.artifct"], capture_output=True, text=True
    )
    assert "has no attribute 'artifct'. Did you mean: 'artifact'?" in done.stderr
