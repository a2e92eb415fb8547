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
from airflow_zen.artifacts.version import checked_name, checked_tag
from airflow_zen.artifacts.watched_file import WatchedFile
from airflow_zen.cli.progress import progress
from airflow_zen.client import artifact
from airflow_zen.lineage.quantities import bytes_text
from airflow_zen.progress import Moved, summed, unseen
from airflow_zen.registration import register as register_data
from airflow_zen.settings import Settings, open_stack
from airflow_zen.stack import Stack

_PASSING = 1024 * 1024


@suppress_logs_and_warning
def get(args: Any) -> None:
    """Write an artifact's files, verified, into a directory that is new or empty."""
    found, path = artifact(args.name, args.version, args.stack), Path(args.path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SystemExit(f"{args.path} is there already. Name a directory that is new or empty.")
    with progress("Fetching") as tell:
        watched = _watched(args.stack, summed("Fetching", tell, found.ref.size))
        files = replace(found, stack=watched).load(Path)
        copied = sorted(_copied(files, path, summed("Writing", tell, found.ref.size)))
    print(f"{found.name} {found.version}: {', '.join(copied)} in {args.path}")


@suppress_logs_and_warning
def put(args: Any) -> None:
    """Store a file, a directory, or what comes from standard input, as the newest version of a name."""
    given = _Given.of(args)
    with tempfile.TemporaryDirectory(prefix="airflow-zen-put-") as directory, progress("Storing") as tell:
        path = Path(args.path)
        if args.path == "-":
            path = Path(directory, given.name.rpartition("/")[2])
            _write(path, sys.stdin.buffer, summed("Reading standard input", tell))
        if not path.exists():
            raise SystemExit(f"There is no {args.path}.")
        stack = _watched(args.stack, summed("Storing", tell, _size(path)))
        told = given.make(stack, stack.save(path, given.name).ref)
    print(told)


@suppress_logs_and_warning
def register(args: Any) -> None:
    """Make data that lies under the artifact root already the newest version of a name, without a copy."""
    given = _Given.of(args)
    with progress("Reading it through") as tell:
        stack = _watched(args.stack, summed("Reading it through", tell))
        told = given.make(stack, register_data(stack, args.uri, given.name))
    print(told)


@dataclass(frozen=True)
class _Given:
    """What the command line says of a new version."""

    name: str
    tags: tuple[str, ...]
    facts: dict[str, str]

    @classmethod
    def of(cls, args: Any) -> _Given:
        return cls(checked_name(args.name), tuple(map(checked_tag, args.tag)), dict(map(_fact, args.metadata)))

    def make(self, stack: Stack, ref: ArtifactRef) -> str:
        """Make an artifact the newest version of the name; say what there is now."""
        made = stack.names.add(self.name, ref, stack.clock(), tags=self.tags, metadata=self.facts)
        return f"{self.name} {made.version}: {ref.shape}, {bytes_text(ref.size)}, digest {ref.digest[:12]}"


def _watched(stack: str | None, moved: Moved) -> Stack:
    return open_stack(Settings.read(stack), lineage=False, moved=moved)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _copied(source: Path, into: Path, moved: Moved) -> Iterator[str]:
    """Copy files out, so that nobody writes into the store through them; name each."""
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    base = source.parent if source.is_file() else source
    for file in files:
        name = file.relative_to(base)
        with WatchedFile(file, moved) as held:
            _write(into / name, held)
        yield name.as_posix()
    into.mkdir(parents=True, exist_ok=True)


def _write(path: Path, source: Any, moved: Moved = unseen) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while passed := source.read(_PASSING):
            file.write(passed)
            moved(len(passed))


def _fact(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SystemExit(f"--metadata takes facts such as source=BTS, got {text!r}.")
    return key, value
