"""Promises of `airflow_zen.lineage.turn`: one at a time, and none waits for the dead."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from airflow_zen.artifacts.local_transport import LocalTransport
from airflow_zen.lineage.turn import turn


def test_one_of_many_has_the_turn(transport):
    """Of many that ask at once exactly one gets the turn."""
    gate, done = Barrier(8), Barrier(8)

    def ask(_):
        gate.wait()
        with turn(transport, "t.json", lambda: 1.0) as mine:
            done.wait()
            return mine

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1


def test_the_turn_is_given_back(transport):
    """After the block, also after an error in it, the next one gets the turn, and nothing is left in the store."""
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), turn(transport, "t.json", lambda: 1.0) as mine:
            assert mine
            1 / 0  # noqa: B018
    assert not transport.exists("t.json")


def test_a_dead_holder_is_not_waited_for(transport):
    """Who died with the turn loses it after a quarter of an hour; who took it over keeps it."""
    dead = turn(transport, "t.json", lambda: 0.0)
    assert dead.__enter__()
    with turn(transport, "t.json", lambda: 899.0) as early:
        assert not early
    with turn(transport, "t.json", lambda: 901.0) as late:
        assert late
        dead.__exit__(None, None, None)
        assert transport.exists("t.json")


def test_a_store_without_conditional_writes(root):
    """Where the store overwrites instead of refusing, the last writer has the turn, and the other sees it."""

    class Overwriting(LocalTransport):
        def create(self, key, data):
            self.write(key, data)
            settled.wait()

    settled = Barrier(2)
    left = Barrier(2)
    transport = Overwriting(root)

    def ask(_):
        with turn(transport, "t.json", lambda: 1.0) as mine:
            left.wait()
            return mine

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(ask, range(2))) == 1
