"""What holds for every test of the materializers."""

import pytest

from airflow_zen.materializers import user_defined


@pytest.fixture(autouse=True)
def _no_project_materializers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the unregistered subclasses of other test files, which exist as long as this process."""
    monkeypatch.setattr(user_defined, "project_materializers", lambda: iter(()))
