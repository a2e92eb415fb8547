"""Promises of `airflow_zen.artifacts.root`."""

from airflow_zen.artifacts.root import folder


def test_folders_stay_inside():
    """No name leads out of its folder, and none is too long for a filesystem."""
    assert folder("..") == "%2E%2E"
    assert folder("a/b") == "a%2Fb"
    assert len(folder("日" * 250)) == 250
