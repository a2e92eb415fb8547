"""The version of the code that a step runs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_COMMIT = r"[0-9a-f]{40}|[0-9a-f]{64}"


def code_version(bundle: Any, function: Callable[..., Any]) -> str:
    """Return the version of the DAG bundle, or the commit around the function's file, which may have changed since."""
    if version := getattr(bundle, "version", None):
        return str(version)
    try:
        return checked_out_commit(Path(inspect.unwrap(function).__code__.co_filename).resolve())
    except (OSError, AttributeError, ValueError):
        return ""


def checked_out_commit(path: Path) -> str:
    """Return the commit that is checked out in the git repository around a path; empty outside of one.

    Read from the repository's files, because git may not be installed and takes longer.
    """
    dot_git = next((folder / ".git" for folder in path.parents if (folder / ".git").exists()), None)
    if dot_git is None:
        return ""
    # In a worktree or a submodule `.git` is a file that names the directory.
    git_dir = dot_git if dot_git.is_dir() else dot_git.parent / dot_git.read_text().strip().removeprefix("gitdir: ")
    head = (git_dir / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head if re.fullmatch(_COMMIT, head) else ""
    ref, commondir = head.removeprefix("ref: "), git_dir / "commondir"
    common_dir = git_dir / commondir.read_text().strip() if commondir.exists() else git_dir
    for folder in (git_dir, common_dir):
        if (folder / ref).is_file():
            return (folder / ref).read_text().strip()
    packed_refs = common_dir / "packed-refs"
    lines = packed_refs.read_text().splitlines() if packed_refs.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), "")
