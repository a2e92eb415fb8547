"""Promises of `airflow zen stack up compose`: the calls of Docker, and the errors without Docker."""

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

import airflow_zen
from airflow_zen.cli import stack_up
from airflow_zen.cli.stack_up import compose_file
from tests.advice import advice_of
from tests.airflow_command import call

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = REPOSITORY / "docker" / "compose.yaml"


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Put a program on the PATH that records its arguments; its exit code is in a file."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    (tmp_path / "code").write_text("0")
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/calls\n[ "$*" = "compose version" ] || exit $(cat {tmp_path}/code)\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(stack_up, "make_secrets", lambda file: None)
    return lambda: [call for call in (tmp_path / "calls").read_text().splitlines() if call != "compose version"]


def arguments(**options):
    defaults = {"kind": "compose", "file": None, "output": "table", "compose": True, "service": None, "follow": False}
    return Namespace(**{**defaults, "lines": 20, "verbose": False, **options})


def test_calls_docker_compose(docker):
    """Each command calls Docker's compose with the file of this repository."""
    stack_up.up.func(arguments())
    stack_up.status.func(arguments())
    stack_up.logs.func(arguments(service="scheduler", follow=True, lines=5))
    stack_up.logs.func(arguments())
    stack_up.down.func(arguments())
    told = f"compose --file {FILE}"
    assert docker() == [
        f"{told} up --build --detach",
        f"{told} ps",
        f"{told} ps",
        f"{told} logs --tail=5 --follow scheduler",
        f"{told} logs --tail=20",
        f"{told} down",
    ]


def test_compose_reads_the_file():
    """Docker's own compose CLI reads the file that is found."""
    program = Path(sys.executable).parent / "docker-compose"
    command = [program, "--file", compose_file(None, REPOSITORY / "docs"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_file(docker, tmp_path):
    """`--file` names another file; a missing one is reported."""
    own = tmp_path / "own.yaml"
    own.write_text("services: {}")
    stack_up.down.func(arguments(file=str(own)))
    assert docker() == [f"compose --file {own} down"]
    with pytest.raises(SystemExit, match="does not exist"):
        stack_up.down.func(arguments(file=str(tmp_path / "none.yaml")))


def test_without_a_checkout(monkeypatch, tmp_path):
    """Outside of a checkout no file is found; in one, and with `--file`, there is one."""
    monkeypatch.setattr(airflow_zen, "__file__", str(tmp_path / "site-packages" / "airflow_zen" / "__init__.py"))
    (option,) = advice_of(
        lambda: compose_file(None, tmp_path),
        r"Run this in a checkout of the repository, or name the file with --(file)\.",
    )
    assert compose_file(None, REPOSITORY / "docs") == FILE
    assert compose_file(vars(arguments(**{option: str(FILE)}))["file"], tmp_path) == FILE


def test_an_error_of_docker(docker, tmp_path):
    """If Docker fails, so does the command, and prints Docker's command line."""
    (tmp_path / "code").write_text("17")
    with pytest.raises(SystemExit, match=r"docker compose --file .*compose.yaml down ended with 17"):
        stack_up.down.func(arguments())


def test_without_docker(monkeypatch, tmp_path):
    """Without Docker the error names the way without containers, before anything is done."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (command,) = advice_of(
        lambda: stack_up.down.func(arguments()),
        r"no `docker` program.* or start the stack without containers: airflow (zen stack up local)\.",
    )
    # As far as the DAGs folder: the whole command is tried in test_stack.py.
    assert "DAGs folder" in call(*command.split(), "--directory", tmp_path / "new", "--dags", tmp_path / "none").err


def test_without_the_compose_plugin(monkeypatch, tmp_path):
    """A Docker without compose has its own error, before secrets are created."""
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(stack_up, "make_secrets", lambda file: pytest.fail("made secrets"))
    with pytest.raises(SystemExit, match=r"no compose plugin(.|\n)*stack up local"):
        stack_up.up.func(arguments())


def test_creates_missing_secrets(tmp_path):
    """The missing secrets are created beside the compose file."""
    docker = tmp_path / "docker"
    docker.mkdir()
    (docker / "secrets.sh").write_text((REPOSITORY / "docker" / "secrets.sh").read_text())
    stack_up.make_secrets(docker / "compose.yaml")
    assert (docker / "secrets" / "fernet_key").exists()
