"""`airflow zen artifacts get`, `put` and `register`: files out of the store, into it, and named where they lie."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.version import validate_artifact_name, validate_tag
from airflow_zen.artifacts.watched_file import ProgressFile
from airflow_zen.cli.progress import show_progress
from airflow_zen.client import artifact
from airflow_zen.lineage.quantities import format_bytes
from airflow_zen.progress import BytesCallback, byte_counter, ignore_bytes
from airflow_zen.registration import register_files as register_data
from airflow_zen.settings import Settings, open_stack
from airflow_zen.stack import Stack

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
