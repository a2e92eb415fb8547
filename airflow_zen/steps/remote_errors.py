"""Exceptions over a process boundary: described as JSON, and rebuilt with a traceback that reads like the original."""

from __future__ import annotations

import builtins
import linecache
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from traceback import walk_tb
from types import FrameType, TracebackType
from typing import Any

_MAX_FRAMES = 100
_MAX_CHAIN = 10
_JSON_SCALARS = (bool, int, float, str, type(None))
_PACKAGE = str(Path(__file__).parents[1])
# Classes of these packages are the same on both sides.
_SHARED_PACKAGES = ("builtins", "airflow_zen", "airflow")


def describe_error(error: BaseException, depth: int = _MAX_CHAIN) -> dict[str, Any]:
    """Return an exception as JSON: names of its class and bases, message, arguments, notes, frames, and its cause.

    A frame is file, line, function, and the text of the line. Frames of this package before those of the step are
    omitted.
    """
    frames = [_describe_frame(frame, line) for frame, line in walk_tb(error.__traceback__)]
    while len(frames) > 1 and frames[0][0].startswith(_PACKAGE):
        frames.pop(0)
    if len(frames) > _MAX_FRAMES:
        frames = frames[: _MAX_FRAMES // 2] + frames[-_MAX_FRAMES // 2 :]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    arguments = _arguments(error)
    return {
        "classes": [f"{cls.__module__}:{cls.__qualname__}" for cls in type(error).__mro__],
        "message": _message(error),
        "arguments": list(arguments) if all(isinstance(arg, _JSON_SCALARS) for arg in arguments) else None,
        "name": getattr(error, "name", None) if isinstance(error, ImportError) else None,
        "notes": [str(note) for note in getattr(error, "__notes__", ())],
        "frames": frames,
        "cause": describe_error(cause, depth - 1) if cause and depth else None,
        "is_explicit": error.__cause__ is not None,
    }


def rebuild_error(described: Mapping[str, Any]) -> BaseException:
    """Return an exception with the same name, message, notes, chain and traceback locations.

    Its class is the original one if both sides have it: Python's, this package's or Airflow's, or a loaded class of the
    project, of which a subclass is made. Otherwise it derives from the nearest base that both sides have.
    """
    error = _rebuild_instance(described)
    for note in described["notes"]:
        error.add_note(note)
    if described["cause"]:
        cause = rebuild_error(described["cause"])
        if described["is_explicit"]:
            error.__cause__ = cause
        else:
            error.__context__ = cause
    return error.with_traceback(_rebuild_traceback(described["frames"]))


def _arguments(error: BaseException) -> tuple[Any, ...]:
    """Return the arguments with which an exception of its class is made; an `OSError` has its file names separately."""
    if isinstance(error, OSError) and error.filename is not None and len(error.args) == 2:
        return (*error.args, error.filename, None, error.filename2)
    return error.args


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 - an exception that cannot say what it is still ends the step
        return f"<no message: {type(failure).__name__}>"


def _describe_frame(frame: FrameType, line: int) -> list[Any]:
    file = frame.f_code.co_filename
    return [file, line, frame.f_code.co_qualname, linecache.getline(file, line, frame.f_globals).strip()]


def _rebuild_instance(described: Mapping[str, Any]) -> BaseException:
    names, arguments = described["classes"], described["arguments"]
    found = [cls for name in names if (cls := _find_class(name)) is not None]
    if (
        arguments is not None
        and found[0].__module__.partition(".")[0] in _SHARED_PACKAGES
        and _is_first(found[0], names)
    ):
        # A signature of its own takes perhaps other arguments.
        with suppress(Exception):
            error: BaseException = found[0](*arguments)
            if described["name"] and isinstance(error, ImportError):
                error.name = described["name"]
            return error
    return _stand_in(names[0], found, described["message"])


def _is_first(cls: type, names: Sequence[str]) -> bool:
    return names[0] == f"{cls.__module__}:{cls.__qualname__}"


def _stand_in(name: str, bases: Sequence[type[BaseException]], message: str) -> BaseException:
    """Return an instance of a new class of the same name, with the message as its text."""
    module, _, qualname = name.partition(":")
    body = {"__module__": module, "__qualname__": qualname, "__str__": lambda self: message}
    # An error of another library that is also one of Python's, such as Ray's, stays both.
    several = tuple(cls for place, cls in enumerate(bases) if not any(issubclass(each, cls) for each in bases[:place]))
    for chosen in (several, *((base,) for base in bases)):
        try:
            cls: Any = type(qualname.rpartition(".")[2], chosen, body)
            made: BaseException = cls.__new__(cls, message)
        except TypeError:  # an exception group takes more
            continue
        made.args = (message,)
        return made
    raise AssertionError("BaseException takes a message")


def _find_class(name: str) -> type[BaseException] | None:
    """Return an exception class that is loaded, or that this package or Airflow defines."""
    module, _, qualname = name.partition(":")
    if module.partition(".")[0] in ("airflow", "airflow_zen") and module not in sys.modules:
        try:
            __import__(module)
        except ImportError:
            return None
    found: Any = builtins if module == "builtins" else sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _rebuild_traceback(frames: Sequence[Sequence[Any]]) -> TracebackType | None:
    """Return a traceback of synthetic frames with the original files, names and lines."""
    last: TracebackType | None = None
    for file, line, function, text in reversed(frames):
        if not Path(file).is_file():
            _add_line(file, line, text)
        # Without an instruction Python shows the given line.
        last = TracebackType(last, _make_frame(file, function), -1, line)
    return last


def _make_frame(file: str, function: str) -> FrameType:
    names: dict[str, Any] = {"__name__": function}
    code = compile("import sys\nframe = sys._getframe()", file, "exec")
    exec(code.replace(co_name=function.rpartition(".")[2], co_qualname=function), names)  # noqa: S102 - two fixed lines
    frame: FrameType = names["frame"]
    return frame


def _add_line(file: str, line: int, text: str) -> None:
    """Register a line for tracebacks of a file that this machine does not have."""
    known = linecache.cache.get(file)
    lines = list(known[2]) if known and len(known) == 4 else []
    lines += ["\n"] * (line - len(lines))
    lines[line - 1] = f"{text}\n"
    linecache.cache[file] = (len(lines), None, lines, file)
