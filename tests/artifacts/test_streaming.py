"""Promises of `airflow_zen.artifacts.reader`."""

import os
import threading
import time

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_zen.artifacts.reader import _MAX_READ_AHEAD, VerifiedStream
from airflow_zen.artifacts.ref import ArtifactFile
from airflow_zen.errors import ArtifactCorrupt, ArtifactNotFound, StepInterrupted
from airflow_zen.transports import open_transport

DATA = os.urandom(3_000_000)


def described(data):
    return ArtifactFile("table.parquet", len(data), f"blake3:{blake3(data).hexdigest()}")


def stream_of(data, file, pieces, stored=None):
    """A file that arrives in `pieces`, while separate requests return the `stored` bytes."""

    class Transport:
        def read_range(self, key, start, end):
            return (data if stored is None else stored)[start:end]

    return VerifiedStream(Transport(), "artifacts/ab/table.parquet", pieces, file)


def cut(data, size):
    return (memoryview(data)[at : at + size] for at in range(0, len(data), size))


@settings(deadline=None)
@given(st.integers(1, 500), st.lists(st.integers(1, 500), min_size=1), st.booleans())
def test_sequential_reads_return_the_bytes(size, steps, tail_first):
    """However the bytes arrive and are read, every byte is in its place."""
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
def test_servers_return_the_bytes(server, request):
    """A real response is read from the end first, and then from the front."""
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
def test_damaged_bytes_are_an_error(damaged):
    """A reader of all, a part or none of the bytes gets `ArtifactCorrupt` for damaged ones at the end at the latest."""
    for wanted in (len(DATA), 100_000, 0):
        with (
            pytest.raises(ArtifactCorrupt, match=r"table.parquet differs.*Run the step"),
            stream_of(damaged, described(DATA), cut(damaged, 65_536)) as file,
        ):
            file.read_sequentially()
            file.read(wanted)


def test_separate_reads_are_compared():
    """The bytes of a separate request must equal those that arrive later."""
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


def test_a_truncated_file_is_damaged():
    """A truncated file is damaged, also when its end was fetched separately."""
    with pytest.raises(ArtifactCorrupt), stream_of(DATA, described(DATA), cut(DATA[:1_000], 65_536)) as file:
        file.seek(-8, os.SEEK_END)
        file.read(8)
        raise ValueError("mine")


def test_errors_over_good_bytes_are_kept():
    """Damaged bytes replace the reader's own error; over good bytes it stays."""
    with pytest.raises(ValueError, match="mine"), stream_of(DATA, described(DATA), cut(DATA, 65_536)):
        raise ValueError("mine")
    with pytest.raises(ArtifactCorrupt) as met, stream_of(DATA[1:], described(DATA), cut(DATA[1:], 65_536)):
        raise ValueError("mine")
    assert str(met.value.__cause__) == "mine"


def test_a_store_that_fails_fails_the_reader():
    """An error of the store reaches a reader that waits for bytes, and one that has read enough."""

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


def test_read_ahead_is_bounded():
    """While the reader discards nothing, only a bounded part of the file is received."""
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
    """An interrupted task ends at once, and the thread receives no more."""
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
