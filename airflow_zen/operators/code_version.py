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
        return checked_out_commit(Path(inspect.unwrap(function).__code__.co_filename).resolve())
    except (OSError, AttributeError, ValueError):
        return ""


def checked_out_commit(path: Path) -> str:
    """Read the commit that is checked out in the git repository around a path; empty where there is none.

    Read from the repository's files: git itself may not be installed, and takes longer.
    """
    dot_git = next((folder / ".git" for folder in path.parents if (folder / ".git").exists()), None)
    if dot_git is None:
        return ""
    git_dir = dot_git if dot_git.is_dir() else _resolve_gitdir(dot_git)
    head = (git_dir / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head if _COMMIT.fullmatch(head) else ""
    commondir_file = git_dir / "commondir"
    common_dir = git_dir / commondir_file.read_text().strip() if commondir_file.exists() else git_dir
    return _resolve_git_ref(head.removeprefix("ref: "), git_dir, common_dir)


def _resolve_gitdir(dot_git: Path) -> Path:
    """Follow the file that stands for `.git` in a worktree or a submodule."""
    return dot_git.parent / dot_git.read_text().strip().removeprefix("gitdir: ")


def _resolve_git_ref(ref: str, git_dir: Path, common_dir: Path) -> str:
    for folder in (git_dir, common_dir):
        loose_ref = folder / ref
        if loose_ref.is_file():
            return loose_ref.read_text().strip()
    packed_refs = common_dir / "packed-refs"
    lines = packed_refs.read_text().splitlines() if packed_refs.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), "")
