"""Promises of `airflow_zen.artifacts.leases`."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from airflow_zen.artifacts.leases import LeaseRecord, LeaseRecords, LeaseStore, NullLease, TaskAttempt
from airflow_zen.transports import open_transport
from airflow_zen.transports.fsspec import FsspecTransport

KEY = "cache/ab/" + "ab" * 32 + ".json"

RESULT = b'{"done": 1}'

# Seconds after which what is waited for will not come, however busy the machine.
LONG = 120


class Work:
    """The computation of one key: the holder of the lease computes during `busy`, and stores the result for the others.

    looks: how often each thread has looked for the result.
    """

    def __init__(self, transport, busy=lambda: time.sleep(0.3), **options):
        self.transport = transport
        self.leases = LeaseStore(transport, **{"stale_after": 600.0, "heartbeat": 0.2, **options})
        self.busy = busy
        self.computed = []
        self.looks = Counter()

    def find(self):
        self.looks[threading.get_ident()] += 1
        found = self.transport.read(KEY) if self.transport.exists(KEY) else b""
        return found if found == RESULT else None

    def run(self, number):
        result, lease = self.leases.acquire_or_wait(KEY, self.find)
        if result is not None:
            return result
        with lease:
            self.computed.append(number)
            self.busy()
            lease.commit(self.store)
        return RESULT

    def store(self):
        self.transport.write(KEY, RESULT)

    def until_looked(self, count, times=2):
        """Wait until so many threads have each looked so often from now on: between two looks one sees the lease."""
        before = self.looks.copy()
        until(lambda: sum(looks - before[thread] >= times for thread, looks in self.looks.copy().items()) >= count)


def until(reached):
    last = time.monotonic() + LONG
    while not reached():
        assert time.monotonic() < last
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr("airflow_zen.artifacts.leases._MAX_POLL_INTERVAL", 0.1)


@pytest.fixture
def beats(monkeypatch):
    """Collect the heartbeats that are written to the leases of a transport."""

    def counting(transport):
        seen, write = [], type(transport).write

        def counted(self, key, data):
            write(self, key, data)
            if key == KEY and data != RESULT:
                seen.append(key)

        monkeypatch.setattr(type(transport), "write", counted)
        return seen

    return counting


@pytest.fixture(params=["local", "ceph", "moto"])
def transport(request, tmp_path):
    """A store with conditional writes."""
    if request.param == "local":
        return open_transport(str(tmp_path / "root"), {})
    server = request.getfixturevalue(request.param)
    return open_transport(f"s3://{server.bucket}/flight-{os.urandom(4).hex()}", server.storage_options())


def leases(transport):
    """Return the keys of leases, that of the first holder too."""
    keys = transport.list("cache")
    return [key for key in keys if ".lease/" in key or transport.read(key) != RESULT]


def test_one_of_many_computes(transport):
    """Of 32 that start together one computes, all get its result, and no lease is left."""
    work = Work(transport)
    start = threading.Barrier(32)

    def run(number):
        start.wait()
        return work.run(number)

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(run, range(32))) == {RESULT}
    assert len(work.computed) == 1
    assert leases(transport) == []


def test_a_failure_lets_the_others_compute_at_once(transport):
    """When the holder fails, all waiting processes compute at once, not one after the other."""
    work = Work(transport)
    _, lease = work.leases.acquire_or_wait(KEY, work.find)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(work.leases.acquire_or_wait, KEY, work.find) for _ in range(3)]
        work.until_looked(3)
        with pytest.raises(ValueError), lease:
            raise ValueError
        turns = [future.result(timeout=LONG) for future in waiting]
    assert [(result, type(turn)) for result, turn in turns] == [(None, NullLease)] * 3


def test_a_lease_is_available_after_a_failure(transport):
    """A lease that ended without a result does not block the next one."""
    work = Work(transport)
    _, lease = work.leases.acquire_or_wait(KEY, work.find)
    with lease:
        pass
    assert work.run(1) == RESULT


def test_after_a_failure_one_computes_for_all_again(transport):
    """After a failure one of several new processes computes, and no lease is left."""
    work = Work(transport)
    with pytest.raises(ValueError, match="no"), work.leases.acquire_or_wait(KEY, work.find)[1]:
        raise ValueError("no")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work.run, range(8))) == {RESULT}
    assert len(work.computed) == 1
    assert leases(transport) == []


def test_a_result_that_came_before_the_lease_is_used(tmp_path):
    """After the lease is acquired the result is looked up again, and an existing one is not computed."""
    work = Work(open_transport(str(tmp_path), {}))
    work.store()
    result, lease = work.leases.acquire_or_wait(KEY, work.find)
    assert (result, type(lease), leases(work.transport)) == (RESULT, NullLease, [])


def test_a_long_computation_keeps_its_lease(transport, beats):
    """A holder that sends heartbeats keeps its lease for longer than the time after which it would be stale."""
    seen = beats(transport)

    def busy():
        until(lambda: len(seen) > 8)
        work.until_looked(1, times=4)

    # Time is what the holder's beats make it: however slow the machine, four of them are the patience.
    work = Work(transport, busy, stale_after=3.5, clock=lambda: float(len(seen)))
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(work.run, range(2))) == {RESULT}
    assert len(work.computed) == 1


def test_a_slow_store_does_not_expire_a_lease(tmp_path, monkeypatch):
    """A store that is slower than the stale time expires no lease: the time of the request counts."""
    transport = open_transport(str(tmp_path), {})
    now, asked, read = [0.0], count(), LeaseRecords.read
    work = Work(transport, stale_after=20.0, clock=lambda: now[0])
    work.leases.acquire_or_wait(KEY, work.find)

    def slow(self, number):
        """Be slow before the answer is found, then after it; the holder writes while that one is on its way."""
        late = next(asked) % 2
        now[0] += 25.0 * (not late)
        record = read(self, number)
        if late:
            self.write(number, LeaseRecord("holder", int(now[0])))
            now[0] += 25.0
        if now[0] > 200.0:
            work.store()
        return record

    with monkeypatch.context() as patched:
        patched.setattr(LeaseRecords, "read", slow)
        assert work.run(1) == RESULT
    assert work.computed == []


def test_a_lease_is_taken_where_a_result_cannot_be_used(transport):
    """Where the stored result is one that cannot be used, one process computes, and its result replaces it."""
    transport.write(KEY, b'{"expired": 1}')
    work = Work(transport)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work.run, range(4))) == {RESULT}
    assert len(work.computed) == 1
    assert leases(transport) == []


@pytest.mark.parametrize("with_result", [True, False])
def test_a_holder_that_stood_still_replaces_no_result(transport, beats, with_result):
    """A holder that wakes up after another has taken over writes neither a heartbeat nor its result over the other's."""
    seen, now = beats(transport), [0.0]
    work = Work(transport, stale_after=20.0, clock=lambda: now[0], heartbeat=0.05)
    _, lease = work.leases.acquire_or_wait(KEY, work.find)
    stored = []
    with lease, ThreadPoolExecutor(1) as pool:
        until(lambda: len(seen) > 1)
        now[0] = 1000.0
        lease._thread.join(LONG)
        running = pool.submit(work.run, 2)
        work.until_looked(1)
        now[0] = 2000.0
        assert running.result(timeout=LONG) == RESULT
        before = len(seen)
        if with_result:
            assert not lease.commit(lambda: stored.append(1))
    assert (stored, len(seen), leases(transport)) == ([], before, [])


