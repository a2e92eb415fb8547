"""The options of a stack, as `stacks.yaml`, airflow.cfg and the environment set them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from airflow.configuration import conf

from airflow_zen.config.stacks_file import DEFAULT_STACK, StacksFile, read_stacks
from airflow_zen.errors import SettingsError
from airflow_zen.get_provider_info import get_provider_info

CONFIG_SECTION = "zen"

# The options that locate a stack. A named stack takes none of them from `[zen]`, which locates the default stack.
LOCATION_OPTIONS = frozenset({"artifact_root", "artifact_conn_id", "mlflow_tracking_uri", "mlflow_conn_id"})

_FLAGS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


class Options(msgspec.Struct, frozen=True):
    """Read the options of one stack; `overrides` are those that `stacks.yaml` sets for it."""

    stack: str = DEFAULT_STACK
    overrides: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def text(self, option: str) -> str:
        """Return the text of an option, empty where it is not set.

        The options of a named stack take precedence over `AIRFLOW__ZEN__*`, and those over `[zen]` in airflow.cfg.
        """
        if self.is_stack_specific(option):
            value = self.overrides.get(option)
        else:
            value = conf.get(CONFIG_SECTION, option, fallback="")
        return "" if value is None else str(value).strip()

    def flag(self, option: str, *, default: bool) -> bool:
        """Return a flag. Raises `SettingsError` for a text that is neither true nor false."""
        # Airflow too allows a comment behind a flag.
        text = self.text(option).partition("#")[0].strip()
        if not text and not self.is_stack_specific(option):
            return default
        if text.lower() not in _FLAGS:
            raise SettingsError(f"{self.qualified_option(option)} must be true or false, got {text!r}.")
        return _FLAGS[text.lower()]

    def size(self, option: str, *, default: str) -> int:
        """Return a number of bytes; K, M, G and T stand for powers of 1024. Raises `SettingsError`."""
        text = (self.text(option) or default).upper()
        digits, factor = (text[:-1], 1024 ** (1 + "KMGT".index(text[-1]))) if text[-1] in "KMGT" else (text, 1)
        if not digits.isdecimal():
            raise SettingsError(
                f"{self.qualified_option(option)} must be bytes, such as '500M' or '10G', got {text!r}."
            )
        return int(digits) * factor

    def is_stack_specific(self, option: str) -> bool:
        """Whether the named stack decides an option, and `[zen]` does not."""
        return self.stack != DEFAULT_STACK and (option in LOCATION_OPTIONS or option in self.overrides)

    def qualified_option(self, option: str) -> str:
        """Return the name of an option and where it is set."""
        return f"{option} of stack {self.stack!r}" if self.is_stack_specific(option) else f"[{CONFIG_SECTION}] {option}"


def find_options(name: str | None = None) -> Options:
    """Return the options of a stack, by default of the active one. Raises `SettingsError` for an unknown name."""
    file = load_stacks_file()
    name = name or active_stack_name(file)
    names = stack_names(file)
    if name not in names:
        raise SettingsError(
            f"There is no stack {name!r}; known are {', '.join(map(repr, names))}. Define it in {str(file.path)!r}."
        )
    return Options(name, file.stacks.get(name, {}))


def load_stacks_file() -> StacksFile:
    """Read the file of named stacks. Raises `SettingsError` where `[zen] stacks_file` names a missing file."""
    configured = conf.get(CONFIG_SECTION, "stacks_file", fallback="")
    path = Path(configured).expanduser() if configured else _airflow_home() / "stacks.yaml"
    if configured and not path.exists():
        raise SettingsError(f"[zen] stacks_file names {configured!r}, which does not exist.")
    return read_stacks(path, allowed_stack_options())


def allowed_stack_options() -> frozenset[str]:
    """Return the options that a named stack may set."""
    return frozenset(get_provider_info()["config"][CONFIG_SECTION]["options"]) - {"stack", "stacks_file"}


def active_stack_name(file: StacksFile) -> str:
    """Return the name of the stack that is used where no other is requested."""
    return str(conf.get(CONFIG_SECTION, "stack", fallback="") or file.active or DEFAULT_STACK)


def stack_names(file: StacksFile) -> list[str]:
    """Return the names of all stacks."""
    return [DEFAULT_STACK, *file.stacks]


def default_artifact_root() -> str:
    """Return the root of the default stack where none is configured."""
    return str(_airflow_home() / "zen")


def _airflow_home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
