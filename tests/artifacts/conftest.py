"""A transport over a new local root."""

import pytest

from airflow_zen.transports.base import open_transport


@pytest.fixture
def root(tmp_path):
    """Artifacts lie where an address would have to be quoted, to see that nobody does."""
    return str(tmp_path / "röot of artifacts")


@pytest.fixture
def transport(root):
    return open_transport(root, {})
