import pytest

from airflow_zen.transports.local import LocalTransport
from airflow_zen.ui.documents import DocumentCache


class CountedReads(LocalTransport):
    """A local root that counts what is read from it."""

    reads = 0

    def read(self, *arguments, **options):
        self.reads += 1
        return super().read(*arguments, **options)


@pytest.fixture
def transport(tmp_path):
    """A root with the documents `0` to `3` of 100 bytes each."""
    transport = CountedReads(str(tmp_path))
    for number in range(4):
        transport.write(f"d/{number}", bytes([48 + number]) * 100)
    return transport


def test_reads_a_document_once(transport):
    """A document is read from the store once, and again when it was written again, or by another name."""
    cache = DocumentCache(1000)
    objects = sorted(transport.list_objects("d"), key=lambda each: each.key)
    assert (
        cache.read_all(transport, objects) == cache.read_all(transport, objects) == [b"%d" % n * 100 for n in range(4)]
    )
    assert transport.reads == 4
    transport.write("d/0", b"other")
    (changed,) = (each for each in transport.list_objects("d") if each.key == "d/0")
    assert cache.read_all(transport, [changed]) == [b"other"]


def test_reads_a_document_that_is_never_replaced_once(transport):
    """Such a document is read from the store by its key, once while the cache keeps it."""
    cache = DocumentCache(1000)
    assert cache.read(transport, "d/1") == cache.read(transport, "d/1") == b"1" * 100
    assert transport.reads == 1


def test_keeps_no_more_than_its_bound(transport):
    """Over the bound the documents that were not read for the longest time are dropped; one larger than it is never kept."""
    cache = DocumentCache(250)
    objects = sorted(transport.list_objects("d"), key=lambda each: each.key)
    for each in (*objects[:2], objects[0], objects[2]):
        cache.read_all(transport, [each])
    assert transport.reads == 3
    cache.read_all(transport, [objects[0], objects[2]])
    assert transport.reads == 3
    cache.read_all(transport, [objects[1]])
    assert transport.reads == 4
    transport.write("d/large", b"x" * 300)
    (large,) = (each for each in transport.list_objects("d") if each.key == "d/large")
    assert len(cache.read_all(transport, [large])[0]) == 300
    assert cache._size <= 250
    cache.read_all(transport, [large])
    assert transport.reads == 6
