"""Promises of `airflow zen stack up compose`: what Docker is told, and what is said where there is none."""

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from airflow_zen.cli import stack_up
from airflow_zen.localstack.compose import compose_file
from airflow_zen.localstack.state import StackError

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = REPOSITORY / "docker" / "compose.yaml"


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Put a program on the PATH that notes how it is called; its exit code is in a file."""
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
    defaults = {"kind": "compose", "file": None, "output": "table", "compose": True, "part": None, "follow": False}
    return Namespace(**{**defaults, "lines": 20, "verbose": False, **options})


def test_what_docker_is_told(docker):
    """Each command is one of Docker's compose, on the file of this repository."""
    stack_up.up(arguments())
    stack_up.status(arguments())
    stack_up.logs(arguments(part="scheduler", follow=True, lines=5))
    stack_up.logs(arguments())
    stack_up.down(arguments())
    told = f"compose --file {FILE}"
    assert docker() == [
        f"{told} up --build --detach",
        f"{told} ps",
        f"{told} ps",
        f"{told} logs --tail=5 --follow scheduler",
        f"{told} logs --tail=20",
        f"{told} down",
    ]


def test_the_file_is_one_that_compose_reads():
    """Docker's own compose CLI reads the file that is found."""
    program = Path(sys.executable).parent / "docker-compose"
    command = [program, "--file", compose_file(None, REPOSITORY / "docs"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_of_your_own(docker, tmp_path):
    """`--file` names another file; one that is not there is said."""
    own = tmp_path / "own.yaml"
    own.write_text("services: {}")
    stack_up.down(arguments(file=str(own)))
    assert docker() == [f"compose --file {own} down"]
    with pytest.raises(StackError, match="is not there"):
        stack_up.down(arguments(file=str(tmp_path / "none.yaml")))


def test_what_docker_refuses_is_no_success(docker, tmp_path):
    """Where Docker fails, so does the command, which says what it ran."""
    (tmp_path / "code").write_text("17")
    with pytest.raises(StackError, match=r"docker compose --file .*compose.yaml down ended with 17"):
        stack_up.down(arguments())


def test_without_docker(monkeypatch, tmp_path):
    """Where there is no Docker it is said plainly, with the way without containers, before anything is done."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match=r"no `docker` program(.|\n)*stack up local"):
        stack_up.down(arguments())


def test_without_the_compose_plugin(monkeypatch, tmp_path):
    """A Docker that knows no compose is told apart from none, before secrets are made."""
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(stack_up, "make_secrets", lambda file: pytest.fail("made secrets"))
    with pytest.raises(StackError, match=r"no compose plugin(.|\n)*stack up local"):
        stack_up.up(arguments())


def test_secrets_are_made_first(tmp_path, monkeypatch):
    """The secrets that are missing are made beside the compose file."""
    from airflow_zen.localstack.compose import make_secrets

    docker = tmp_path / "docker"
    docker.mkdir()
    (docker / "secrets.sh").write_text((REPOSITORY / "docker" / "secrets.sh").read_text())
    make_secrets(docker / "compose.yaml")
    assert (docker / "secrets" / "fernet_key").exists()
