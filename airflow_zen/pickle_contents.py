"""The contents of pickles inside an object's state, such as functions of a polars expression; no pickle is loaded."""

from __future__ import annotations

import io
import operator
import pickle
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from types import CodeType
from typing import Any, ClassVar, NamedTuple

from airflow_zen.errors import FingerprintError
from airflow_zen.type_names import stable_module_name

_NO_PICKLE = (ValueError, LookupError, struct.error)
_PICKLE = re.compile(rb"\x80[\x04\x05]\x95")
_STRINGS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")
_MEMO_READS = ("BINGET", "LONG_BINGET", "GET")
# What polars writes before the pickle of a function, after the length of both in bincode.
_POLARS_FUNCTION = b"PLPYFN"
# Set by Python in every function and module; they depend on the checkout, or are no code.
_UNREAD = ("__doc__", "__file__", "__module__", "__name__", "__package__")


def pickled_definitions(text: bytes) -> Iterator[Any]:
    """Yield what the pickles inside bytes name; raise `FingerprintError` for what is not found."""
    for module, name in sorted(pickled_names(text)):
        try:
            yield operator.attrgetter(name)(sys.modules[module]) if name else sys.modules[module]
        except (KeyError, AttributeError) as error:
            raise FingerprintError(f"A pickle names {module}.{name}, which is not found. Set cache=False.") from error


def pickled_names(text: bytes) -> set[tuple[str, str]]:
    """Return module and qualified name of what the pickles in `text` name; the name is empty for a whole module.

    A pickle contains no code of what can be imported, and the code of lambdas and functions inside functions. Raises what
    pickletools raises for a text that begins as a pickle and is none: inside others, bytes of an image may look like one.
    """
    names = set[tuple[str, str]]()
    _add_names(text, names, () if _PICKLE.match(text) else _NO_PICKLE)
    return names


def _add_names(text: bytes, names: set[tuple[str, str]], ignored: tuple[type[Exception], ...]) -> None:
    end = 0
    while found := _PICKLE.search(text, end):
        end = found.end()
        file = io.BytesIO(text)
        file.seek(found.start())
        with suppress(*ignored):
            names.update(_names_of_pickle(file))
            end = file.tell()
        ignored = _NO_PICKLE


def _names_of_pickle(file: io.BytesIO) -> Iterator[tuple[str, str]]:
    """Yield what one pickle names, and the pickles in its bytes; the file is then at its end."""
    import pickletools

    strings, memo = ["", ""], dict[int, str]()
    operations: Iterator[tuple[Any, Any, Any]] = pickletools.genops(file)
    for operation, argument, _ in operations:
        name = operation.name
        if name == "MEMOIZE":
            memo[len(memo)] = strings[1]
        elif name in _STRINGS or name in _MEMO_READS:
            strings = [strings[1], argument if name in _STRINGS else memo[argument]]
        else:
            if name == "STACK_GLOBAL":
                yield strings[0], strings[1]
            elif name == "TUPLE1" and strings[1] in sys.modules:
                # cloudpickle imports a module by a call with its name.
                yield strings[1], ""
            elif isinstance(argument, bytes | bytearray):
                inside = set[tuple[str, str]]()
                _add_names(bytes(argument), inside, _NO_PICKLE)
                yield from inside
            strings = [strings[1], ""]


class PickledName(NamedTuple):
    """What a pickle names: a definition of a module, under the name that the module has everywhere."""

    module: str
    name: str

    def __call__(self, *arguments: Any) -> PickledCall:
        """Return the call that a pickle makes."""
        return PickledCall(self, arguments)


class PickledCall(list[Any]):
    """An object as a pickle rebuilds it: what is called, the arguments, then states and elements; nothing is run."""

    def __init__(self, called: Any, arguments: tuple[Any, ...]) -> None:
        if getattr(called, "name", "") == "_make_function":
            code, names, *others = arguments
            arguments = code, _without_unread(names), *others
        super().__init__([called, arguments])

    def __call__(self, *arguments: Any) -> Any:
        """Return what this call returns when it is called; compiled code as it is."""
        return CodeType(*arguments) if self[1] == ("CodeType",) else PickledCall(self, arguments)

    def __setstate__(self, state: Any) -> None:
        self.append(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.append((key, value))

    def add_setter(self, call: PickledCall) -> None:
        """Add a call that changes this object, such as the one that sets the attributes of a function."""
        setter, (_, *given) = call[:2]
        states = given[0] if given and isinstance(given[0], tuple) else given
        self.append((setter, [_without_unread(each) for each in states]))


def _without_unread(names: Any) -> Any:
    return {name: value for name, value in names.items() if name not in _UNREAD} if isinstance(names, dict) else names


class _StructureReader(pickle._Unpickler):  # noqa: SLF001 - the one in C insists on classes
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        return PickledName(stable_module_name(module, getattr(sys.modules.get(module), "__file__", None)), name)

    def _load_new_object(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.stack[-1](*arguments)

    def _load_pop(self) -> None:
        popped = self.stack[-1] if self.stack else None
        if isinstance(popped, PickledCall) and popped[1] and isinstance(popped[1][0], PickledCall):
            popped[1][0].add_setter(popped)
        super().load_pop()  # type: ignore[misc]  # not in typeshed

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,  # noqa: SLF001
        pickle.NEWOBJ[0]: _load_new_object,
        pickle.POP[0]: _load_pop,
    }


def pickled_structure(text: bytes) -> list[Any]:
    """Return what bytes contain: those outside of pickles, and the structure of each pickle that is understood.

    Compiled code in it has files and lines, which the reader of the structure leaves out.
    """
    parts, begin, end = list[Any](), 0, 0
    while found := _PICKLE.search(text, end):
        end = found.end()
        file = io.BytesIO(text)
        file.seek(found.start())
        with suppress(*_NO_PICKLE, TypeError, AttributeError, pickle.UnpicklingError):
            structure = _StructureReader(file).load()
            end = file.tell()
            parts += [_without_length(text, begin, found.start(), end), structure]
            begin = end
    return [*parts, text[begin:]]


def _without_length(text: bytes, begin: int, start: int, end: int) -> bytes:
    """Return what is before a pickle, without the length of a function of polars, which contains the path of its file."""
    at = text.rfind(_POLARS_FUNCTION, begin, start)
    size = end - at
    length = (
        bytes([size])
        if size < 251
        else b"\xfb" + struct.pack("<H", size)
        if size < 1 << 16
        else b"\xfc" + struct.pack("<I", size)
    )
    if at >= 0 and text.endswith(length, begin, at):
        return text[begin : at - len(length)] + text[at:start]
    return text[begin:start]
