"""Differences between two artifacts, from their manifests alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.hashing import hash_hex
from airflow_zen.markup import html_table, text_table

if TYPE_CHECKING:
    from airflow_zen.artifacts.folder import Manifest

_HEADER = ("column", "fact", "before", "after")
COLUMN_STATISTICS = ("type", "nulls", "distinct", "min", "max", "mean")


@dataclass(frozen=True)
class FieldChange:
    """One fact that differs; `column` is empty for facts of the whole artifact; None is a missing fact."""

    fact: str
    before: Any
    after: Any
    column: str = ""


@dataclass(frozen=True)
class RowDiff:
    """A few rows that only one of two tables has; at most `compared` rows of each were compared."""

    before: tuple[Mapping[str, Any], ...]
    after: tuple[Mapping[str, Any], ...]
    compared: int


@dataclass(frozen=True)
class ArtifactDiff:
    """The differences between two artifacts; `same` when their bytes are equal. `rows` only on request."""

    same: bool
    changes: tuple[FieldChange, ...]
    rows: RowDiff | None = None

    def __str__(self) -> str:
        return text_table(_HEADER, self._table()) if self.changes else self._summary()

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._table()) if self.changes else self._summary()

    def _summary(self) -> str:
        return "The content is the same." if self.same else "The content differs, but no recorded fact does."

    def _table(self) -> list[tuple[Any, ...]]:
        return [(change.column, change.fact, change.before, change.after) for change in self.changes]

    def of_column(self, name: str) -> Mapping[str, tuple[Any, Any]]:
        """Return the values before and after, by fact, for one column."""
        return {change.fact: (change.before, change.after) for change in self.changes if change.column == name}


def diff_manifests(before: Manifest, after: Manifest) -> ArtifactDiff:
    """Compare two manifests: type, shape and size, added and removed columns, their types and statistics."""
    return ArtifactDiff(
        before.digest == after.digest, (*_artifact_changes(before, after), *_column_changes(before, after))
    )


def _artifact_changes(before: Manifest, after: Manifest) -> Iterator[FieldChange]:
    for fact in ("type", "encoding", "shape", "rows", "size"):
        was, now = (getattr(manifest, fact, manifest.summary.get(fact)) for manifest in (before, after))
        if was != now:
            yield FieldChange(fact, was, now)
    if "columns" in before.summary and "columns" in after.summary:
        return
    old, new = ({file.path: file.hash for file in manifest.files} for manifest in (before, after))
    for path in sorted({*old, *new}):
        if old.get(path) != new.get(path):
            yield FieldChange(f"file {path}", _short_hash(old.get(path)), _short_hash(new.get(path)))


def _column_changes(before: Manifest, after: Manifest) -> Iterator[FieldChange]:
    old, new = ({str(one["name"]): one for one in each.summary.get("columns", ())} for each in (before, after))
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            was, now = (columns[name]["type"] if name in columns else None for columns in (old, new))
            yield FieldChange("column", was, now, name)
            continue
        for fact in COLUMN_STATISTICS:
            was, now = old[name].get(fact), new[name].get(fact)
            if was != now:
                yield FieldChange(fact, was, now, name)


def _short_hash(text: str | None) -> str | None:
    return hash_hex(text)[:12] if text else None
