"""Promises of `airflow_zen.caching.step_cache`."""

import pytest

from airflow_zen.caching.step_cache import KeyHistory, KeyRecord, explain_miss, nearest_record
from airflow_zen.transports import open_transport

BASE = {
    "function train": "f1",
    "function features.clean": "c1",
    "input frame": "3f2a" + "0" * 60,
    "parameter depth": "aaaa" + "0" * 60,
    "distribution scikit-learn": "1.8.0",
    "python": "3.11",
}


def remembered(key="k", **changes):
    return KeyRecord(key, f"d/{key}/train/-1/1", {**BASE, **changes}, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input frame": "91bc" + "0" * 60}, "input 'frame': 3f2a… → 91bc…"),
        ({"parameter depth": "bbbb" + "0" * 60}, "parameter 'depth': aaaa… → bbbb…"),
        ({"function features.clean": "c2"}, "function features.clean changed"),
        ({"distribution scikit-learn": "1.9.1"}, "scikit-learn 1.8.0 → 1.9.1"),
        ({"python": "3.12"}, "python: 3.11 → 3.12"),
        ({"constant LIMIT": "x"}, "constant LIMIT is new"),
        ({"function train": "f2", "python": "3.12"}, "function train changed; python: 3.11 → 3.12"),
    ],
)
def test_a_miss_names_what_differs(change, said):
    """One line names each ingredient that differs from the earlier result, old and new."""
    assert explain_miss({**BASE, **change}, {}, [remembered()]) == said


def test_short_values_are_shown():
    """A short parameter is shown as it was written, a long one by its fingerprint."""
    label = "parameter depth"
    before = KeyRecord("k", "d/k/train/-1/1", BASE, {label: "8"})
    now = {**BASE, label: "bbbb" + "0" * 60}
    assert explain_miss(now, {label: "10"}, [before]) == "parameter 'depth': 8 → 10"
    assert explain_miss(now, {label: '"x"' * 50}, [before]) == "parameter 'depth': 8 → bbbb…"


def test_a_missing_ingredient_is_named():
    """An ingredient that the key no longer has is named."""
    now = {label: value for label, value in BASE.items() if label != "function features.clean"}
    assert explain_miss(now, {}, [remembered()]) == "function features.clean is gone"


def test_the_closest_result_is_compared():
    """The earlier result that differs least is compared, the newest of several."""
    far = remembered("far", **{"function train": "x", "python": "3.10"})
    near = remembered("near", python="3.10")
    assert nearest_record(BASE, [far, near]) is near
    assert nearest_record(BASE, [near, remembered("older", python="3.9")]) is near


def test_no_earlier_result():
    """Without an earlier result the explanation says so."""
    assert explain_miss(BASE, {}, []) == "no earlier result of this task is remembered"


def test_equal_ingredients_mean_a_lost_entry():
    """When no ingredient differs, the explanation says that the entry is missing."""
    assert explain_miss(BASE, {}, [remembered()]) == "the result of d/k/train/-1/1 is no longer there"


def test_history_is_short_and_newest_first(tmp_path):
    """A task's last few keys are kept, newest first, a repeated one once; another task's are its own."""
    history = KeyHistory(open_transport(str(tmp_path), {}))
    for key in ("a", "b", "c", "d", "e", "f", "b"):
        history.add("d", "train", remembered(key))
    assert [entry.key for entry in history.recent_records("d", "train")] == ["b", "f", "e", "d", "c"]
    assert history.recent_records("d", "other") == []


@pytest.mark.parametrize(
    "damage",
    [
        b'[{"key": 1}]',
        b"[7]",
        b"7",
        b"{}",
        b"",
        b'[{"key": "k", "origin": "o", "ingredients": 1, "sources": {}}]',
        b"[",
    ],
)
def test_damaged_history_is_none(tmp_path, damage):
    """A history that cannot be read is empty, and the next result replaces it."""
    transport = open_transport(str(tmp_path), {})
    history = KeyHistory(transport)
    history.add("d", "train", remembered())
    (key,) = transport.list("cache/history")
    transport.write(key, damage)
    assert history.recent_records("d", "train") == []
    history.add("d", "train", remembered())
    assert history.recent_records("d", "train") == [remembered()]