def test_a_result_of_a_holder_that_stood_still_is_used(transport):
    """Where nobody has stored a result meanwhile, that of a holder that stood still is stored."""
    now = [0.0]
    work = Work(transport, stale_after=20.0, clock=lambda: now[0])
    _, lease = work.leases.acquire_or_wait(KEY, work.find)
    with lease:
        now[0] = 1000.0
        assert lease.commit(work.store)
    assert work.run(2) == RESULT
    assert work.computed == []


HOLDER = """
import sys, time
from airflow_zen.transports import open_transport
from airflow_zen.artifacts.leases import LeaseStore
lease_store = LeaseStore(open_transport(sys.argv[1], {}), stale_after=1.0, heartbeat=0.2)
_, lease = lease_store.acquire_or_wait(sys.argv[2], lambda: None)
with lease:
    print("holding", flush=True)
    time.sleep(60)
"""


def test_one_process_takes_over_from_a_killed_holder(tmp_path):
    """When the holder is killed, exactly one of the waiting processes takes over, and all get a result."""
    root, now = str(tmp_path / "root"), [0.0]
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, root, KEY], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "holding\n"
    work = Work(open_transport(root, {}), stale_after=20.0, clock=lambda: now[0])
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(work.run, number) for number in range(8)]
        work.until_looked(8)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        # All know the last that it wrote; then they have known it for too long.
        work.until_looked(8)
        assert work.computed == []
        now[0] = 1000.0
        assert {future.result(timeout=LONG) for future in running} == {RESULT}
    assert len(work.computed) == 1


