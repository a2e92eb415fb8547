"""Promises of `airflow_zen.artifacts.leases`: one at a time, and none waits for the dead."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from airflow_zen.artifacts.leases import is_locked_by, try_lock
from airflow_zen.transports.local import LocalTransport


def test_one_of_many_gets_the_lock(transport):
    """Of many concurrent calls exactly one gets the lock."""
    gate, done = Barrier(8), Barrier(8)

    def ask(_):
        gate.wait()
        with try_lock(transport, "t.json", lambda: 1.0) as mine:
            done.wait()
            return bool(mine)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1


def test_the_lock_is_released(transport):
    """The lock is released after the block, also after an error, and only its latest record is left."""
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), try_lock(transport, "t.json", lambda: 1.0) as mine:
            assert mine
            1 / 0  # noqa: B018
    assert list(transport.list("t")) == ["t/000000000002.json"]


def test_the_lock_of_a_dead_holder_expires(transport):
    """The lock of a dead holder expires after 15 minutes; its successor keeps the lock when the first holder wakes up."""
    dead = try_lock(transport, "t.json", lambda: 0.0)
    assert dead.__enter__()
    with try_lock(transport, "t.json", lambda: 899.0) as early:
        assert not early
    with try_lock(transport, "t.json", lambda: 901.0) as late:
        assert late
        dead.__exit__(None, None, None)
        with try_lock(transport, "t.json", lambda: 902.0) as third:
            assert not third


def test_one_of_many_takes_over_an_expired_lock(transport):
    """Of many that find an expired lock at the same time exactly one gets it."""
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


def test_no_new_work_before_the_lock_expires(transport):
    """A holder may begin no new work long before its lock expires."""
    now = [0.0]
    with try_lock(transport, "t.json", lambda: now[0]) as mine:
        now[0] = 599.0
        assert mine.allows_new_work
        now[0] = 601.0
        assert not mine.allows_new_work


def test_a_lock_is_extended(transport):
    """A holder that extends its lock in time keeps it for as long as it works; one that comes too late does not."""
    now = [0.0]
    with try_lock(transport, "t.json", lambda: now[0]) as mine:
        for now[0] in (299.0, 599.0, 1198.0, 1797.0):
            assert mine.extend()
        with try_lock(transport, "t.json", lambda: 2696.0) as early:
            assert not early
        now[0] = 2398.0
        assert not mine.extend()
    with try_lock(transport, "t.json", lambda: 2399.0) as released:
        assert released


def test_says_who_holds_it(transport):
    """Whether a process still holds a lock is known by its name, until the lock is released or expires."""
    with try_lock(transport, "t.json", lambda: 1.0) as mine:
        assert is_locked_by(mine.record.holder, transport, "t.json", lambda: 2.0)
        assert not is_locked_by(mine.record.holder, transport, "t.json", lambda: 902.0)
        assert not is_locked_by("another", transport, "t.json", lambda: 2.0)
    assert not is_locked_by(mine.record.holder, transport, "t.json", lambda: 2.0)


def test_stray_files_beside_a_lock(transport):
    """A file that is no record, such as one that a file manager left, does not disturb the lock."""
    transport.write("t/.DS_Store", b"x")
    with try_lock(transport, "t.json", lambda: 1.0) as mine:
        assert mine


def test_a_store_without_conditional_writes(root):
    """Where the store ignores the condition, the last writer gets the lock, and the other does not."""

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
