"""Promises of `airflow_zen.artifacts.root`."""

import pytest

from airflow_zen.artifacts.root import folder, normalise_root
from airflow_zen.errors import SettingsError


@pytest.mark.parametrize("root", ["s3:/bucket", "~nobody-by-this-name/x"])
def test_a_root_that_is_a_slip_of_the_pen(root):
    """A half-written URL or an unknown home is refused by the setting's name, and makes no folder of that name."""
    with pytest.raises(SettingsError, match=r"\[zen\] artifact_root"):
        normalise_root(root)


def test_folders_stay_inside():
    """No name leads out of its folder, and none is too long for a filesystem."""
    assert folder("..") == "%2E%2E"
    assert folder("a/b") == "a%2Fb"
    assert len(folder("日" * 250)) == 250
