"""The environment of the services of a local stack."""

import json
import os
import stat
import subprocess
import sys
import time

import pytest
from cryptography.fernet import Fernet
from msgspec.structs import replace

from airflow_zen.localstack.processes import MARK_VARIABLE, start_process, stop_processes
from airflow_zen.localstack.services import (
    DEPLOYMENTS,
    service_environment,
    services_of,
    shell_environment,
    write_airflow_cfg,
)
from airflow_zen.localstack.state import Layout


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path, tmp_path / "dags", 8080, 5000, "the-mark")


def test_ignores_other_settings_of_the_machine(layout, monkeypatch):
    """Settings of the machine's own Airflow and MLflow do not apply to the stack; its connections do."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    monkeypatch.setenv("AIRFLOW_CONN_STORE", "aws://")
    told = service_environment(layout, {})
    assert told["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert told["MLFLOW_TRACKING_URI"] == layout.mlflow_url
    assert told["AIRFLOW_CONN_STORE"] == "aws://"


def test_with_s3_ignores_other_keys(layout, monkeypatch):
    """With its own S3 server the stack ignores the machine's AWS settings; without one it uses them."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another key")
    assert service_environment(layout, {})["AWS_SESSION_TOKEN"] == "of another key"
    told = service_environment(replace(layout, s3_server="moto_server", s3_ports=(9,)), {})
    assert "AWS_SESSION_TOKEN" not in told
    assert told["AIRFLOW__ZEN__ARTIFACT_ROOT"] == "s3://artifacts/local"
    assert told["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"


def test_a_dag_file_may_import_large_libraries(layout):
    """Airflow's limit for the import of a DAG file is above its default, and within that of the process that imports it."""
    told = service_environment(layout, {})
    seconds = float(told["AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT"])
    assert seconds > 30
    assert float(told["AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT"]) > seconds


def test_keeps_everything_in_its_directory(layout):
    """Databases, artifacts and Airflow's home are in the directory; every URL is on the loopback."""
    told = service_environment(layout, {})
    for name in ("AIRFLOW_HOME", "AIRFLOW__ZEN__ARTIFACT_ROOT", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"):
        assert str(layout.directory) in told[name]
    for name in (
        "AIRFLOW__API__BASE_URL",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
        "AIRFLOW__ZEN__MLFLOW_TRACKING_URI",
    ):
        assert told[name].rpartition("@")[2].removeprefix("http://").startswith("127.0.0.1:")
    assert told[MARK_VARIABLE] == "the-mark"


def test_settings_take_precedence(layout):
    """The caller's settings take precedence over those of the stack."""
    assert (
        service_environment(layout, {"AIRFLOW__ZEN__ARTIFACT_ROOT": "s3://b"})["AIRFLOW__ZEN__ARTIFACT_ROOT"]
        == "s3://b"
    )


def test_secrets_are_created_once(layout):
    """Keys are strong, differ between stacks, stay the same for one, and are readable by their owner only."""
    told = service_environment(layout, {})
    Fernet(told["AIRFLOW__CORE__FERNET_KEY"])
    assert len(told["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64
    assert service_environment(layout, {}) == told
    file = layout.directory / "secrets.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(json.loads(file.read_text()).values()) <= set(told.values())


def test_pages_make_plans(layout):
    """The DAG files of a local stack are on the host of its API server, so its pages show plans; the caller can say no."""
    assert service_environment(layout, {})["AIRFLOW__ZEN__PLAN_PAGE"] == "True"
    no = {"AIRFLOW__ZEN__PLAN_PAGE": "False"}
    assert service_environment(layout, no).items() >= no.items()


def test_airflow_cfg_has_the_options(layout):
    """Airflow reads the stack's options, and those of the caller, from its airflow.cfg; only the owner can read it."""
    settings = {"AIRFLOW__SMTP__SMTP_PASSWORD": "50%s %(home)s", "OTHER": "x", "AIRFLOW__CORE__PARALLELISM": "7"}
    write_airflow_cfg(layout, settings)
    code = (
        "from airflow.configuration import conf\nimport json\n"
        "names = [('core', 'fernet_key'), ('zen', 'artifact_root'), ('smtp', 'smtp_password'), ('core', 'parallelism'), "
        "('core', 'dags_are_paused_at_creation'), ('database', 'sql_alchemy_conn')]\n"
        "print(json.dumps([conf.get(*name) for name in names]))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=shell_environment(layout, {}), capture_output=True, text=True, check=True)
    told = service_environment(layout, settings)
    assert json.loads(done.stdout.splitlines()[-1]) == [
        told["AIRFLOW__CORE__FERNET_KEY"],
        str(layout.directory / "artifacts"),
        "50%s %(home)s",
        "7",
        "False",
        told["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"],
    ]
    assert stat.S_IMODE((layout.airflow_home / "airflow.cfg").stat().st_mode) == 0o600


def test_airflow_cfg_forgets_earlier_options(layout):
    """An option that the caller no longer sets is not in airflow.cfg after the next start."""
    write_airflow_cfg(layout, {"AIRFLOW__ZEN__CACHE": "False"})
    write_airflow_cfg(layout, {})
    assert "cache" not in (layout.airflow_home / "airflow.cfg").read_text().split("[zen]")[1]


def test_shell_is_the_same_twice(layout, monkeypatch):
    """In a shell that has the stack's environment, that environment does not grow."""
    monkeypatch.setenv("NO_PROXY", "mirror,localhost")
    told = shell_environment(layout, {})
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert shell_environment(layout, {}) == told
    assert told["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable)


def test_deployments_are_served_again_with_the_stack(layout):
    """A stack that has deployments starts their service, which is ready even if one cannot be served, and ends with it."""
    assert DEPLOYMENTS not in services_of(layout)
    layout.deployments.mkdir()
    (layout.deployments / "service.json").write_text("{}")
    assert DEPLOYMENTS not in services_of(layout)
    (layout.deployments / "service.json").unlink()
    (layout.deployments / "flight_delay.json").write_text("{}")
    assert DEPLOYMENTS in services_of(layout)
    process = start_process(DEPLOYMENTS.command(layout), service_environment(layout, {}), layout.log(DEPLOYMENTS.name))
    try:
        deadline = time.monotonic() + 60
        while not DEPLOYMENTS.is_ready(layout, process) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert DEPLOYMENTS.is_ready(layout, process), layout.log(DEPLOYMENTS.name).read_text()
        assert "'flight_delay' cannot be served" in layout.log(DEPLOYMENTS.name).read_text()
    finally:
        assert not stop_processes([process], layout.mark)
    assert not DEPLOYMENTS.is_ready(layout, process)
    assert (layout.deployments / "flight_delay.json").exists()
