"""Reports as text, from templates and docstrings."""

from string import Template
from typing import Any

from .settings import DAYS_IN_MONTH, Segment

LINE = Template("$name: $facts")
WIDTH = 60
SEPARATOR = "=" * (WIDTH // 2)


class Report:
    """Findings by their titles."""

    version: str
    kinds = {"mean", "right"}

    def __init__(self, version, found):
        self.version, self._lines = version, [("all", facts) for facts in found]

    def add(self, title, facts):
        if title not in dict(self._lines):
            self._lines.append((title, facts))
        return self

    def __iter__(self):
        for title, facts in self._lines:
            yield title, {name: value for name, value in facts.items() if name in self.kinds}

    def __len__(self):
        return len(self._lines)

    def __str__(self):
        return f"report {self.version!s:>8} of {len(self)}"


def render(report: Any) -> str:
    lines = [str(report), Report.__doc__ or "", SEPARATOR]
    for number, (title, facts) in enumerate(report, 1):
        text = LINE.substitute(name=title.strip("-"), facts=show(facts))
        lines.append(f"{number:>2}. {text[:WIDTH]}")
    lines.append(f"{Segment.YOUNG.title}{DAYS_IN_MONTH:5}")
    return "\n".join(lines)


def show(facts, joiner=", "):
    parts = (f"{name}={value}" for name, value in sorted(facts.items()))
    return joiner.join(parts) or "nothing"
