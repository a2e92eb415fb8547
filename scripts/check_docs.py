"""Check the documents: links lead somewhere, Python examples compile, and what is shown at a prompt is what happens."""

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
    """List the documents: at the top of the repository, and everything under docs and docker."""
    return sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("docker/*.md")])


def broken_links(document: Path) -> Iterator[str]:
    """Name the links whose file or heading is not there; addresses on the web are not asked for."""
    for match in _LINK.finditer(_without_code(document)):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / unquote(path)).resolve() if path else document
        if not target.exists():
            yield f"{link}: there is no {path}"
        elif anchor and target.suffix == ".md" and anchor not in _anchors(target):
            yield f"{link}: {target.name} has no such heading"


def broken_examples(document: Path) -> Iterator[str]:
    """Name the Python examples that do not compile, or whose output is not as shown."""
    text = document.read_text()
    for match in _FENCE.finditer(text):
        language, code = match[1], match[2]
        line = text.count("\n", 0, match.start()) + 1
        if language == "python" and ">>>" not in code:
            yield from _syntax_errors(code, line)
    failed, _ = doctest.testfile(str(document), module_relative=False, optionflags=doctest.ELLIPSIS)
    if failed:
        yield f"{failed} examples show another output than they have"


def _syntax_errors(code: str, line: int) -> Iterator[str]:
    try:
        ast.parse(code)
    except SyntaxError as error:
        yield f"line {line + (error.lineno or 0)}: {error.msg}"


def _without_code(document: Path) -> str:
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", document.read_text()))


def _anchors(document: Path) -> set[str]:
    """Give the anchors of the headings, as GitHub makes them."""
    headings = _HEADING.findall(_FENCE.sub("", document.read_text()))
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-") for heading in headings}


def main() -> int:
    """Print everything that is wrong; gives the exit code."""
    found = [
        f"{document.relative_to(REPOSITORY)}: {problem}"
        for document in documents()
        for problem in (*broken_links(document), *broken_examples(document))
    ]
    print("\n".join(found) or f"docs: {len(documents())} documents, nothing wrong")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
