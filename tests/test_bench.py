"""Tests of how results of benches are kept and compared."""

from __future__ import annotations

from bench.__main__ import benches, meanings, needs
from bench.measure import Row, from_json, in_turn, ratio_row, row, table, to_json, worse


def test_results_come_back_from_their_file() -> None:
    """A file of results has name, value, unit and spread of each row, and is read again."""
    rows = [Row("a_vs_b", 1.25, "times", 0.1), Row("requests", 8, "requests")]
    assert list(from_json(to_json(rows)).values()) == rows


def test_row_is_the_median_and_half_the_distance_of_the_quartiles() -> None:
    """One outlier changes neither the value of a row nor its spread."""
    assert row("x", [1.0, 2.0, 3.0, 4.0, 100.0], "s") == Row("x", 3.0, "s", 1.0)


def test_ratio_is_that_of_pairs() -> None:
    """A machine that becomes slower weighs on both sides of a pair, and does not change their ratio."""
    assert ratio_row("x", [(2.0, 1.0), (4.0, 2.0), (8.0, 4.0)]) == Row("x", 2.0, "times", 0.0)


def test_two_works_take_turns() -> None:
    """Each round runs ours, then the other; the first round is not counted."""
    calls: list[str] = []
    pairs = list(in_turn(lambda: calls.append("ours"), lambda: calls.append("other"), rounds=2))
    assert calls == ["ours", "other"] * 3
    assert len(pairs) == 2


def test_a_row_that_became_worse_by_a_quarter_is_found() -> None:
    """A row that is worse by more than a quarter is found; a smaller difference, and a new row, are not."""
    before = {"slow": Row("slow", 1.0, "s"), "same": Row("same", 1.0, "s")}
    after = {"slow": Row("slow", 1.3, "s"), "same": Row("same", 1.2, "s"), "new": Row("new", 9.0, "s")}
    assert worse(before, after) == [(before["slow"], after["slow"])]


def test_table_shows_the_rows_in_the_order_of_their_meanings() -> None:
    """The table of the documentation has a line for each row that was measured."""
    shown = table({"b": Row("b", 1234.5, "ms", 20.0)}, {"a": "not measured", "b": "measured"})
    assert shown.splitlines()[2:] == ["| `b` | measured | 1,230 ms | ± 20 |"]


def test_table_says_what_a_row_needs() -> None:
    """A row that is measured only with large libraries says so, until it was measured."""
    assert set(needs()) <= meanings().keys()
    rows = {"state": Row("state", 1.2, "times")}
    for results, end in ((rows, "| 1.2 times | ± 0 |"), ({}, "| needs the libraries of `make test-ml` | |")):
        assert table(results, {"state": "a state dict", "other": "not measured"}, ["state"]).endswith(end)


def test_every_row_has_one_bench() -> None:
    """No two benches have a row of the same name."""
    assert len(meanings()) == sum(map(len, benches().values()))
    assert {"frame_1000_save_vs_pyarrow", "estimator_import_s"} <= meanings().keys()
