"""The options of a stack, as `stacks.yaml`, airflow.cfg and the environment set them."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from airflow_zen.errors import SettingsError
from airflow_zen.get_provider_info import get_provider_info

CONFIG_SECTION = "zen"
_MAX_NESTING = 20
DEFAULT_STACK = "default"

# The options that locate a stack. A named stack takes none of them from `[zen]`, which locates the default stack.
LOCATION_OPTIONS = frozenset({"artifact_root", "artifact_conn_id", "mlflow_tracking_uri", "mlflow_conn_id"})

_FLAGS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_SECRETS_ADVICE = "Put secrets into the connections that artifact_conn_id and mlflow_conn_id name."
_STACK_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_ACTIVE_LINE = r"(?m)^active[ \t]*:.*$"


class Options(msgspec.Struct, frozen=True):
    """Read the options of one stack; `overrides` are those that `stacks.yaml` sets for it."""

    stack: str = DEFAULT_STACK
    overrides: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def text(self, option: str) -> str:
        """Return the text of an option, empty where it is not set.

        The options of a named stack take precedence over `AIRFLOW__ZEN__*`, and those over `[zen]` in airflow.cfg.
        """
        specific = self.is_stack_specific(option)
        value = self.overrides.get(option) if specific else _configured(option)
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
        """Whether an option comes from the named stack, and not from `[zen]`."""
        return self.stack != DEFAULT_STACK and (option in LOCATION_OPTIONS or option in self.overrides)

    def qualified_option(self, option: str) -> str:
        """Return the name of an option with the place where it is set."""
        return f"{option} of stack {self.stack!r}" if self.is_stack_specific(option) else f"[{CONFIG_SECTION}] {option}"


class StacksFile(msgspec.Struct, frozen=True):
    """The contents of `stacks.yaml`: the options of each stack, and the name of the active one (empty where not set)."""

    path: Path
    stacks: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    active: str = ""


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
    configured = _configured("stacks_file")
    path = Path(configured).expanduser() if configured else _airflow_home() / "stacks.yaml"
    if configured and not path.exists():
        raise SettingsError(f"[zen] stacks_file names {configured!r}, which does not exist.")
    return read_stacks(path)


def active_stack_name(file: StacksFile) -> str:
    """Return the name of the stack that is used where no other is requested."""
    return str(_configured("stack") or file.active or DEFAULT_STACK)


def _configured(option: str) -> Any:
    """Return an option of `[zen]`, empty where it is not set."""
    # The code of a step elsewhere imports this file where Airflow is not installed.
    from airflow.configuration import conf

    return conf.get(CONFIG_SECTION, option, fallback="")


def stack_names(file: StacksFile) -> list[str]:
    """Return the names of all stacks."""
    return [DEFAULT_STACK, *file.stacks]


def default_artifact_root() -> str:
    """Return the root of the default stack where none is configured."""
    return str(_airflow_home() / "zen")


def default_environments_dir() -> str:
    """Return the folder of the virtual environments of steps where none is configured."""
    return str(_airflow_home() / "zen-environments")


def default_deployments_dir() -> str:
    """Return the folder of the deployment service where none is configured."""
    return str(_airflow_home() / "zen-deployments")


def read_stacks(path: Path) -> StacksFile:
    """Read a file of named stacks; a missing one has none. Raises `SettingsError` for an invalid file."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return StacksFile(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{str(path)!r} cannot be read: {error}") from error
    return _parse_stacks(path, text)


def set_active_stack(file: StacksFile, name: str) -> None:
    """Make `name` the active stack: change one line, and keep all others byte for byte.

    Raises `SettingsError` where the line cannot be changed safely, or the file cannot be written.
    """
    text = file.path.read_text() if file.path.exists() else ""
    line = f"active: {name}"
    new = re.sub(_ACTIVE_LINE, line, text, count=1) if re.search(_ACTIVE_LINE, text) else f"{line}\n{text}"
    if not _is_file_of(new, StacksFile(file.path, file.stacks, name)):
        raise SettingsError(
            f"{str(file.path)!r} has a layout that cannot be changed safely. Write the line {line!r} there."
        )
    try:
        _replace_atomically(file.path.resolve(), new)
    except OSError as error:
        raise SettingsError(
            f"{str(file.path)!r} cannot be written: {error}. Set [zen] stack = {name} or AIRFLOW__ZEN__STACK={name} instead."
        ) from error


def _is_file_of(text: str, file: StacksFile) -> bool:
    """Whether a text has the contents of a file."""
    try:
        return _parse_stacks(file.path, text) == file
    except SettingsError:
        return False


def _airflow_home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()


def _check_nesting(text: str) -> None:
    """Raise `ValueError` for deeply nested brackets, which take a YAML parser minutes."""
    depths = accumulate((char in "[{") - (char in "]}") for char in text)
    if max(depths, default=0) > _MAX_NESTING:
        raise ValueError(f"brackets are nested more than {_MAX_NESTING} times")


def _parse_stacks(path: Path, text: str) -> StacksFile:
    import yaml

    try:
        _check_nesting(text)
        document = yaml.safe_load(text) or {}
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SettingsError(f"{str(path)!r} is not YAML: {str(error)[:500]}") from error
    if not isinstance(document, dict) or not document.keys() <= {"stacks", "active"}:
        raise SettingsError(
            f"{str(path)!r} must hold 'stacks: {{name: {{artifact_root: …}}}}', and may hold 'active: name'."
        )
    stacks = document.get("stacks") or {}
    if not isinstance(stacks, dict):
        raise SettingsError(f"{str(path)!r}: 'stacks' must be a mapping of names to options, got {stacks!r}.")
    for name, options in stacks.items():
        _check_stack(f"Stack {name!r} in {str(path)!r}", name, options)
    return StacksFile(path, stacks, str(document.get("active") or ""))


def _check_stack(where: str, name: Any, options: Any) -> None:
    if not isinstance(name, str) or not re.fullmatch(_STACK_NAME, name):
        raise SettingsError(f"{where}: a name consists of letters, digits, '-', '_' and '.'.")
    if name == DEFAULT_STACK:
        raise SettingsError(
            f"{where}: this name belongs to the stack of airflow.cfg [zen]. Give this one another name."
        )
    if not isinstance(options, dict) or not options.get("artifact_root"):
        raise SettingsError(f"{where} must set artifact_root, such as 's3://bucket/prefix'.")
    allowed = get_provider_info()["config"][CONFIG_SECTION]["options"].keys() - {"stack", "stacks_file"}
    for option, value in options.items():
        if option not in allowed:
            raise SettingsError(
                f"{where} has no option {option!r}; it may set {', '.join(sorted(allowed))}. {_SECRETS_ADVICE}"
            )
        if isinstance(value, dict | list):
            raise SettingsError(f"{where}: {option} takes one value, got {value!r}.")
        if "://" in str(value) and "@" in urlsplit(str(value)).netloc:
            raise SettingsError(f"{where}: {option} contains credentials. {_SECRETS_ADVICE}")


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
