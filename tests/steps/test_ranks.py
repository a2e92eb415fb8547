"""Promises of the rank of a process."""

from __future__ import annotations

from airflow_zen.steps.ranks import RANKED_VARIABLE, process_rank


def test_a_rank_counts_only_in_a_run_of_several_processes():
    """A process that runs a step alone is the first, although the variable of a cluster gives it a rank."""
    assert process_rank({}) == 0
    assert process_rank({"RANK": "3"}) == 0
    assert process_rank({"RANK": "3", RANKED_VARIABLE: "1"}) == 3
