"""Each error that says what to do is expected by a test: of what to do, values left out, a test has some words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import airflow_zen

PACKAGE = Path(airflow_zen.__file__).parent
ADVICE = re.compile(
    r"(?:^|[.:] |, or )(?:Add|Annotate|Ask|Call|Change|Check|Choose|Convert|Copy|Create|Declare|Define|Delete|Deploy|Do|Evaluate"
    r"|Fix|Give|Import|Install|Keep|Leave|Let|Load|Make|Move|Name|Open|Pass|Put|Read|Register|Remove|Rename|Replace|Restart"
    r"|Return|Run|Save|Select|Set|Start|Take|Try|Use|Wait|Wrap|Write)\b"
    r"|[:;] (?:give|open|run|see|set|stop) ",
)


def _text(node: ast.expr) -> str:
    """Return the text of an expression, with a line break for each value."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "\n" for part in node.values)
    return "".join(_text(part) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr))


def _advising_errors() -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each raised error that says what to do."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and node.exc and ADVICE.search(text := _text(node.exc)):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", text


def _expected_texts() -> str:
    """Return the texts in all tests but this one's, without docstrings, and without escapes of regular expressions."""
    texts = []
    for path in Path(__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        statements = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr))
        texts += [re.sub(r"\\(.)", r"\1", _text(node)) for node in strings if node not in statements]
    return "\n".join(texts)


def _runs(text: str) -> list[str]:
    """Return each three successive words of what is between two values."""
    parts = [part.split() for part in text.split("\n")]
    return [" ".join(words[at : at + 3]).strip(".,;:`'") for words in parts for at in range(len(words) - 2)]


def _advice(text: str) -> list[str]:
    """Return words of what a text says to do, or of the whole text where these are fewer than three."""
    return _runs(text[ADVICE.search(text).start() :].lstrip(".:, ")) or _runs(text)


def test_what_an_error_says_to_do_is_expected_by_a_test():
    """Words of an advice are in a test, which does what they say; a new one fails here until a test provokes its error."""
    expected, errors = _expected_texts(), [*_advising_errors()]
    assert len(errors) > 200
    unexpected = [place for place, text in errors if not any(part in expected for part in _advice(text))]
    assert unexpected == []
