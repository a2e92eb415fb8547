"""The one form of an artifact root, and of the keys under it."""

from __future__ import annotations

import os
from pathlib import Path

from airflow_zen.errors import SettingsError


def normalise_root(root: str) -> str:
    """Write an artifact root in its one form: an absolute path, or a URL without a trailing slash."""
    if not root.strip():
        raise SettingsError("[zen] artifact_root must be a path or a URL such as 's3://bucket/prefix', got ''.")
    if root.startswith("file://"):
        root = root.removeprefix("file://")
    if "://" in root:
        return root.rstrip("/")
    return os.path.abspath(Path(root).expanduser())


def relative_key(root: str, url: str) -> str:
    """Turn an address under the root into a key; raises `SettingsError` when it lies elsewhere."""
    url = url.removeprefix("file://")
    if not url.startswith(root + "/") or ".." in url.split("/"):
        raise SettingsError(f"{url!r} does not lie under the artifact root {root!r}.")
    return url[len(root) + 1 :].strip("/")
