"""What holds for every test of the materializers."""

import pytest

from airflow_zen.materializers import registry
from airflow_zen.materializers.user_defined import SubclassMaterializers


@pytest.fixture(autouse=True)
def _no_subclass_materializers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pass over the subclasses that other test files have; they would be found in this process for ever."""
    monkeypatch.setattr(registry, "subclass_materializers", SubclassMaterializers)
