"""Secrets are random, complete, kept, and out of everybody's way."""

import base64
import json
import stat
import subprocess

from tests.docker.compose import DOCKER, REPOSITORY


def contents(directory):
    return {file.name: file.read_text() for file in directory.iterdir()}


def make(directory):
    subprocess.run([DOCKER / "secrets.sh", directory], check=True, capture_output=True)
    return contents(directory)


def test_a_second_run_changes_nothing(secrets):
    """What exists stays: a stack that is up keeps its passwords."""
    before = contents(secrets)
    assert make(secrets) == before


def test_a_lost_file_comes_back_with_the_passwords_that_are_there(tmp_path):
    """A file put together from others is made again from them."""
    before = make(tmp_path)
    (tmp_path / "airflow_database_url").unlink()
    assert make(tmp_path) == before


def test_two_deployments_share_no_secret(secrets, tmp_path):
    """Every value is random."""
    other = make(tmp_path)
    assert [name for name, value in contents(secrets).items() if other[name] == value] == []


def test_only_the_owner_reaches_them(secrets):
    """The directory is closed to others; the files are open, for each container reads them as a user of its own."""
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in secrets.iterdir()} == {0o444}


def test_every_secret_of_the_compose_file_is_made(secrets, compose):
    """No file that the compose file names is missing."""
    assert {file for file in compose.secrets.values() if not (secrets / file.rsplit("/", 1)[1]).is_file()} == set()


def test_keys_are_as_long_as_their_readers_want(secrets):
    """Fernet takes 32 bytes, and Airflow's signing key is to have 64 bytes or more."""
    assert len(base64.urlsafe_b64decode((secrets / "fernet_key").read_text())) == 32
    assert len((secrets / "jwt_secret").read_text()) >= 64
    assert set(json.loads((secrets / "connections.json").read_text())) == {"artifacts", "mlflow"}


def test_git_ignores_them():
    """The directory they are made in by default never becomes part of a commit."""
    asked = subprocess.run(["git", "check-ignore", "docker/secrets/fernet_key"], cwd=REPOSITORY, capture_output=True)
    assert asked.returncode == 0
