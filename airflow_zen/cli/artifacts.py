"""`airflow zen artifacts`: what lies under a name, in which versions, to look at and to mark."""

from __future__ import annotations

from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

import airflow_zen
from airflow_zen.artifacts.difference import COLUMN_STATISTICS, ArtifactDiff, RowDiff
from airflow_zen.cli.progress import show_progress
from airflow_zen.cli.table import print_rows
from airflow_zen.client import NamedArtifact, artifact
from airflow_zen.lineage.quantities import format_bytes, format_count, format_seconds

_DAY = 86_400


@suppress_logs_and_warning
def list_names(args: Any) -> None:
    """Print the newest version of each name, or the versions that have a tag."""
    with show_progress("Reading names", args.output):
        found = airflow_zen.artifacts(args.prefix, args.tag, args.stack)
    if not found:
        where = (
            f"has the tag {args.tag!r}" if args.tag else f"is named {args.prefix!r}…" if args.prefix else "has a name"
        )
        raise SystemExit(f"No artifact here {where}.")
    print_rows([_version_row(each, args.output) for each in found], args.output)


@suppress_logs_and_warning
def show_artifact(args: Any) -> None:
    """Print all that is known of one version; of a table, its columns too."""
    found = artifact(args.name, args.version, args.stack)
    facts, columns = _version_facts(found), [dict(column) for column in found.summary.get("columns", ())]
    if args.output in ("json", "yaml"):
        print_rows([{**facts, "columns": columns}], args.output)
        return
    print_rows([{"fact": fact, "value": value} for fact, value in facts.items() if value], args.output)
    if columns:
        print_rows(
            [{fact: column.get(fact) for fact in ("name", *COLUMN_STATISTICS)} for column in columns], args.output
        )


@suppress_logs_and_warning
def list_versions(args: Any) -> None:
    """Print the versions of a name, newest first, with the tags that they have now."""
    newest = artifact(args.name, stack=args.stack)
    tags: dict[str, list[str]] = {}
    for mark in newest.stack.names.list_tags(name=args.name):
        tags.setdefault(mark.version, []).append(mark.tag)
    with show_progress("Reading versions", args.output):
        found = newest.versions(args.limit)
    rows = [
        _version_row(each, args.output) | {"made by": each.origin, "tags": ", ".join(tags.get(each.version, ()))}
        for each in found
    ]
    print_rows([{name: value for name, value in row.items() if name != "name"} for row in rows], args.output)


@suppress_logs_and_warning
def diff(args: Any) -> None:
    """Print what is different in version B from version A."""
    before = artifact(args.name, args.before, args.stack)
    with show_progress("Comparing", args.output):
        found = before.diff(args.after, args.rows)
    if args.output in ("table", "plain"):
        print(_diff_summary(found))
    if found.changes or args.output in ("json", "yaml"):
        print_rows([_change_row(change, args.output) for change in found.changes], args.output)
    if found.rows and args.output in ("table", "plain"):
        print(f"Rows that only one has, among the first {found.rows.compared}:")
        print_rows(_differing_rows(found.rows), args.output)


@suppress_logs_and_warning
def tag(args: Any) -> None:
    """Tag a version."""
    found = artifact(args.name, args.version, args.stack)
    found.tag(args.tag)
    print(f"{found.name} {found.version} is tagged {args.tag!r}.")


@suppress_logs_and_warning
def untag(args: Any) -> None:
    """Take a tag away from a version."""
    found = artifact(args.name, args.version, args.stack)
    found.untag(args.tag)
    print(f"{found.name} {found.version} is not tagged {args.tag!r}.")


def _version_row(found: NamedArtifact, output: str) -> dict[str, Any]:
    ref, plain = found.ref, output in ("json", "yaml")
    return {
        "name": found.name,
        "version": found.version,
        "shape": ref.shape or ref.type,
        "size": ref.size if plain else format_bytes(ref.size),
        **({"created": found.created} if plain else {"age": _age(found)}),
        "digest": ref.digest if plain else ref.digest[:12],
    }


def _version_facts(found: NamedArtifact) -> dict[str, Any]:
    ref, manifest = found.ref, found.manifest
    marks = found.stack.names.list_tags(name=found.name)
    return {
        "name": found.name,
        "version": found.version,
        "digest": ref.digest,
        "type": ref.type,
        "shape": ref.shape,
        "size": format_bytes(ref.size),
        "files": ", ".join(file.path for file in manifest.files),
        "encoding": ref.encoding,
        "made by": found.origin,
        "tags": ", ".join(mark.tag for mark in marks if mark.version == found.version),
        "metadata": ", ".join(f"{key}={value}" for key, value in found.metadata.items()),
        "written by": ", ".join(f"{name} {version}" for name, version in manifest.libraries.items()),
        "lies at": ref.uri,
    }


def _age(found: NamedArtifact) -> str:
    age = max(found.stack.clock() - found.created, 0)
    return format_seconds(age) if age < 3 * _DAY else f"{age / _DAY:.0f} days"


def _diff_summary(found: ArtifactDiff) -> str:
    if found.same:
        return "The same content."
    summary = format_count(len(found.changes), "difference")
    columns = {change.column for change in found.changes if change.column}
    return f"{summary}, in {format_count(len(columns), 'column')}." if columns else f"{summary}."


def _change_row(change: Any, output: str) -> dict[str, Any]:
    shown = {"column": change.column, "fact": change.fact, "before": change.before, "after": change.after}
    if output in ("json", "yaml"):
        return shown
    if change.fact == "size":
        shown |= {side: format_bytes(shown[side]) for side in ("before", "after")}
    if change.fact == "mean":
        shown |= {side: f"{shown[side]:.6g}" for side in ("before", "after") if isinstance(shown[side], float)}
    return {name: "-" if value is None else value for name, value in shown.items()}


def _differing_rows(found: RowDiff) -> list[dict[str, Any]]:
    """Give the rows with all columns that any of them has."""
    sides = [("before", row) for row in found.before] + [("after", row) for row in found.after]
    columns = dict.fromkeys(name for _, row in sides for name in row)
    return [{"only": side, **{name: row.get(name) for name in columns}} for side, row in sides]
