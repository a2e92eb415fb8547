"""Promises of what long work says of how far it is."""

from concurrent.futures import ThreadPoolExecutor

from airflow_zen.progress import Progress, byte_counter, track_items


def test_items_count_when_they_are_done():
    """An item counts when the next one is requested; the total is reported before the first."""
    told = []
    items = track_items("ab", "letters", told.append, 2)
    assert [(next(items), told[-1].done), (next(items), told[-1].done), next(items, None)] == [("a", 0), ("b", 1), None]
    assert list(track_items("", "none", told.append, 0)) == []
    assert told == [Progress("letters", done, 2) for done in range(3)]


def test_bytes_of_all_threads_are_summed():
    """Bytes of many threads are all in the sum, which never decreases."""
    told = []
    add_bytes = byte_counter("bytes", told.append, 16_000)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(add_bytes, [10] * 1600))
    sums = [progress.done for progress in told]
    assert sums == sorted(sums)
    assert told[-1] == Progress("bytes", 16_000, 16_000, in_bytes=True)
