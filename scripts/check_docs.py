"""Check the documents: links, Python examples, doctests, and the error texts of docs/troubleshooting.md."""

from __future__ import annotations

import ast
import doctest
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

REPOSITORY = Path(__file__).resolve().parent.parent
TROUBLESHOOTING = REPOSITORY / "docs" / "troubleshooting.md"

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


def unknown_errors(document: Path) -> Iterator[str]:
    """Yield the error texts in headings that no source has: of this package, else of Airflow or MLflow."""
    texts = [text for heading in _HEADING.findall(document.read_text()) for text in re.findall(r"`([^`]+)`", heading)]
    pieces = {piece: text for text in texts for piece in re.split(r" ?… ?", text) if len(piece) > 3}
    pieces = {piece: text for piece, text in pieces.items() if not _is_in_a_literal(piece)}
    for name in ("airflow", "mlflow") if pieces else ():
        folder = Path(str(find_spec(name).origin)).parent  # type: ignore[union-attr]
        for file in folder.rglob("*.py"):
            source = file.read_text(errors="replace")
            pieces = {piece: text for piece, text in pieces.items() if piece not in source}
    yield from (f"no source has the error text {piece!r} of {text!r}" for piece, text in pieces.items())


def stale_results() -> list[str]:
    """Return a problem where the table of results is not that of bench/results.json."""
    sys.path.insert(0, str(REPOSITORY))
    from bench.__main__ import DOCUMENT, document

    is_new = DOCUMENT.read_text() == document()
    return [] if is_new else [f"docs/{DOCUMENT.name}: the table of results is old: run python -m bench --docs"]


def _is_in_a_literal(text: str) -> bool:
    return any(text in literal for literal in _literals())


@cache
def _literals() -> frozenset[str]:
    """Return the string literals of the package, each with its adjacent parts."""
    files = (REPOSITORY / "airflow_zen").rglob("*.py")
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    return frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


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
    found += [f"{TROUBLESHOOTING.relative_to(REPOSITORY)}: {problem}" for problem in unknown_errors(TROUBLESHOOTING)]
    found += stale_results()
    print("\n".join(found) or f"docs: {len(documents())} documents without problems")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