def test_a_later_try_does_not_wait_for_an_earlier_one(transport):
    """The next try of a task takes over the lease of a killed worker at once; other tasks wait."""
    # No time passes, so nobody would ever find the lease stale.
    work = Work(transport, clock=lambda: 0.0)
    work.leases.acquire_or_wait(KEY, work.find, TaskAttempt("dag/run/task/3", 1))
    result, lease = work.leases.acquire_or_wait(KEY, work.find, TaskAttempt("dag/run/task/3", 2))
    assert (result, isinstance(lease, NullLease)) == (None, False)
    folder, _, number = leases(transport)[-1].rpartition("/")
    assert int(number) == 1
    held = LeaseRecords(transport, folder).read(1)
    others = [("dag/run/task/4", 3), ("dag/run/task/3", 2), ("dag/run/task/3", 1)]
    assert not any(TaskAttempt(*other).supersedes(held) for other in others)
    assert not TaskAttempt("dag/run/task/3", 3).supersedes(LeaseRecord())
    with lease:
        lease.commit(work.store)
    assert leases(transport) == []


def test_a_suspended_lease_lasts_while_it_is_renewed(transport):
    """A lease that its holder has suspended is stale later than others, and only if nobody renews it; then it is another's."""
    now = [0.0]
    work = Work(transport, clock=lambda: now[0], stale_after=20.0)
    _, lease = work.leases.acquire_or_wait(KEY, work.find, TaskAttempt("dag/run/task/3", 1))
    with lease:
        suspended = lease.suspend()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(work.leases.acquire_or_wait, KEY, work.find)
        work.until_looked(1)
        for _ in range(3):
            now[0] += 100.0
            assert suspended.renew(transport)
            work.until_looked(1)
        assert not waiting.done()
        now[0] += 121.0
        result, _ = waiting.result(timeout=LONG)
    assert result is None
    assert not suspended.renew(transport)


def test_a_suspended_lease_is_taken_over_by_its_own_try(transport):
    """The process that resumes a try has its lease at once; an abandoned one is anybody's."""
    work = Work(transport, clock=lambda: 0.0)
    _, lease = work.leases.acquire_or_wait(KEY, work.find, TaskAttempt("dag/run/task/3", 1))
    suspended = lease.suspend()
    resumed = TaskAttempt("dag/run/task/3", 1, suspended.holder)
    _, again = work.leases.acquire_or_wait(KEY, work.find, resumed)
    suspended_again = again.suspend()
    suspended.abandon(transport)
    assert suspended_again.renew(transport)
    suspended_again.abandon(transport)
    result, lease = work.leases.acquire_or_wait(KEY, work.find)
    assert (result, isinstance(lease, NullLease)) == (None, False)


def test_a_store_that_ignores_conditions_still_gives_a_result(rclone):
    """Where several processes get the lease they all compute, and the result is right."""
    root = f"s3://{rclone.bucket}/flight-{os.urandom(4).hex()}"
    work = Work(FsspecTransport(root, rclone.storage_options()))
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work.run, range(4))) == {RESULT}
    assert 1 <= len(work.computed) <= 4


def test_a_store_that_ignores_conditions_is_logged(rclone, transport, beats, caplog):
    """A holder checks, while it computes, whether the store would give the lease twice, and logs a warning."""
    loose = open_transport(f"s3://{rclone.bucket}/told-{os.urandom(4).hex()}", rclone.storage_options())
    for store, expected in ((transport, 0), (loose, 1)):
        caplog.clear()
        seen = beats(store)
        # Before its first beat.
        Work(store, lambda seen=seen: until(lambda: seen)).run(0)
        assert sum("ignores conditional writes" in message for message in caplog.messages) == expected


def test_a_store_that_refuses_leases_costs_nothing(tmp_path, monkeypatch):
    """When no lease can be written the step computes without one."""
    transport = open_transport(str(tmp_path), {})
    monkeypatch.setattr(type(transport), "create", lambda *_: (_ for _ in ()).throw(PermissionError("read only")))
    result, lease = LeaseStore(transport).acquire_or_wait(KEY, lambda: None)
    assert (result, type(lease)) == (None, NullLease)
