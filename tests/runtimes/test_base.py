"""Promises about the spec: its form, its addresses, and what of the worker it cannot hold."""

import logging

import msgspec
import pytest

from airflow_zen import __version__, load, runner
from airflow_zen.errors import RuntimeUnavailable
from airflow_zen.runtimes import base
from tests.runtimes.conftest import RUNTIMES

_SUM = """
from airflow.sdk import dag
from airflow_zen import ml_step

@ml_step
def total(values: list[int]) -> int:
    return sum(values)

@dag(schedule=None)
def pipeline():
    total([1, 2])
"""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (1, "which is older: the Airflow worker has 9.8.7. Install that there: pip install --no-deps airflow-provider"),
        (-1, "and the Airflow worker has 9.8.7, which is older. Install"),
    ],
)
@pytest.mark.parametrize("small", RUNTIMES[1:], indirect=True)
def test_another_form_of_the_spec_is_named(run_file, small, monkeypatch, change, reason):
    """Where the two sides have releases that do not understand each other, the error names the older one and the fix."""
    monkeypatch.setattr(runner, "SPEC_FORMAT", runner.SPEC_FORMAT + change)
    monkeypatch.setattr(base, "__version__", "9.8.7")
    error = run_file(_SUM, small).tasks[-1].error
    assert isinstance(error, RuntimeUnavailable)
    assert f"has airflow-provider-zen {__version__}" in str(error)
    assert reason in str(error)


def test_another_release_is_logged(run_small, monkeypatch, caplog):
    """Releases that understand each other run the step, and the log names both."""
    monkeypatch.setattr(base, "__version__", "9.8.7")
    run = run_small(_SUM)
    assert load(run.xcom("total")) == 3
    (record,) = (each for each in caplog.records if each.name == "airflow_zen.runner")
    assert record.levelno == logging.WARNING
    assert f"has airflow-provider-zen {__version__}, the Airflow worker has 9.8.7." in record.getMessage()


_DATA = """
import importlib.resources, pkgutil
from pathlib import Path
import shop_weights
from airflow.sdk import dag
from airflow_zen import ml_step

HERE = Path(__file__).parent

@ml_step
def reads(value: int) -> list[str]:
    texts = [path.read_text() for path in (HERE / "own.json", shop_weights.FILE)]
    texts.append(importlib.resources.files("shop_weights").joinpath("weights.json").read_text())
    texts.append(pkgutil.get_data("shop_weights", "weights.json").decode())
    return texts

@dag(schedule=None)
def pipeline():
    reads(1)
"""


@pytest.fixture
def data_files(tmp_path, import_folder):
    """A file beside the DAG file, and one in a package of the project."""
    (tmp_path / "own.json").write_text("own")
    (import_folder / "shop_weights").mkdir()
    (import_folder / "shop_weights/weights.json").write_text("weights")
    text = 'from pathlib import Path\n\nFILE = Path(__file__).with_name("weights.json")\n'
    (import_folder / "shop_weights/__init__.py").write_text(text)
    return tmp_path


@pytest.mark.parametrize("small", ["in-process", "python", "virtualenv"], indirect=True)
def test_data_files_beside_the_code(run_file, small, data_files):
    """Files beside the DAG file and in packages of the project are found by another interpreter on the worker."""
    run = run_file(_DATA, small)
    assert run.states == {"reads": "success"}, run.tasks[-1].error
    assert load(run.xcom("reads")) == ["own", "weights", "weights", "weights"]


@pytest.mark.parametrize("small", ["docker"], indirect=True)
def test_a_data_file_that_is_not_there_is_named(run_file, small, data_files):
    """Where the file is on the worker only, the error has its path, and a note that says how to bring it there."""
    error = run_file(_DATA, small).tasks[-1].error
    assert (type(error), error.filename) == (FileNotFoundError, str(data_files / "own.json"))
    assert str(data_files / "own.json") in str(error)
    assert "is on the Airflow worker and not in Docker(" in error.__notes__[0]
    mounted = msgspec.structs.replace(small, mounts=(*small.mounts, f"{data_files}:{data_files}:ro"))
    run = run_file(_DATA, mounted, run_id="manual__2")
    assert load(run.xcom("reads")) == ["own", "weights", "weights", "weights"]


_CHAIN = """
from airflow.sdk import dag
from airflow_zen import ArtifactRef, load, ml_step

@ml_step
def first(value: int) -> dict:
    return {"values": [value] * 3}

@ml_step
def second(made: dict, again: list[dict], ref: ArtifactRef) -> dict:
    return {"total": sum(made["values"]), "again": again, "loaded": load(ref)}

@dag(schedule=None)
def pipeline():
    made = first(2)
    second(made, [made, {"plain": 1}], made)
"""


@pytest.mark.parametrize("small", ["docker"], indirect=True)
def test_an_artifact_root_at_another_address(run_file, small, root):
    """With `artifact_root` the far side reads and writes the artifact root there, and the refs here have their own address."""
    root.mkdir()
    mounts = (*small.mounts, f"{root}:/mnt/artifacts")
    run = run_file(_CHAIN, msgspec.structs.replace(small, mounts=mounts, artifact_root="/mnt/artifacts/"))
    assert run.states == {"first": "success", "second": "success"}, run.tasks[-1].error
    wire, made = run.xcom("second"), {"values": [2, 2, 2]}
    assert wire["uri"].startswith(f"{root}/artifacts/")
    assert load(wire) == {"total": 6, "again": [made, {"plain": 1}], "loaded": made}
