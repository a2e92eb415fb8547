"""The state of a local stack between commands."""

import stat
from pathlib import Path

from airflow_zen.localstack.processes import Process
from airflow_zen.localstack.state import Layout, LocalStack, read_local_stack, write_state


def stack_in(directory: Path) -> LocalStack:
    layout = Layout(directory, directory / "dags", 1, 2, "mark")
    return LocalStack(layout, {"AIRFLOW__ZEN__CACHE": "False"}, {"mlflow": Process(3, 4.5)})


def test_round_trip(tmp_path):
    """The state is read as it was written."""
    write_state(stack_in(tmp_path))
    assert read_local_stack(tmp_path) == stack_in(tmp_path)


def test_is_readable_by_its_owner_only(tmp_path):
    """Settings may contain credentials, so other users cannot read them."""
    write_state(stack_in(tmp_path))
    assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600


def test_without_a_stack(tmp_path):
    """A directory without a stack has no state."""
    assert read_local_stack(tmp_path) is None
