"""`airflow zen artifacts …`: named artifacts and their versions."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_VERBOSE

import airflow_zen
from airflow_zen.cli.command import ARG_STACK, STACK_AND_OUTPUT, argument, command
from airflow_zen.cli.output import Cell, bytes_cell, is_machine_readable, print_rows, seconds_cell, show_progress

if TYPE_CHECKING:
    from airflow_zen.artifacts.diff import ArtifactDiff, FieldChange, RowDiff
    from airflow_zen.artifacts.named_artifacts import VersionTag
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.client.artifacts import NamedArtifact
    from airflow_zen.progress import BytesCallback, ProgressCallback
    from airflow_zen.stack import Stack

_DAY = 86_400
_CHUNK_SIZE = 1024 * 1024

_SELECTOR = "'latest', a version, the beginning of a digest, a tag, or a date or time"
_NAME = argument("name", "The artifact's name")
_ARG_VERSION = argument("--version", _SELECTOR, default="latest")
_VERSION = argument("version", _SELECTOR)
_TAG = argument("tag", "The tag")
_LIMIT = argument("--limit", "Maximum number of versions", type=int, default=20)
_PATH = argument("path", "A directory that is new or empty")
_NEW_VERSION = (
    argument("--tag", "A tag for the version; may be repeated", action="append", default=[]),
    argument("--metadata", "A key and value such as source=BTS; may be repeated", action="append", default=[]),
)


@command(
    "artifacts list",
    argument("--prefix", "Only names with this prefix", default=""),
    argument("--tag", "All versions with this tag", default=""),
    *STACK_AND_OUTPUT,
)
def list_names(args: Any) -> None:
    """List names with their newest version."""
    with show_progress("Reading names", args.output):
        found = airflow_zen.artifacts(args.prefix, args.tag, args.stack)
    if not found:
        where = f"is named {args.prefix!r}…" if args.prefix else "has a name"
        raise SystemExit(f"No artifact here {f'has the tag {args.tag!r}' if args.tag else where}.")
    marks = found[0].stack.names.list_tags()
    print_rows([_version_row(each, args.output, marks) for each in found], args.output)


@command("artifacts show", _NAME, _ARG_VERSION, *STACK_AND_OUTPUT)
def show_artifact(args: Any) -> None:
    """Show one version: its type, its origin, and the columns of a table."""
    from airflow_zen.artifacts.diff import COLUMN_STATISTICS

    found = airflow_zen.artifact(args.name, args.version, args.stack)
    facts, columns = _version_facts(found), [dict(column) for column in found.summary.get("columns", ())]
    if is_machine_readable(args.output):
        print_rows([{**facts, "columns": columns}], args.output)
        return
    print_rows([{"fact": fact, "value": value} for fact, value in facts.items() if value], args.output)
    if columns:
        rows = [{name: column.get(name) for name in ("name", *COLUMN_STATISTICS)} for column in columns]
        print_rows(rows, args.output)


@command("artifacts versions", _NAME, _LIMIT, *STACK_AND_OUTPUT)
def list_versions(args: Any) -> None:
    """List the versions of a name, newest first."""
    newest = airflow_zen.artifact(args.name, stack=args.stack)
    marks = list(newest.stack.names.list_tags(name=args.name))
    with show_progress("Reading versions", args.output):
        found = newest.versions(args.limit)
    rows = [_version_row(each, args.output, marks) for each in found]
    print_rows([{name: value for name, value in row.items() if name != "name"} for row in rows], args.output)


@command("artifacts get", _NAME, _PATH, _ARG_VERSION, ARG_STACK, ARG_VERBOSE)
def download(args: Any) -> None:
    """Write an artifact's files, verified, into a directory."""
    from dataclasses import replace

    from airflow_zen.progress import byte_counter

    found, path = airflow_zen.artifact(args.name, args.version, args.stack), Path(args.path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SystemExit(f"{args.path} already exists. Name a directory that is new or empty.")
    with show_progress("Fetching") as on_progress:
        files = replace(found, stack=_open_stack(args, "Fetching", on_progress, found.ref.size)).load(Path)
        copied = _copy_files(files, path, byte_counter("Writing", on_progress, found.ref.size))
    print(f"{found.name} {found.version}: {', '.join(copied)} in {args.path}")


@command(
    "artifacts put",
    argument("path", "A file, a directory, or - for standard input"),
    argument("--name", "The artifact's name", required=True),
    *_NEW_VERSION,
    ARG_STACK,
    ARG_VERBOSE,
)
def upload(args: Any) -> None:
    """Store a file or a directory as the newest version of a name.

    Steps and notebooks load it as a pathlib.Path. If the newest version has the same content, no version is made.
    """
    import tempfile

    from airflow_zen.progress import byte_counter

    new_version = _new_version(args)
    with tempfile.TemporaryDirectory(prefix="airflow-zen-put-") as directory, show_progress("Storing") as on_progress:
        path = Path(args.path)
        if args.path == "-":
            path = Path(directory, args.name.rpartition("/")[2])
            _copy_stream(path, sys.stdin.buffer, byte_counter("Reading standard input", on_progress))
        if not path.exists():
            raise SystemExit(f"{args.path} does not exist.")
        total = sum(file.stat().st_size for file in _files_of(path))
        stack = _open_stack(args, "Storing", on_progress, total)
        _publish(stack, args.name, stack.save(path, args.name).ref, new_version)


@command(
    "artifacts register",
    _NAME,
    argument("uri", "URL of a file or a directory under the artifact root, outside the directories of airflow_zen"),
    *_NEW_VERSION,
    ARG_STACK,
    ARG_VERBOSE,
)
def register(args: Any) -> None:
    """Name data that is already stored under the artifact root, without a copy.

    Read the data once to compute its hashes, and make it the newest version of a name. Steps and notebooks load a parquet
    file as a table, and anything else as a pathlib.Path. Pruning never deletes the data.
    """
    from airflow_zen.client.artifacts import register_files

    new_version = _new_version(args)
    with show_progress("Reading the data") as on_progress:
        stack = _open_stack(args, "Reading the data", on_progress)
        _publish(stack, args.name, register_files(stack, args.uri, args.name), new_version)


@command(
    "artifacts diff",
    _NAME,
    argument("before", _SELECTOR, metavar="A"),
    argument("after", _SELECTOR, metavar="B"),
    argument("--rows", "Show up to this number of rows that only one of two tables has", type=int, default=0),
    *STACK_AND_OUTPUT,
)
def diff(args: Any) -> None:
    """Show the differences between two versions.

    Types, rows, columns and their statistics are compared by the manifests; --rows reads both tables.
    """
    before = airflow_zen.artifact(args.name, args.before, args.stack)
    with show_progress("Comparing", args.output):
        found = before.diff(args.after, args.rows)
    machine = is_machine_readable(args.output)
    if not machine:
        print(_diff_summary(found))
    if found.changes or machine:
        print_rows([_change_row(change, machine=machine) for change in found.changes], args.output)
    if found.rows and not machine:
        print(f"Rows that only one version has, among the first {found.rows.compared}:")
        print_rows(_differing_rows(found.rows), args.output)


@command("artifacts tag", _NAME, _VERSION, _TAG, ARG_STACK, ARG_VERBOSE)
def tag(args: Any) -> None:
    """Tag a version; a tag selects the version and protects it from pruning."""
    found = airflow_zen.artifact(args.name, args.version, args.stack)
    found.tag(args.tag)
    print(f"{found.name} {found.version} is tagged {args.tag!r}.")


@command("artifacts untag", _NAME, _VERSION, _TAG, ARG_STACK, ARG_VERBOSE)
def untag(args: Any) -> None:
    """Remove a tag from a version."""
    found = airflow_zen.artifact(args.name, args.version, args.stack)
    found.untag(args.tag)
    print(f"{found.name} {found.version} is not tagged {args.tag!r}.")


def _version_row(found: NamedArtifact, output: str, tags: Iterable[VersionTag]) -> dict[str, Any]:
    age = max(found.stack.clock() - found.created, 0)
    age_text = seconds_cell(age).text if age < 3 * _DAY else f"{age / _DAY:.0f} days"
    return {
        "name": found.name,
        "version": found.version,
        "shape": found.ref.shape or found.ref.type,
        "size": bytes_cell(found.ref.size),
        **({"created": found.created} if is_machine_readable(output) else {"age": age_text}),
        "digest": Cell(found.ref.digest, found.ref.digest[:12]),
        "tags": _tags_text(found, tags),
        "made by": found.origin,
    }


def _tags_text(found: NamedArtifact, tags: Iterable[VersionTag]) -> str:
    return ", ".join(each.tag for each in tags if (each.name, each.version) == (found.name, found.version))


def _version_facts(found: NamedArtifact) -> dict[str, Any]:
    ref, manifest = found.ref, found.manifest
    return {
        "name": found.name,
        "version": found.version,
        "digest": ref.digest,
        "type": ref.type,
        "shape": ref.shape,
        "size": bytes_cell(ref.size).text,
        "files": ", ".join(file.path for file in manifest.files),
        "encoding": ref.encoding,
        "made by": found.origin,
        "tags": _tags_text(found, found.stack.names.list_tags(name=found.name)),
        "metadata": ", ".join(f"{key}={value}" for key, value in found.metadata.items()),
        "written by": ", ".join(f"{name} {version}" for name, version in manifest.libraries.items()),
        "address": ref.uri,
    }


def _diff_summary(found: ArtifactDiff) -> str:
    from airflow_zen.markup import format_count

    if found.same:
        return "The same content."
    summary = format_count(len(found.changes), "difference")
    columns = {change.column for change in found.changes if change.column}
    return f"{summary}, in {format_count(len(columns), 'column')}." if columns else f"{summary}."


def _change_row(change: FieldChange, *, machine: bool) -> dict[str, Any]:
    def shown(value: Any) -> Any:
        if machine:
            return value
        if change.fact == "mean" and isinstance(value, float):
            return f"{value:.6g}"
        return "-" if value is None else bytes_cell(value).text if change.fact == "size" else value

    sides = {"before": shown(change.before), "after": shown(change.after)}
    return {"column": change.column, "fact": change.fact, **sides}


def _differing_rows(found: RowDiff) -> list[dict[str, Any]]:
    """Return the rows with all columns that any of them has."""
    sides = [("before", row) for row in found.before] + [("after", row) for row in found.after]
    columns = dict.fromkeys(name for _, row in sides for name in row)
    return [{"only": side, **{name: row.get(name) for name in columns}} for side, row in sides]


def _new_version(args: Any) -> dict[str, Any]:
    """Return the tags and the metadata of a new version; raise an error if they or the name are not valid."""
    from airflow_zen.artifacts.ref import validate_artifact_name, validate_tag

    validate_artifact_name(args.name)
    return {"tags": tuple(map(validate_tag, args.tag)), "metadata": dict(map(_parse_metadata, args.metadata))}


def _parse_metadata(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SystemExit(f"--metadata takes a key and a value such as source=BTS, got {text!r}.")
    return key, value


def _publish(stack: Stack, name: str, ref: ArtifactRef, new_version: dict[str, Any]) -> None:
    """Make an artifact the newest version of the name, and print a line that describes it."""
    version = stack.names.add(name, ref, stack.clock(), **new_version)
    print(f"{name} {version.version}: {ref.shape}, {bytes_cell(ref.size).text}, digest {ref.digest[:12]}")


def _open_stack(args: Any, stage: str, on_progress: ProgressCallback, size: int | None = None) -> Stack:
    """Open a stack whose transfers are shown; `size` is the expected number of bytes."""
    from airflow_zen.config.settings import Settings, open_stack
    from airflow_zen.progress import byte_counter

    return open_stack(Settings.read(args.stack), lineage=False, on_bytes=byte_counter(stage, on_progress, size))


def _files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _copy_files(source: Path, into: Path, on_bytes: BytesCallback) -> list[str]:
    """Copy files, because links would allow changes of the store; return their sorted names."""
    into.mkdir(parents=True, exist_ok=True)
    base = source.parent if source.is_file() else source
    names = {file.relative_to(base).as_posix(): file for file in _files_of(source)}
    for name, file in names.items():
        with file.open("rb") as reader:
            _copy_stream(into / name, reader, on_bytes)
    return sorted(names)


def _copy_stream(path: Path, source: Any, on_bytes: BytesCallback) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while chunk := source.read(_CHUNK_SIZE):
            file.write(chunk)
            on_bytes(len(chunk))
