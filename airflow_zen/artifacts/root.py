"""The one form of an artifact root, and of the keys under it."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import quote

from airflow_zen.errors import SettingsError

# Filesystems allow a name 255 bytes; what follows it (`.json`) needs a few.
_MAX_PART_LENGTH = 250
_HASH_LENGTH = 8


def normalize_root(root: str) -> str:
    """Write an artifact root in its one form: an absolute path, or a URL without a trailing slash."""
    if not root.strip():
        raise SettingsError("[zen] artifact_root must be a path or a URL such as 's3://bucket/prefix', got ''.")
    if root.startswith("file://"):
        root = root.removeprefix("file://")
    if "://" in root:
        return root.rstrip("/")
    if re.match(r"[a-z0-9]+:/", root):
        raise SettingsError(f"[zen] artifact_root {root!r} is neither a path nor a URL. Write '://' after the scheme.")
    try:
        return os.path.abspath(Path(root).expanduser())
    except RuntimeError as error:
        raise SettingsError(f"[zen] artifact_root {root!r} cannot be found: {error}") from error


def key_of_url(root: str, url: str) -> str:
    """Turn an address under the root into a key; raises `SettingsError` when it lies elsewhere."""
    url = url.removeprefix("file://")
    if not url.startswith(root + "/") or ".." in url.split("/"):
        raise SettingsError(f"{url!r} does not lie under the artifact root {root!r}.")
    return url[len(root) + 1 :].strip("/")


def quote_key_part(name: str) -> str:
    """Write a name as one part of a key, percent-quoted; one too long for a filesystem is cut and ends in its hash."""
    part = quote(name, safe="")
    if len(part) > _MAX_PART_LENGTH:
        short = hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]
        return f"{part[: _MAX_PART_LENGTH - _HASH_LENGTH - 1]}~{short}"
    return part if part.strip(".") else part.replace(".", "%2E")
