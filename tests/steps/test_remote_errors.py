"""Promises of errors that cross a process boundary as JSON: class, text, files and chain are those of the original."""

import errno
import json
import os
from pathlib import Path

import pytest

from airflow_zen.errors import RuntimeUnavailable
from airflow_zen.steps.remote_errors import describe_error, rebuild_error


def over_the_boundary(function):
    """Return the error that a function raises, after its description was JSON."""
    try:
        function()
    except BaseException as error:
        return rebuild_error(json.loads(json.dumps(describe_error(error))))
    raise AssertionError("nothing was raised")


def raise_(error):
    raise error


@pytest.mark.parametrize(
    "error",
    [
        KeyError("name"),
        ValueError("too large", 3),
        RuntimeUnavailable("no engine"),
        OSError("no number"),
        OSError(errno.ENOSPC, "No space left on device"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/x.json"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ExceptionGroup("several", [ValueError("one")]),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_class_and_text(error):
    """An error of Python or of this package can be caught as itself, and has the same text."""
    rebuilt = over_the_boundary(lambda: raise_(error))
    assert str(rebuilt) == str(error)
    assert type(rebuilt).__name__ == type(error).__name__
    assert isinstance(rebuilt, type(error)) or isinstance(error, ExceptionGroup)


class Remote(RuntimeUnavailable):
    """An error of a library that both sides have."""


def test_an_error_with_several_bases():
    """A class that a library makes at run time of its own error and of the function's can be caught as both."""
    made = type("Remote(KeyError)", (Remote, KeyError), {})
    rebuilt = over_the_boundary(lambda: raise_(made("name")))
    assert isinstance(rebuilt, Remote)
    assert isinstance(rebuilt, KeyError)
    assert "name" in str(rebuilt)


def test_the_files_of_an_error_of_the_system(tmp_path):
    """The number, and one or two files, are those of the original."""
    missing, target = str(tmp_path / "missing"), str(tmp_path / "target")
    rebuilt = over_the_boundary(lambda: os.rename(missing, target))
    assert (rebuilt.errno, rebuilt.filename, rebuilt.filename2) == (errno.ENOENT, missing, target)
    rebuilt = over_the_boundary(Path(missing).read_text)
    assert (type(rebuilt), rebuilt.filename, rebuilt.filename2) == (FileNotFoundError, missing, None)


def test_the_chain():
    """What an error was raised from, and what was handled meanwhile, are kept apart."""

    def caused():
        try:
            raise_(KeyError("first"))
        except KeyError as error:
            raise ValueError("second") from error

    def during():
        try:
            raise_(KeyError("first"))
        except KeyError:
            raise_(ValueError("second"))

    assert repr(over_the_boundary(caused).__cause__) == "KeyError('first')"
    found = over_the_boundary(during)
    assert (found.__cause__, repr(found.__context__)) == (None, "KeyError('first')")
