"""Promises of `airflow_zen.json_records`."""

import subprocess
import sys

import msgspec
import pytest

from airflow_zen.json_records import convert_record, decode_record

# A class is described once, so each round has new ones; the many fields of the inner class take time.
THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
import msgspec
from airflow_zen.json_records import convert_record

sys.setswitchinterval(1e-6)
fields = [(f"x{number}", "int | str | None", None) for number in range(40)]
barrier = Barrier(8)

def read(cls):
    barrier.wait()
    return convert_record({"first": {"x0": 1}}, cls)

with ThreadPoolExecutor(8) as pool:
    for _ in range(100):
        Inner = msgspec.defstruct("Inner", fields, module=__name__)
        Outer = msgspec.defstruct("Outer", [("first", "Inner"), ("second", "Inner | None", None)], module=__name__)
        assert len(list(pool.map(read, [Outer] * 8))) == 8
"""


def test_threads_read_the_first_records_of_a_class():
    """The first records of a class, and of one inside it, may be read by several threads at once: msgspec alone crashes."""
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


class Point(msgspec.Struct):
    x: int


@pytest.mark.parametrize("text", [b'{"x": "1"}', b"{", b"[]"])
def test_what_is_no_record_is_an_error_of_msgspec(text):
    """An error is raised each time, before and after the first record."""
    for _ in range(2):
        with pytest.raises(msgspec.DecodeError):
            decode_record(text, Point)
        assert convert_record({"x": 1}, Point) == decode_record(b'{"x": 1}', Point)
