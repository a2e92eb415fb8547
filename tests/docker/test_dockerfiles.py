"""Checks of the images that build nothing."""

import re
import subprocess

import pytest

from tests.docker.compose import DOCKER, REPOSITORY, program_path

CONSTRAINTS = (REPOSITORY / "constraints/python-3.11.txt").read_text().splitlines()
DOCKERFILES = ["Dockerfile", "mlflow.Dockerfile"]


def pinned(name):
    return next(line.split("==")[1] for line in CONSTRAINTS if line.startswith(f"{name}=="))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_reports_nothing(name):
    """A linter for Dockerfiles, with ShellCheck, reports nothing, not even information."""
    done = subprocess.run([program_path("hadolint"), "--no-color", DOCKER / name], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_everything_that_pip_installs_is_constrained(name):
    """Each `pip install` has the constraints that the tests use."""
    text = (DOCKER / name).read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install [^\n&]*", text)
    assert installs
    assert [command for command in installs if "--constraint" not in command] == []
    words = {word for command in installs for word in command.split()[2:] if re.fullmatch(r"[a-z][a-z0-9-]*", word)}
    assert {word for word in words if not any(line.startswith(f"{word}==") for line in CONSTRAINTS)} == set()


def test_the_airflow_image_is_the_pinned_airflow():
    """The base image and the constraints have the same version of Airflow and of Python."""
    text = (DOCKER / "Dockerfile").read_text()
    assert re.findall(r"^FROM apache/airflow:(\S+)", text, re.MULTILINE) == [
        f"slim-{pinned('apache-airflow')}-python3.11"
    ]
    assert f"apache-airflow=={pinned('apache-airflow')} " in text


def test_copied_files_exist(tmp_path):
    """Each COPY has existing files that .dockerignore does not exclude."""
    let_through = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    for name in DOCKERFILES:
        for words in re.findall(r"^COPY (?!--from)(.*)", (DOCKER / name).read_text(), re.MULTILINE):
            sources = [word for word in words.split() if not word.startswith("--")][:-1]
            for source in sources:
                assert (REPOSITORY / source).exists()
                assert source.split("/")[0] in let_through
