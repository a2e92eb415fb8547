"""Promises of `airflow_zen.artifacts.streaming`."""

import os
import threading
import time

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_zen.artifacts.ref import ArtifactFile
from airflow_zen.artifacts.streaming import _MAX_READ_AHEAD, VerifiedStream
from airflow_zen.errors import ArtifactCorrupt, ArtifactNotFound, StepInterrupted
from airflow_zen.transports.base import open_transport

DATA = os.urandom(3_000_000)


def described(data):
    return ArtifactFile("table.parquet", len(data), f"blake3:{blake3(data).hexdigest()}")


def stream_of(data, file, pieces, stored=None):
    """A file whose bytes come in `pieces`, and of which requests give what is `stored`."""

    class Transport:
        def read_range(self, key, start, end):
            return (data if stored is None else stored)[start:end]

    return VerifiedStream(Transport(), "artifacts/ab/table.parquet", pieces, file)


def cut(data, size):
    return (memoryview(data)[at : at + size] for at in range(0, len(data), size))


@settings(deadline=None)
@given(st.integers(1, 500), st.lists(st.integers(1, 500), min_size=1), st.booleans())
def test_reading_on_gives_the_bytes(size, steps, tail_first):
    """However the bytes are cut on their way and by the reader, it gets each in its place."""
    data = DATA[:2_000]
    with stream_of(data, described(data), cut(data, size)) as file:
        if tail_first:
            file.seek(-100, os.SEEK_END)
            assert file.read() == data[-100:]
            file.seek(0)
        file.read_sequentially()
        read = b""
        while found := file.read(steps[file.tell() % len(steps)]):
            read += found
            file.discard_before(file.tell())
    assert read == data


@pytest.mark.parametrize("server", ["moto", "ceph", "azure"])
def test_servers_give_the_bytes(server, request):
    """A store's own answer is read on, from the end first and then from the front."""
    store = request.getfixturevalue(server)
    transport = open_transport(f"{store.root}/{os.urandom(4).hex()}", store.storage_options())
    transport.write("key", DATA)
    with VerifiedStream(transport, "key", transport.stream("key"), described(DATA)) as file:
        file.seek(-8, os.SEEK_END)
        assert file.read(8) == DATA[-8:]
        file.seek(0)
        file.read_sequentially()
        assert b"".join(iter(lambda: file.read(300_000), b"")) == DATA


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(DATA[:1_500_000] + b"\0\0" + DATA[1_500_002:], id="other"),
        pytest.param(DATA[:-1], id="shorter"),
        pytest.param(DATA + b"\0", id="longer"),
        pytest.param(b"", id="empty"),
    ],
)
def test_damaged_bytes_give_nothing(damaged):
    """Whoever reads all of it, a part or nothing learns of damaged bytes at the end at the latest."""
    for wanted in (len(DATA), 100_000, 0):
        with (
            pytest.raises(ArtifactCorrupt, match=r"table.parquet differs.*run the step"),
            stream_of(damaged, described(DATA), cut(damaged, 65_536)) as file,
        ):
            file.read_sequentially()
            file.read(wanted)


def test_an_end_that_was_fetched_apart_is_held_to_the_rest():
    """What a request of its own gave must be what then arrives at that place."""
    held, go = threading.Event(), cut(DATA, 65_536)

    def pieces():
        held.wait(60)
        yield from go

    other = DATA[:-50] + b"\0" * 50
    with pytest.raises(ArtifactCorrupt), stream_of(DATA, described(DATA), pieces(), stored=other) as file:
        file.seek(-100, os.SEEK_END)
        assert file.read() == other[-100:]
        held.set()
        file.seek(0)
        file.read_sequentially()
        while file.read(100_000):
            file.discard_before(file.tell())


def test_an_end_that_never_came_is_told():
    """Also where the end was fetched apart, as readers of tables do."""
    with pytest.raises(ArtifactCorrupt), stream_of(DATA, described(DATA), cut(DATA[:1_000], 65_536)) as file:
        file.seek(-8, os.SEEK_END)
        file.read(8)
        raise ValueError("mine")


def test_errors_over_good_bytes_stay_what_they_are():
    """Only where the bytes are damaged does that take the place of the reader's own error."""
    with pytest.raises(ValueError, match="mine"), stream_of(DATA, described(DATA), cut(DATA, 65_536)):
        raise ValueError("mine")
    with pytest.raises(ArtifactCorrupt) as met, stream_of(DATA[1:], described(DATA), cut(DATA[1:], 65_536)):
        raise ValueError("mine")
    assert str(met.value.__cause__) == "mine"


def test_a_store_that_fails_fails_the_reader():
    """An error of the store reaches whoever waits for bytes, and whoever has read enough."""

    def pieces():
        yield memoryview(DATA[:1000])
        raise ArtifactNotFound("404")

    for wanted in (100, 2000):
        with (
            pytest.raises(ArtifactNotFound, match=r"table.parquet was pruned.*Run the step"),
            stream_of(DATA, described(DATA), pieces()) as file,
        ):
            file.read_sequentially()
            file.read(wanted)


def test_no_more_arrives_than_is_wanted_soon():
    """While the reader lets nothing go, the store is asked for a bounded part of the file."""
    piece, come = memoryview(bytes(1024 * 1024)), []

    def pieces():
        for number in range(100):
            come.append(number)
            yield piece

    whole = bytes(100 * len(piece))
    with stream_of(whole, described(whole), pieces()) as file:
        file.read_sequentially()
        file.read(10)
        while len(come) * len(piece) <= _MAX_READ_AHEAD:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(come) * len(piece) <= _MAX_READ_AHEAD + 2 * len(piece)
        while file.read(10_000_000):
            file.discard_before(file.tell())
    assert len(come) == 100


def test_an_interrupted_reader_does_not_wait_for_the_rest():
    """A task that is told to end leaves at once, and the thread takes no more."""
    gone = threading.Event()

    def pieces():
        try:
            while True:
                yield memoryview(bytes(1024 * 1024))
        finally:
            gone.set()

    endless = ArtifactFile("table.parquet", 1 << 40, "ab" * 32)
    with pytest.raises(StepInterrupted), stream_of(b"", endless, pieces()) as file:
        file.read_sequentially()
        file.read(10)
        raise StepInterrupted
    assert gone.wait(60)
