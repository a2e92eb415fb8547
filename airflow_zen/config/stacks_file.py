"""The file `stacks.yaml`: named stacks, each with its own artifact root and MLflow server."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from airflow_zen.errors import SettingsError

DEFAULT_STACK = "default"

_STACK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ACTIVE_LINE = re.compile(r"^active[ \t]*:.*$", re.MULTILINE)


class StacksFile(msgspec.Struct, frozen=True):
    """The contents of one file: the options of each stack, and the name of the active one (empty where none is set)."""

    path: Path
    stacks: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    active: str = ""


def read_stacks(path: Path, options: Collection[str]) -> StacksFile:
    """Read a file; a missing one has no stacks.

    options: the names of the options that a stack may set. Raises `SettingsError` for an invalid file.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return StacksFile(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{str(path)!r} cannot be read: {error}") from error
    return _parse_stacks(path, text, options)


def set_active_stack(file: StacksFile, name: str, options: Collection[str]) -> None:
    """Make `name` the active stack: change one line, and keep all others byte for byte.

    Raises `SettingsError` where the line cannot be changed safely, or the file cannot be written.
    """
    text = file.path.read_text() if file.path.exists() else ""
    line = f"active: {name}"
    new = _ACTIVE_LINE.sub(line, text, count=1) if _ACTIVE_LINE.search(text) else f"{line}\n{text}"
    if _parse_stacks(file.path, new, options) != StacksFile(file.path, file.stacks, name):
        raise SettingsError(f"{str(file.path)!r} has a layout that cannot be changed safely. Write {line!r} there.")
    try:
        _replace_atomically(file.path.resolve(), new)
    except OSError as error:
        raise SettingsError(
            f"{str(file.path)!r} cannot be written: {error}. Set [zen] stack = {name} or AIRFLOW__ZEN__STACK={name} instead."
        ) from error


def _parse_stacks(path: Path, text: str, options: Collection[str]) -> StacksFile:
    import yaml

    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise SettingsError(f"{str(path)!r} is not YAML: {error}") from error
    if not isinstance(document, dict) or not document.keys() <= {"stacks", "active"}:
        raise SettingsError(
            f"{str(path)!r} must hold 'stacks: {{name: {{artifact_root: …}}}}', and may hold 'active: name'."
        )
    stacks = document.get("stacks") or {}
    if not isinstance(stacks, dict):
        raise SettingsError(f"{str(path)!r}: 'stacks' must be a mapping of names to options, got {stacks!r}.")
    for name, options_of_stack in stacks.items():
        _check_stack(path, name, options_of_stack, options)
    return StacksFile(path, stacks, str(document.get("active") or ""))


def _check_stack(path: Path, name: Any, options_of_stack: Any, options: Collection[str]) -> None:
    where = f"Stack {name!r} in {str(path)!r}"
    if not isinstance(name, str) or not _STACK_NAME.fullmatch(name):
        raise SettingsError(f"{where}: a name consists of letters, digits, '-', '_' and '.'.")
    if name == DEFAULT_STACK:
        raise SettingsError(
            f"{where}: this name belongs to the stack of airflow.cfg [zen]. Give this one another name."
        )
    if not isinstance(options_of_stack, dict) or not options_of_stack.get("artifact_root"):
        raise SettingsError(f"{where} must set artifact_root, such as 's3://bucket/prefix'.")
    for option, value in options_of_stack.items():
        if option not in options:
            raise SettingsError(
                f"{where} has no option {option!r}; it may set {', '.join(sorted(options))}. Put secrets into the "
                "connections that artifact_conn_id and mlflow_conn_id name."
            )
        if isinstance(value, dict | list):
            raise SettingsError(f"{where}: {option} takes one value, got {value!r}.")
        if "://" in str(value) and "@" in urlsplit(str(value)).netloc:
            raise SettingsError(f"{where}: {option} contains credentials. Put them into a connection.")


def _replace_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as output:
            output.write(text)
        Path(new).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
