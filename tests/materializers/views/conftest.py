"""Stacks from which views are read."""

import os

import pytest

from tests.materializers.views.loading import open_stack


@pytest.fixture
def stack(tmp_path):
    return open_stack(str(tmp_path / "root"), {})


@pytest.fixture(params=["moto", "ceph"])
def remote(request):
    server = request.getfixturevalue(request.param)
    return open_stack(f"{server.root}/{os.urandom(4).hex()}", server.storage_options())
