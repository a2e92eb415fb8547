"""Check the documents: link targets exist, Python examples compile, and doctests have the documented output."""

from __future__ import annotations

import ast
import doctest
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

REPOSITORY = Path(__file__).resolve().parent.parent

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)


def documents() -> list[Path]:
    """Return the documents at the top of the repository, in docs and in docker."""
    return sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("docker/*.md")])


def broken_links(document: Path) -> Iterator[str]:
    """Yield the links whose file or heading does not exist; links to the web are not checked."""
    for match in _LINK.finditer(_without_code(document)):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / unquote(path)).resolve() if path else document
        if not target.exists():
            yield f"{link}: {path} does not exist"
        elif anchor and target.suffix == ".md" and anchor not in _anchors(target):
            yield f"{link}: {target.name} has no such heading"


def broken_examples(document: Path) -> Iterator[str]:
    """Yield the Python examples that do not compile, or that have another output."""
    text = document.read_text()
    for match in _FENCE.finditer(text):
        language, code = match[1], match[2]
        line = text.count("\n", 0, match.start()) + 1
        if language == "python" and ">>>" not in code:
            yield from _syntax_errors(code, line)
    failed, _ = doctest.testfile(str(document), module_relative=False, optionflags=doctest.ELLIPSIS)
    if failed:
        yield f"{failed} examples have another output"


def _syntax_errors(code: str, line: int) -> Iterator[str]:
    try:
        ast.parse(code)
    except SyntaxError as error:
        yield f"line {line + (error.lineno or 0)}: {error.msg}"


def _without_code(document: Path) -> str:
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", document.read_text()))


def _anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = _HEADING.findall(_FENCE.sub("", document.read_text()))
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-") for heading in headings}


def main() -> int:
    """Print all problems; return the exit code."""
    found = [
        f"{document.relative_to(REPOSITORY)}: {problem}"
        for document in documents()
        for problem in (*broken_links(document), *broken_examples(document))
    ]
    print("\n".join(found) or f"docs: {len(documents())} documents without problems")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
