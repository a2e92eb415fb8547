"""Promises of `airflow_zen.artifacts.leases`: one at a time, and none waits for the dead."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from airflow_zen.artifacts.leases import try_lock
from airflow_zen.transports.local import LocalTransport


def test_one_of_many_has_the_turn(transport):
    """Of many that ask at once exactly one gets the turn."""
    gate, done = Barrier(8), Barrier(8)

    def ask(_):
        gate.wait()
        with try_lock(transport, "t.json", lambda: 1.0) as mine:
            done.wait()
            return bool(mine)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1


def test_the_turn_is_given_back(transport):
    """After the block, also after an error in it, the next one gets the turn, and no more is left than its number."""
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), try_lock(transport, "t.json", lambda: 1.0) as mine:
            assert mine
            1 / 0  # noqa: B018
    assert list(transport.list("t")) == ["t/000000000002.json"]


def test_a_dead_holder_is_not_waited_for(transport):
    """Who died with the turn loses it after a quarter of an hour; who took it over keeps it when the dead come back."""
    dead = try_lock(transport, "t.json", lambda: 0.0)
    assert dead.__enter__()
    with try_lock(transport, "t.json", lambda: 899.0) as early:
        assert not early
    with try_lock(transport, "t.json", lambda: 901.0) as late:
        assert late
        dead.__exit__(None, None, None)
        with try_lock(transport, "t.json", lambda: 902.0) as third:
            assert not third


def test_two_take_over_at_once(transport):
    """Of many that find the turn of the dead at the same moment exactly one gets it."""
    dead = try_lock(transport, "t.json", lambda: 0.0)
    dead.__enter__()
    gate, done = Barrier(8), Barrier(8)

    class Together(LocalTransport):
        def create(self, key, data):
            gate.wait()
            super().create(key, data)

    together = Together(str(transport.root))

    def ask(_):
        with try_lock(together, "t.json", lambda: 901.0) as mine:
            done.wait()
            return bool(mine)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1


def test_nothing_is_begun_at_the_end_of_a_turn(transport):
    """A holder is told to begin nothing new long before others may take its turn for that of the dead."""
    now = [0.0]
    with try_lock(transport, "t.json", lambda: now[0]) as mine:
        now[0] = 599.0
        assert mine.allows_new_work
        now[0] = 601.0
        assert not mine.allows_new_work


def test_a_store_without_conditional_writes(root):
    """Where the store overwrites instead of refusing, the last writer has the turn, and the other sees it."""

    class Overwriting(LocalTransport):
        def create(self, key, data):
            settled.wait()
            self.write(key, data)
            settled.wait()

    settled = Barrier(2)
    left = Barrier(2)
    transport = Overwriting(root)

    def ask(_):
        with try_lock(transport, "t.json", lambda: 1.0) as mine:
            left.wait()
            return bool(mine)

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(ask, range(2))) == 1
