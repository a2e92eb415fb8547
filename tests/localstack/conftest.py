"""One local stack for all tests that need one: the tutorial starts it."""

import shutil

import pytest

from airflow_zen.localstack.stack import stop_local_stack
from tests.localstack.tutorial import REPOSITORY, Shell, Tutorial
from tests.servers.process import memory_directory


@pytest.fixture(scope="package")
def tutorial():
    """The tutorial, followed up to the section that stops the stack."""
    home = memory_directory("tutorial-")
    directory = home / "wine" / ".zen" / "stack"
    plugins = directory / "airflow" / "plugins"
    plugins.mkdir(parents=True)
    shutil.copy(REPOSITORY / "tests" / "integration" / "plugins" / "preload.py", plugins)
    shell = Shell(home)
    try:
        yield Tutorial(shell)
    finally:
        stop_local_stack(directory)
        shell.close()
