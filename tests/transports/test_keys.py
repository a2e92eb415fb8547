"""Promises of `airflow_zen.transports.base`."""

import pytest

from airflow_zen.errors import SettingsError
from airflow_zen.transports.base import normalize_root, quote_key_part


@pytest.mark.parametrize("root", ["s3:/bucket", "~nobody-by-this-name/x"])
def test_a_misspelled_root_is_refused(root):
    """An incomplete URL or an unknown home is refused with the setting's name, and no folder is made."""
    with pytest.raises(SettingsError, match=r"\[zen\] artifact_root"):
        normalize_root(root)


def test_folders_stay_inside():
    """No name leaves its folder, and none is too long for a filesystem."""
    assert quote_key_part("..") == "%2E%2E"
    assert quote_key_part("a/b") == "a%2Fb"
    assert len(quote_key_part("日" * 250)) == 250
