"""No edit of a line changes the result of a step without changing its key."""

from __future__ import annotations

import io
import keyword
import random
import re
import resource
import signal
import sys
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from airflow_zen.caching.code import fingerprint_code
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import combine_fingerprints
from tests.caching.code.project import Project

SOURCES = Path(__file__).parent / "mutated"
SEED = 20_26
MAX_CPU_SECONDS = 0.3  # of one run: an edit may make a loop endless
UNCACHED = "uncached"

OTHERS = {
    "+": "-", "-": "+", "*": "+", "/": "*", "//": "/", "%": "//", "**": "*", "<": "<=", "<=": "<", ">": ">=", ">=": "<",
    "==": "!=", "!=": "==", "+=": "-=", "and": "or", "or": "and", "in": "not in", "not": "", "is": "is not", "True": "False",
    "False": "True", "None": "0", "if": "if not", "continue": "break", "break": "continue", "yield": "yield 0,",
    "min": "max", "max": "min", "sum": "max", "sorted": "list", "return": "return None and", "|": "&",
}  # fmt: skip


class Mutation(NamedTuple):
    """One line of a file, before and after an edit; `edit` is what it changes."""

    file: str
    number: int
    before: str
    after: str
    edit: str


class Outcome(NamedTuple):
    """The key of a step and what it returns or raises; `UNCACHED` is the key of code that is refused."""

    key: str
    result: str


def mutations(texts: dict[str, str], generator: random.Random) -> Iterator[Mutation]:
    """Yield edits of random lines for ever: of a token, or of a whole line; each gives a text that can be compiled."""
    lines = [(name, at) for name, text in texts.items() for at, line in enumerate(text.splitlines()) if line.strip()]
    tokens = {name: list(tokenize.generate_tokens(io.StringIO(text).readline)) for name, text in texts.items()}
    names = {
        name: sorted({each.string for each in found if each.type == tokenize.NAME}) for name, found in tokens.items()
    }
    while True:
        name, at = generator.choice(lines)
        here = [each for each in tokens[name] if each.start[0] == each.end[0] == at + 1 and each.string.strip()]
        line = texts[name].splitlines()[at]
        edit, after = (
            _edit_line(line, generator) if generator.random() < 0.2 else _edit_token(line, here, names[name], generator)
        )
        if after != line and _compiles(_replace_line(texts[name], at, after)):
            yield Mutation(name, at, line, after, edit)


def _edit_line(line: str, generator: random.Random) -> tuple[str, str]:
    """Delete or repeat a statement."""
    indentation = line[: len(line) - len(line.lstrip())]
    return generator.choice([("statement deleted", f"{indentation}pass"), ("statement repeated", f"{line}\n{line}")])


def _edit_token(line: str, tokens: list[Any], names: list[str], generator: random.Random) -> tuple[str, str]:
    token = generator.choice(tokens) if tokens else None
    if token is None:
        return "", line
    kinds = {tokenize.NUMBER: "number", tokenize.STRING: "text", tokenize.NAME: "name"}
    edit = "keyword" if keyword.iskeyword(token.string) else kinds.get(token.type, "operator")
    return edit, line[: token.start[1]] + _other_token(token, names, generator) + line[token.end[1] :]


def _other_token(token: Any, names: list[str], generator: random.Random) -> str:
    text: str = token.string
    if token.type == tokenize.NUMBER:
        return generator.choice([f"({text} + 1)", f"({text} * 2)", f"(-{text})", f"({text} / 2)"])
    if token.type == tokenize.STRING:
        middle = len(text) // 2
        return generator.choice([f"{text[:middle]}x{text[middle:]}", text.swapcase(), f"{text[0]}{text[2:]}"])
    if text in OTHERS and generator.random() < 0.7:
        return OTHERS[text]
    return generator.choice(names) if token.type == tokenize.NAME else text


def _replace_line(text: str, at: int, line: str) -> str:
    lines = text.splitlines()
    return "\n".join([*lines[:at], line, *lines[at + 1 :], ""])


def _compiles(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, "<mutation>", "exec")
    except SyntaxError:
        return False
    return True


class MutatedProject:
    """A copy of the project, in which one file at a time is another."""

    def __init__(self, folder: Path) -> None:
        self.texts = {path.relative_to(SOURCES).as_posix(): path.read_text() for path in sorted(SOURCES.rglob("*.py"))}
        self.project = Project(folder, self.texts)

    def outcome(self, mutation: Mutation | None = None) -> Outcome | None:
        """Return the key and the result with an edit; None when the project then cannot be imported."""
        if mutation is None:
            return self._run()
        path = self.project.folder / mutation.file
        path.write_text(_replace_line(self.texts[mutation.file], mutation.number, mutation.after))
        try:
            return self._run()
        finally:
            path.write_text(self.texts[mutation.file])

    def executed_lines(self) -> set[tuple[str, int]]:
        """Return the lines that run while the project is imported and its step is called, as files and numbers from 0."""
        found, before, prefix = set[tuple[str, int]](), sys.gettrace(), f"{self.project.folder}/"

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            if not frame.f_code.co_filename.startswith(prefix):
                return None
            if event == "line":
                found.add((frame.f_code.co_filename.removeprefix(prefix), frame.f_lineno - 1))
            return trace

        sys.settrace(trace)
        try:
            with self.project.imported() as flow:
                flow.step()
        finally:
            sys.settrace(before)
        return found

    def _run(self) -> Outcome | None:
        try:
            with self.project.imported() as flow, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return Outcome(_key(flow.step), _result(flow.step))
        except Exception:
            return None


def _key(step: Any) -> str:
    try:
        return combine_fingerprints(fingerprint_code(step).ingredients)
    except FingerprintError:
        return UNCACHED


def _result(step: Any) -> str:
    try:
        with cpu_limit(MAX_CPU_SECONDS):
            result = repr(step())
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    return re.sub("0x[0-9a-f]+", "0x", result)


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` after so many seconds of CPU time."""

    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.mark.timeout(7200)
def test_no_edit_of_a_line_escapes(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever line of the project is edited: when the result of the step changes, its key does.

    `--mutations 2000` edits so many lines; it prints how many changed the result, and how many were missed needlessly by
    what they edit.
    """
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    project, found, needless, escapes = MutatedProject(tmp_path), Counter[str](), Counter[str](), list[Mutation]()
    before = project.outcome()
    assert before
    assert before == project.outcome()
    assert before.key != UNCACHED
    executed = project.executed_lines()
    wanted = request.config.getoption("--mutations")
    for mutation in mutations(project.texts, random.Random(SEED)):
        if found.total() >= wanted:
            break
        after = project.outcome(mutation)
        if after is None:
            continue
        is_same = after.result == before.result
        kind = "uncached" if after.key == UNCACHED else "same key" if after.key == before.key else "other key"
        found[f"{'same' if is_same else 'other'} result, {kind}"] += 1
        if kind == "same key" and not is_same:
            escapes.append(mutation)
        if kind == "other key" and is_same:
            is_executed = (mutation.file, mutation.number) in executed
            needless[f"{mutation.edit}, {'executed' if is_executed else 'not executed'}"] += 1
    print(*(f"{count:6} {kind}" for kind, count in sorted(found.items())), sep="\n")
    print(*(f"{count:6} needless: {kind}" for kind, count in needless.most_common()), sep="\n")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_utime, "s of CPU")
    assert not escapes
    assert found["other result, other key"] > wanted / 3
