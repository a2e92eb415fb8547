"""Which version of the source a step runs: the DAG bundle's, or the commit that is checked out around its file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def code_version(bundle: Any, function: Callable[..., Any]) -> str:
    """Give the bundle's version; else the commit of the function's file, which may have changed since; else nothing."""
    version = getattr(bundle, "version", None)
    if version:
        return str(version)
    try:
        return commit_of(Path(inspect.unwrap(function).__code__.co_filename).resolve())
    except (OSError, AttributeError, ValueError):
        return ""


def commit_of(path: Path) -> str:
    """Read the commit that is checked out in the git repository around a path; empty where there is none.

    Read from the repository's files: git itself may not be installed, and takes longer.
    """
    marker = next((folder / ".git" for folder in path.parents if (folder / ".git").exists()), None)
    if marker is None:
        return ""
    private = marker if marker.is_dir() else _linked(marker)
    head = (private / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head if _COMMIT.fullmatch(head) else ""
    shared = private / "commondir"
    common = private / shared.read_text().strip() if shared.exists() else private
    return _resolved(head.removeprefix("ref: "), private, common)


def _linked(marker: Path) -> Path:
    """Follow the file that stands for `.git` in a worktree or a submodule."""
    return marker.parent / marker.read_text().strip().removeprefix("gitdir: ")


def _resolved(ref: str, private: Path, common: Path) -> str:
    for folder in (private, common):
        loose = folder / ref
        if loose.is_file():
            return loose.read_text().strip()
    packed = common / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), "")
