"""Secrets are random, complete, kept, and not readable by others."""

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
    """Existing secrets stay: a running stack keeps its passwords."""
    before = contents(secrets)
    assert make(secrets) == before


def test_a_deleted_file_is_made_again_with_the_same_passwords(tmp_path):
    """A file that contains other secrets is made again from them."""
    before = make(tmp_path)
    (tmp_path / "airflow_database_url").unlink()
    assert make(tmp_path) == before


def test_two_deployments_share_no_secret(secrets, tmp_path):
    """Every value is random."""
    other = make(tmp_path)
    assert [name for name, value in contents(secrets).items() if other[name] == value] == []


def test_only_the_owner_can_read_the_directory(secrets):
    """Other users cannot read the directory; its files are readable, because each container has its own user."""
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in secrets.iterdir()} == {0o444}


def test_every_secret_of_the_compose_file_is_made(secrets, compose):
    """Each file that the compose file names exists."""
    assert {file for file in compose.secrets.values() if not (secrets / file.rsplit("/", 1)[1]).is_file()} == set()


def test_keys_have_the_required_length(secrets):
    """The Fernet key has 32 bytes, and Airflow's signing key at least 64."""
    assert len(base64.urlsafe_b64decode((secrets / "fernet_key").read_text())) == 32
    assert len((secrets / "jwt_secret").read_text()) >= 64
    assert set(json.loads((secrets / "connections.json").read_text())) == {"artifacts", "mlflow"}


def test_git_ignores_the_secrets():
    """Git ignores the default directory of the secrets."""
    asked = subprocess.run(["git", "check-ignore", "docker/secrets/fernet_key"], cwd=REPOSITORY, capture_output=True)
    assert asked.returncode == 0
