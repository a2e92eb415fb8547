"""Promises of `airflow_zen.transports.base`."""

import pytest

from airflow_zen.errors import SettingsError
from airflow_zen.transports.base import normalize_root, quote_key_part


@pytest.mark.parametrize("root", ["s3:/bucket", "~nobody-by-this-name/x"])
def test_a_root_that_is_a_slip_of_the_pen(root):
    """A half-written URL or an unknown home is refused by the setting's name, and makes no folder of that name."""
    with pytest.raises(SettingsError, match=r"\[zen\] artifact_root"):
        normalize_root(root)


def test_folders_stay_inside():
    """No name leads out of its folder, and none is too long for a filesystem."""
    assert quote_key_part("..") == "%2E%2E"
    assert quote_key_part("a/b") == "a%2Fb"
    assert len(quote_key_part("日" * 250)) == 250
