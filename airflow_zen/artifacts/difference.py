"""What is different between two versions, from their manifests: nothing of the artifacts is downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_zen.artifacts.hashing import hex_of
from airflow_zen.artifacts.manifest import Manifest

STATISTICS = ("type", "nulls", "distinct", "min", "max", "mean")


@dataclass(frozen=True)
class Change:
    """One fact that differs; `column` is empty for facts of the whole, None stands for what is not there or not known."""

    fact: str
    before: Any
    after: Any
    column: str = ""


@dataclass(frozen=True)
class DifferingRows:
    """Rows that only one of two tables has, a few of each; among `compared` rows of both at most."""

    before: tuple[Mapping[str, Any], ...]
    after: tuple[Mapping[str, Any], ...]
    compared: int


@dataclass(frozen=True)
class Difference:
    """All that is known to differ between two artifacts; `same` when they are the same bytes. `rows` on request."""

    same: bool
    changes: tuple[Change, ...]
    rows: DifferingRows | None = None

    def of_column(self, name: str) -> Mapping[str, tuple[Any, Any]]:
        """Give before and after by fact, for one column."""
        return {change.fact: (change.before, change.after) for change in self.changes if change.column == name}


def difference(before: Manifest, after: Manifest) -> Difference:
    """Compare two manifests: type, shape and size, columns added and gone, their types and statistics."""
    return Difference(before.digest == after.digest, (*_whole(before, after), *_columns(before, after)))


def _whole(before: Manifest, after: Manifest) -> Iterator[Change]:
    facts = [
        ("type", before.type, after.type),
        ("encoding", before.encoding, after.encoding),
        ("shape", before.summary.get("shape"), after.summary.get("shape")),
        ("rows", before.summary.get("rows"), after.summary.get("rows")),
        ("size", before.size, after.size),
    ]
    yield from (Change(fact, old, new) for fact, old, new in facts if old != new)
    if "columns" in before.summary and "columns" in after.summary:
        return
    old, new = ({file.path: file.hash for file in manifest.files} for manifest in (before, after))
    for path in sorted({*old, *new}):
        if old.get(path) != new.get(path):
            yield Change(f"file {path}", _short(old.get(path)), _short(new.get(path)))


def _columns(before: Manifest, after: Manifest) -> Iterator[Change]:
    old, new = _by_name(before), _by_name(after)
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            yield Change("column", _type(old, name), _type(new, name), name)
            continue
        for fact in STATISTICS:
            was, now = old[name].get(fact), new[name].get(fact)
            if was != now:
                yield Change(fact, was, now, name)


def _by_name(manifest: Manifest) -> dict[str, Mapping[str, Any]]:
    return {str(column["name"]): column for column in manifest.summary.get("columns", ())}


def _type(columns: Mapping[str, Mapping[str, Any]], name: str) -> Any:
    return columns[name]["type"] if name in columns else None


def _short(text: str | None) -> str | None:
    return hex_of(text)[:12] if text else None
