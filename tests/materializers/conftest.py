"""What holds for every test of the materializers."""

import pytest

from airflow_zen.materializers import registry, user_defined


@pytest.fixture(autouse=True)
def _no_project_materializers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the unregistered subclasses of other test files, which exist as long as this process."""
    for module in (registry, user_defined):
        monkeypatch.setattr(module, "project_materializers", lambda: iter(()))
