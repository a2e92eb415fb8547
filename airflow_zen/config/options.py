"""The options of one stack: its own in `stacks.yaml`, else those of `[zen]` in airflow.cfg and `AIRFLOW__ZEN__*`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from airflow.configuration import conf
from airflow.exceptions import AirflowConfigException

from airflow_zen.config.stacks_file import DEFAULT_STACK, StacksFile, read_stacks
from airflow_zen.errors import SettingsError
from airflow_zen.get_provider_info import get_provider_info

CONFIG_SECTION = "zen"

# What says where a stack is: a named stack takes none of it from `[zen]`, whose root and MLflow are another's.
LOCATION_OPTIONS = frozenset({"artifact_root", "artifact_conn_id", "mlflow_tracking_uri", "mlflow_conn_id"})


class Options(msgspec.Struct, frozen=True):
    """Read the options of one stack; `overrides` are those of a named one."""

    stack: str = DEFAULT_STACK
    overrides: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def text(self, option: str) -> str:
        """Give an option's text, empty where it is not set."""
        if self.is_stack_specific(option):
            return "" if self.overrides.get(option) is None else str(self.overrides[option]).strip()
        return str(conf.get(CONFIG_SECTION, option, fallback="") or "").strip()

    def flag(self, option: str, *, default: bool) -> bool:
        """Give a flag; raises `SettingsError` for what is neither true nor false."""
        if self.is_stack_specific(option):
            text = self.text(option).lower()
            if text not in ("true", "false"):
                raise SettingsError(
                    f"{self.qualified_option(option)} must be true or false, got {self.overrides[option]!r}."
                )
            return text == "true"
        try:
            return bool(conf.getboolean(CONFIG_SECTION, option, fallback=default))
        except (ValueError, AirflowConfigException) as error:
            raise SettingsError(f"{self.qualified_option(option)} must be true or false: {error}") from error

    def size(self, option: str, *, default: str) -> int:
        """Give bytes, with K, M, G or T for powers of 1024."""
        text = (self.text(option) or default).upper()
        digits, factor = (text[:-1], 1024 ** (1 + "KMGT".index(text[-1]))) if text[-1] in "KMGT" else (text, 1)
        if not digits.isdecimal():
            raise SettingsError(
                f"{self.qualified_option(option)} must be bytes, such as '500M' or '10G', got {text!r}."
            )
        return int(digits) * factor

    def is_stack_specific(self, option: str) -> bool:
        """Tell whether the named stack decides about an option, and `[zen]` does not."""
        return self.stack != DEFAULT_STACK and (option in LOCATION_OPTIONS or option in self.overrides)

    def qualified_option(self, option: str) -> str:
        """Name an option with its place."""
        return f"{option} of stack {self.stack!r}" if self.is_stack_specific(option) else f"[{CONFIG_SECTION}] {option}"


def allowed_stack_options() -> frozenset[str]:
    """Name the options that a stack may set."""
    return frozenset(get_provider_info()["config"][CONFIG_SECTION]["options"]) - {"stack", "stacks_file"}


def load_stacks_file() -> StacksFile:
    """Read the file of named stacks; raises `SettingsError` where one is asked for and not there."""
    asked = conf.get(CONFIG_SECTION, "stacks_file", fallback="")
    path = Path(asked).expanduser() if asked else _airflow_home() / "stacks.yaml"
    if asked and not path.exists():
        raise SettingsError(f"[zen] stacks_file names {asked!r}, which is not there.")
    return read_stacks(path, allowed_stack_options())


def active_stack_name(file: StacksFile) -> str:
    """Name the stack that is used where none is asked for."""
    return str(conf.get(CONFIG_SECTION, "stack", fallback="") or file.active or DEFAULT_STACK)


def stack_names(file: StacksFile) -> list[str]:
    """Name all stacks that are defined."""
    return [DEFAULT_STACK, *file.stacks]


def find_options(name: str | None = None) -> Options:
    """Find the options of a stack, of the active one where none is named; raises `SettingsError` for an unknown one."""
    file = load_stacks_file()
    name = name or active_stack_name(file)
    if name not in stack_names(file):
        raise SettingsError(
            f"There is no stack {name!r}; known are {', '.join(map(repr, stack_names(file)))}. Define it in {str(file.path)!r}."
        )
    return Options(name, file.stacks.get(name, {}))


def default_artifact_root() -> str:
    """Name the root of the default stack where none is configured."""
    return str(_airflow_home() / "zen")


def _airflow_home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
