"""`airflow zen artifacts`: what lies under a name, in which versions, to look at, take out and put in."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

import airflow_zen
from airflow_zen.artifacts.difference import STATISTICS, Difference, DifferingRows
from airflow_zen.artifacts.version import checked_name, checked_tag
from airflow_zen.cli.table import show as show_rows
from airflow_zen.cli.waiting import waiting
from airflow_zen.client import NamedArtifact, artifact, save_artifact
from airflow_zen.lineage.quantities import bytes_text, seconds_text

_DAY = 86_400


@suppress_logs_and_warning
def list_names(args: Any) -> None:
    """Print the newest version of each name, or the versions that have a tag."""
    with waiting("Reading names"):
        found = airflow_zen.artifacts(args.prefix, args.tag, args.stack)
    if not found:
        where = (
            f"has the tag {args.tag!r}" if args.tag else f"is named {args.prefix!r}…" if args.prefix else "has a name"
        )
        raise SystemExit(f"No artifact here {where}.")
    show_rows([_row(each, args.output) for each in found], args.output)


@suppress_logs_and_warning
def show(args: Any) -> None:
    """Print all that is known of one version; of a table, its columns too."""
    found = artifact(args.name, args.version, args.stack)
    facts, columns = _facts(found), [dict(column) for column in found.summary.get("columns", ())]
    if args.output in ("json", "yaml"):
        show_rows([{**facts, "columns": columns}], args.output)
        return
    show_rows([{"fact": fact, "value": value} for fact, value in facts.items() if value], args.output)
    if columns:
        show_rows([{fact: column.get(fact) for fact in ("name", *STATISTICS)} for column in columns], args.output)


@suppress_logs_and_warning
def versions(args: Any) -> None:
    """Print the versions of a name, newest first, with the tags that they have now."""
    newest = artifact(args.name, stack=args.stack)
    tags: dict[str, list[str]] = {}
    for mark in newest.stack.names.tagged(name=args.name):
        tags.setdefault(mark.version, []).append(mark.tag)
    with waiting("Reading versions"):
        found = newest.versions(args.limit)
    rows = [
        _row(each, args.output) | {"made by": each.origin, "tags": ", ".join(tags.get(each.version, ()))}
        for each in found
    ]
    show_rows([{name: value for name, value in row.items() if name != "name"} for row in rows], args.output)


@suppress_logs_and_warning
def get(args: Any) -> None:
    """Write an artifact's files, verified, into a directory that is new or empty."""
    found, path = artifact(args.name, args.version, args.stack), Path(args.path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SystemExit(f"{args.path} is there already. Name a directory that is new or empty.")
    with waiting(f"Fetching {bytes_text(found.ref.size)}"):
        copied = sorted(_copied(found.load(Path), path))
    print(f"{found.name} {found.version}: {', '.join(copied)} in {args.path}")


@suppress_logs_and_warning
def put(args: Any) -> None:
    """Store a file, a directory, or what comes from standard input, as the newest version of a name."""
    name, tags, facts = checked_name(args.name), [checked_tag(tag) for tag in args.tag], dict(map(_fact, args.metadata))
    with tempfile.TemporaryDirectory(prefix="airflow-zen-put-") as directory:
        path = Path(args.path)
        if args.path == "-":
            path = Path(directory, name.rpartition("/")[2])
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        if not path.exists():
            raise SystemExit(f"There is no {args.path}.")
        with waiting("Storing"):
            saved = save_artifact(path, name, tags, facts, args.stack)
    print(
        f"{saved.name} {saved.version}: {saved.ref.shape}, {bytes_text(saved.ref.size)}, digest {saved.ref.digest[:12]}"
    )


@suppress_logs_and_warning
def diff(args: Any) -> None:
    """Print what is different in version B from version A."""
    before = artifact(args.name, args.before, args.stack)
    with waiting("Comparing"):
        found = before.diff(args.after, args.rows)
    if args.output in ("table", "plain"):
        print(_summed(found))
    if found.changes or args.output in ("json", "yaml"):
        show_rows([_change(change, args.output) for change in found.changes], args.output)
    if found.rows and args.output in ("table", "plain"):
        print(f"Rows that only one has, among the first {found.rows.compared}:")
        show_rows(_rows(found.rows), args.output)


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


def _row(found: NamedArtifact, output: str) -> dict[str, Any]:
    ref, plain = found.ref, output in ("json", "yaml")
    return {
        "name": found.name,
        "version": found.version,
        "shape": ref.shape or ref.type,
        "size": ref.size if plain else bytes_text(ref.size),
        **({"created": found.created} if plain else {"age": _age(found)}),
        "digest": ref.digest if plain else ref.digest[:12],
    }


def _facts(found: NamedArtifact) -> dict[str, Any]:
    ref, manifest = found.ref, found.manifest
    marks = found.stack.names.tagged(name=found.name)
    return {
        "name": found.name,
        "version": found.version,
        "digest": ref.digest,
        "type": ref.type,
        "shape": ref.shape,
        "size": bytes_text(ref.size),
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
    return seconds_text(age) if age < 3 * _DAY else f"{age / _DAY:.0f} days"


def _copied(source: Path, into: Path) -> Iterator[str]:
    """Copy files out, so that nobody writes into the store through them; name each."""
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    base = source.parent if source.is_file() else source
    for file in files:
        name = file.relative_to(base)
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, into / name)
        yield name.as_posix()
    into.mkdir(parents=True, exist_ok=True)


def _fact(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SystemExit(f"--metadata takes facts such as source=BTS, got {text!r}.")
    return key, value


def _summed(found: Difference) -> str:
    if found.same:
        return "The same content."
    columns = len({change.column for change in found.changes if change.column})
    return (
        f"{len(found.changes)} differences, in {columns} columns." if columns else f"{len(found.changes)} differences."
    )


def _change(change: Any, output: str) -> dict[str, Any]:
    shown = {"column": change.column, "fact": change.fact, "before": change.before, "after": change.after}
    if output in ("json", "yaml"):
        return shown
    if change.fact == "size":
        shown |= {side: bytes_text(shown[side]) for side in ("before", "after")}
    return {name: "-" if value is None else value for name, value in shown.items()}


def _rows(found: DifferingRows) -> list[dict[str, Any]]:
    """Give the rows with all columns that any of them has."""
    sides = [("before", row) for row in found.before] + [("after", row) for row in found.after]
    columns = dict.fromkeys(name for _, row in sides for name in row)
    return [{"only": side, **{name: row.get(name) for name in columns}} for side, row in sides]
