"""`airflow zen artifacts`: what lies under a name, in which versions, to look at and to mark."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.utils.cli import suppress_logs_and_warning

import airflow_zen
from airflow_zen.artifacts.diff import COLUMN_STATISTICS, ArtifactDiff, RowDiff
from airflow_zen.artifacts.version import validate_artifact_name, validate_tag
from airflow_zen.cli.output import print_rows, show_progress
from airflow_zen.client.artifacts import NamedArtifact, artifact
from airflow_zen.client.artifacts import register_files as register_data
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.lineage.savings import format_bytes, format_count, format_seconds
from airflow_zen.progress import BytesCallback, byte_counter, ignore_bytes
from airflow_zen.transports.local import ProgressFile

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.stack import Stack

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


_CHUNK_SIZE = 1024 * 1024


@suppress_logs_and_warning
def download(args: Any) -> None:
    """Write an artifact's files, verified, into a directory that is new or empty."""
    found, path = artifact(args.name, args.version, args.stack), Path(args.path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SystemExit(f"{args.path} is there already. Name a directory that is new or empty.")
    with show_progress("Fetching") as on_progress:
        stack = _open_stack_with_progress(args.stack, byte_counter("Fetching", on_progress, found.ref.size))
        files = replace(found, stack=stack).load(Path)
        copied = sorted(_copy_files(files, path, byte_counter("Writing", on_progress, found.ref.size)))
    print(f"{found.name} {found.version}: {', '.join(copied)} in {args.path}")


@suppress_logs_and_warning
def upload(args: Any) -> None:
    """Store a file, a directory, or what comes from standard input, as the newest version of a name."""
    new_version = _NewVersion.from_args(args)
    with tempfile.TemporaryDirectory(prefix="airflow-zen-put-") as directory, show_progress("Storing") as on_progress:
        path = Path(args.path)
        if args.path == "-":
            path = Path(directory, new_version.name.rpartition("/")[2])
            _copy_stream(path, sys.stdin.buffer, byte_counter("Reading standard input", on_progress))
        if not path.exists():
            raise SystemExit(f"There is no {args.path}.")
        stack = _open_stack_with_progress(args.stack, byte_counter("Storing", on_progress, _total_size(path)))
        message = new_version.publish(stack, stack.save(path, new_version.name).ref)
    print(message)


@suppress_logs_and_warning
def register(args: Any) -> None:
    """Make data that lies under the artifact root already the newest version of a name, without a copy."""
    new_version = _NewVersion.from_args(args)
    with show_progress("Reading it through") as on_progress:
        stack = _open_stack_with_progress(args.stack, byte_counter("Reading it through", on_progress))
        message = new_version.publish(stack, register_data(stack, args.uri, new_version.name))
    print(message)


@dataclass(frozen=True)
class _NewVersion:
    """What the command line says of a new version."""

    name: str
    tags: tuple[str, ...]
    metadata: dict[str, str]

    @classmethod
    def from_args(cls, args: Any) -> _NewVersion:
        return cls(
            validate_artifact_name(args.name),
            tuple(map(validate_tag, args.tag)),
            dict(map(_parse_metadata, args.metadata)),
        )

    def publish(self, stack: Stack, ref: ArtifactRef) -> str:
        """Make an artifact the newest version of the name; say what there is now."""
        version = stack.names.add(self.name, ref, stack.clock(), tags=self.tags, metadata=self.metadata)
        return f"{self.name} {version.version}: {ref.shape}, {format_bytes(ref.size)}, digest {ref.digest[:12]}"


def _open_stack_with_progress(stack: str | None, on_bytes: BytesCallback) -> Stack:
    return open_stack(Settings.read(stack), lineage=False, on_bytes=on_bytes)


def _total_size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _copy_files(source: Path, into: Path, on_bytes: BytesCallback) -> Iterator[str]:
    """Copy files out, so that nobody writes into the store through them; name each."""
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    base = source.parent if source.is_file() else source
    for file in files:
        name = file.relative_to(base)
        with ProgressFile(file, on_bytes) as file_reader:
            _copy_stream(into / name, file_reader)
        yield name.as_posix()
    into.mkdir(parents=True, exist_ok=True)


def _copy_stream(path: Path, source: Any, on_bytes: BytesCallback = ignore_bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while chunk := source.read(_CHUNK_SIZE):
            file.write(chunk)
            on_bytes(len(chunk))


def _parse_metadata(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SystemExit(f"--metadata takes facts such as source=BTS, got {text!r}.")
    return key, value
