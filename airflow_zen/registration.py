"""Make an artifact of data that lies under the artifact root already, without a copy of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.artifacts.manifest import Manifest
from airflow_zen.artifacts.ref import ArtifactFile, ArtifactRef
from airflow_zen.artifacts.root import key_of_url
from airflow_zen.artifacts.source import RangeReader
from airflow_zen.errors import ArtifactNotFound, SettingsError
from airflow_zen.stack import Stack

# What the root keeps itself (docs/format.md), and changes or deletes as it likes.
_RESERVED_FOLDERS = frozenset(
    {
        *("artifacts", "previews", "names", "tags", "cache", "runs", "undelivered", "undelivered.turn", "refused"),
        *("ended", "prune", "probe", "mlflow", ".staging"),
    }
)


def register_files(stack: Stack, uri: str, name: str) -> ArtifactRef:
    """Hash what lies at `uri` once, and commit a manifest that says where it lies.

    A parquet file becomes a table as pyarrow reads it; any other file, and a folder, a `pathlib.Path`. Raises
    `SettingsError` for an address outside the root, or in a folder that the root keeps itself; `ArtifactNotFound`.
    """
    key = key_of_url(stack.store.root, uri.rstrip("/"))
    if key.split("/")[0] in _RESERVED_FOLDERS:
        raise SettingsError(f"{uri!r} lies in a folder that the artifact root keeps itself. Put the data beside it.")
    keys = list(stack.store.transport.list(key))
    if not keys and key.endswith(".parquet"):
        return _register_table(stack, key, name)
    base = key.rpartition("/")[2]
    keys_by_path = {f"files/{base}{key_below.removeprefix(key)}": key_below for key_below in keys} or {
        f"files/{base}": key
    }
    files = _describe_files(stack, keys_by_path, uri)
    shape = f"{len(files)} {'file' if len(files) == 1 else 'files'}"
    summary = {"shape": shape, "size": sum(file.size for file in files)}
    return stack.store.register(
        Manifest("python.path@1", "pathlib.PosixPath", files, summary=summary, at=keys_by_path), name
    )


def _register_table(stack: Stack, key: str, name: str) -> ArtifactRef:
    from airflow_zen.materializers.arrow.registered import summarize_parquet

    uri, keys_by_path = f"{stack.store.root}/{key}", {"table.parquet": key}
    files = _describe_files(stack, keys_by_path, uri)
    summary = summarize_parquet(RangeReader(stack.store.transport, key, files[0]), uri)
    return stack.store.register(
        Manifest("pyarrow.parquet@1", "pyarrow.Table", files, summary=summary, at=keys_by_path), name
    )


def _describe_files(stack: Stack, keys_by_path: Mapping[str, str], uri: Any) -> tuple[ArtifactFile, ...]:
    try:
        return stack.store.hash_stored_files(keys_by_path)
    except ArtifactNotFound as error:
        raise ArtifactNotFound(
            f"Nothing lies at {uri!r}. Write the address of a file, or of a folder with files."
        ) from error
