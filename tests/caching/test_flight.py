"""Promises of `airflow_zen.caching.flight`."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_zen.artifacts.fsspec_transport import FsspecTransport
from airflow_zen.artifacts.transport import open_transport
from airflow_zen.caching.flight import Attempt, NoFlight, SingleFlight

KEY = "ab" * 32


class Work:
    """One key's computation: whoever gets the turn computes, and leaves the result for the others."""

    def __init__(self, transport, seconds=0.3, patience=20.0):
        self.transport = transport
        self.flights = SingleFlight(transport, patience=patience, beat=0.2)
        self.seconds = seconds
        self.computed = []

    def find(self):
        return self.transport.read("result") if self.transport.exists("result") else None

    def run(self, number):
        result, flight = self.flights.turn(KEY, self.find)
        if result is not None:
            return result
        with flight:
            self.computed.append(number)
            time.sleep(self.seconds)
            self.transport.write("result", b"done")
        return b"done"


@pytest.fixture(params=["local", "ceph", "moto"])
def transport(request, tmp_path):
    """A store that honours conditional writes."""
    if request.param == "local":
        return open_transport(str(tmp_path / "root"), {})
    server = request.getfixturevalue(request.param)
    return open_transport(f"s3://{server.bucket}/flight-{os.urandom(4).hex()}", server.storage_options())


def leases(transport):
    return [key for key in transport.list("cache") if ".lease/" in key]


def test_of_many_one_computes(transport):
    """Of 32 that start together one computes, all have its result, and no lease is left behind."""
    work = Work(transport)
    start = threading.Barrier(32)

    def run(number):
        start.wait()
        return work.run(number)

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(run, range(32))) == {b"done"}
    assert len(work.computed) == 1
    assert leases(transport) == []


def test_a_failure_lets_the_others_compute_at_once(transport):
    """When the one that computes fails, those that waited compute for themselves, not one after the other."""
    work = Work(transport)
    _, flight = work.flights.turn(KEY, work.find)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(work.flights.turn, KEY, work.find) for _ in range(3)]
        time.sleep(0.5)
        with pytest.raises(ValueError), flight:
            raise ValueError
        turns = [future.result(timeout=10) for future in waiting]
    assert [(result, type(turn)) for result, turn in turns] == [(None, NoFlight)] * 3


def test_after_a_failure_there_is_a_turn_again(transport):
    """A lease that was given up does not stand in the way of the next."""
    work = Work(transport)
    _, flight = work.flights.turn(KEY, work.find)
    with flight:
        flight.abandon()
    assert work.run(1) == b"done"


def test_after_a_failure_one_computes_for_all_again(transport):
    """Those who come after a failure take turns as before it, and the one who lands leaves nothing behind."""
    work = Work(transport)
    with pytest.raises(ValueError, match="no"), work.flights.turn(KEY, work.find)[1]:
        raise ValueError("no")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work.run, range(8))) == {b"done"}
    assert len(work.computed) == 1
    assert leases(transport) == []


def test_a_result_that_came_before_the_turn_is_taken(tmp_path):
    """Who looked before another finished, and claims after, looks again and computes nothing."""
    work = Work(open_transport(str(tmp_path), {}))
    work.transport.write("result", b"done")
    result, flight = work.flights.turn(KEY, work.find)
    assert (result, type(flight), leases(work.transport)) == (b"done", NoFlight, [])


def test_a_long_computation_keeps_its_lease(transport):
    """A holder that lives longer than the patience of those who wait is not taken over."""
    work = Work(transport, seconds=5.0, patience=2.5)
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(work.run, range(2))) == {b"done"}
    assert len(work.computed) == 1


HOLDER = """
import sys, time
from airflow_zen.artifacts.transport import open_transport
from airflow_zen.caching.flight import SingleFlight
flights = SingleFlight(open_transport(sys.argv[1], {}), patience=1.0, beat=0.2)
_, flight = flights.turn(sys.argv[2], lambda: None)
with flight:
    print("holding", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_is_taken_over_by_one(tmp_path):
    """When the holder dies by kill -9, exactly one of those who wait takes over, and nobody's result is lost."""
    root = str(tmp_path / "root")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, root, KEY], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "holding\n"
    work = Work(open_transport(root, {}), patience=1.0)
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(work.run, number) for number in range(8)]
        time.sleep(1.5)
        assert work.computed == []
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert {future.result(timeout=30) for future in running} == {b"done"}
    assert len(work.computed) == 1


def test_a_later_try_waits_for_no_earlier_one(transport):
    """The next try of a task takes over the lease that a killed worker left, at once; other tasks are patient."""
    work = Work(transport)
    work.flights.turn(KEY, work.find, Attempt("dag/run/task/3", 1))
    begun = time.monotonic()
    result, flight = work.flights.turn(KEY, work.find, Attempt("dag/run/task/3", 2))
    assert time.monotonic() - begun < work.flights._patience / 2
    assert (result, isinstance(flight, NoFlight)) == (None, False)
    held = transport.read(leases(transport)[-1])
    others = [("dag/run/task/4", 3), ("dag/run/task/3", 2), ("dag/run/task/3", 1)]
    assert not any(Attempt(*other).supersedes(held) for other in others)
    assert not Attempt("dag/run/task/3", 3).supersedes(b"{}")
    with flight:
        pass
    assert leases(transport) == []


def test_a_store_that_ignores_conditions_still_gives_a_result(rclone):
    """Where several get the turn they all compute, and the result is right."""
    root = f"s3://{rclone.bucket}/flight-{os.urandom(4).hex()}"
    work = Work(FsspecTransport(root, rclone.storage_options()))
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work.run, range(4))) == {b"done"}
    assert 1 <= len(work.computed) <= 4


def test_a_store_that_ignores_conditions_is_told(rclone, transport, caplog):
    """A holder finds out, while it computes, whether the store would have let another in, and says so."""
    loose = open_transport(f"s3://{rclone.bucket}/told-{os.urandom(4).hex()}", rclone.storage_options())
    for store, expected in ((transport, 0), (loose, 1)):
        caplog.clear()
        Work(store, seconds=0.8).run(0)
        assert sum("ignores conditional writes" in message for message in caplog.messages) == expected


def test_a_store_that_refuses_leases_costs_nothing(tmp_path, monkeypatch):
    """When no lease can be written the step computes without one."""
    transport = open_transport(str(tmp_path), {})
    monkeypatch.setattr(type(transport), "create", lambda *_: (_ for _ in ()).throw(PermissionError("read only")))
    result, flight = SingleFlight(transport).turn(KEY, lambda: None)
    assert (result, type(flight)) == (None, NoFlight)
