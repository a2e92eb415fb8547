"""A transport over a new local root."""

import pytest

from airflow_zen.transports import open_transport


@pytest.fixture
def root(tmp_path):
    """A root whose address would have to be quoted, to check that no code does so."""
    return str(tmp_path / "röot of artifacts")


@pytest.fixture
def transport(root):
    return open_transport(root, {})
