"""The runtime `Virtualenv`: a step's own requirements, resolved once and installed once on each worker."""

from __future__ import annotations

import inspect
import json
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import force_setattr

from airflow_zen.errors import (
    AlreadyExists,
    ArtifactNotFound,
    FingerprintError,
    RuntimeUnavailable,
    StepDefinitionError,
)
from airflow_zen.runtimes.python import OLDEST_PYTHON, inspect_interpreter
from airflow_zen.steps.runtime import Runtime

if TYPE_CHECKING:
    from airflow_zen.runtimes.environments import Index
    from airflow_zen.stack import Stack
    from airflow_zen.steps.runtime import Execution, StepResult
    from airflow_zen.steps.step import Step
    from airflow_zen.transports.base import Transport

RUNNER_REQUIREMENTS = ("blake3", "fsspec", "msgspec", "numpy>=1.26", "pandas>=2.3", "pyarrow>=22")
"""The requirements that are added to those of a step, to read and store tables."""

_CLIENTS = {
    **dict.fromkeys(("s3", "s3a", "az", "abfs", "abfss"), "obstore>=0.12"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
}
"""The requirement that is added for an artifact root of a scheme."""

RESOLUTIONS = "runtimes/resolved"
"""The folder of the artifact root with what requirements were resolved to."""

_FORMAT = 1
_UV_LOCK = "uv.lock"
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==(\S+)", re.MULTILINE)


class Virtualenv(Runtime, msgspec.Struct, frozen=True):
    """Run the function in a virtual environment with requirements of its own.

    `requirements`: a list of requirements (`["evidently>=0.7,<0.8", "pandas<3"]`); or the path of a requirements file,
    a `pylock.toml`, a `pyproject.toml` or its `uv.lock`, relative to the file that defines the step. `group`: a
    dependency group of a `pyproject.toml` or `uv.lock`; "" for the project's dependencies. `python`: a version
    (`"3.12"`) or the path of an interpreter; "" for the worker's. `index_conn_id`: an Airflow connection of type
    `package_index`, with the address of the index and its credentials.

    The requirements are resolved once for all workers: the result is stored in the artifact root, and is in the cache
    key with the version of Python.
    """

    requirements: tuple[str, ...] | str
    group: str = ""
    python: str = ""
    index_conn_id: str = ""

    def __post_init__(self) -> None:
        """Check the requirements where they are written."""
        given: Any = self.requirements
        if not isinstance(given, str):
            if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
                raise StepDefinitionError(
                    f"Virtualenv(…) takes a list of requirements such as ['pandas<3'], or the text of a file's path, got {given!r}."
                )
            force_setattr(self, "requirements", tuple(given))
        release = re.fullmatch(r"(\d+)\.(\d+)(\.\d+)?", self.python)
        if release and (int(release[1]), int(release[2])) < OLDEST_PYTHON:
            raise StepDefinitionError(f"Virtualenv(python={self.python!r}): steps need Python 3.11 or later.")
        if self.group and not str(given).endswith(("pyproject.toml", _UV_LOCK)):
            raise StepDefinitionError(
                f"Virtualenv(group={self.group!r}) needs the path of a pyproject.toml or a uv.lock, got {given!r}."
            )

    def ingredients(self, step: Step, stack: Stack) -> Mapping[str, str]:
        """Return the version of Python, and the version of each resolved distribution."""
        try:
            resolved = self.resolve(step, stack)
        except RuntimeUnavailable as error:
            raise FingerprintError(str(error)) from error
        pins = {f"distribution {name}": pinned for name, pinned in _PIN.findall(resolved.text)}
        urls = [line for line in resolved.text.splitlines() if line and not line.startswith("#") and "==" not in line]
        pins |= {f"distribution {line.partition(' ')[0]}": line for line in urls}
        return {"python": resolved.python, **pins}

    def execute(self, execution: Execution) -> StepResult:
        """Make the environment, unless it exists, and run the function in a child process of the task."""
        from airflow_zen.runtimes.child_process import execute_in_process
        from airflow_zen.runtimes.environments import Environments, find_uv

        resolved = self.resolve(execution.step, execution.stack)
        with Environments.configured().use(resolved, self._index()) as interpreter:
            tools = [str(Path(interpreter).parent), *([str(Path(uv).parent)] if (uv := find_uv()) else [])]
            return execute_in_process(interpreter, execution, self, tools)

    def resolve(self, step: Step | None, stack: Stack) -> Resolved:
        """Return the stored resolution of the requirements; resolve and store them if there is none.

        Only the path of a file needs a step, to which it is relative.
        Raises `RuntimeUnavailable` with the resolver's reason.
        """
        scheme = stack.store.root.partition("://")[0]
        lines = (*self._read_requirements(step), *RUNNER_REQUIREMENTS, *filter(None, [_CLIENTS.get(scheme)]))
        interpreter, python = self._interpreter()
        index = self._index()
        parts = [
            _FORMAT,
            lines,
            python,
            sysconfig.get_platform(),
            index.public_url if index else "",
        ]
        key = f"{RESOLUTIONS}/{sha256(json.dumps(parts).encode()).hexdigest()}.txt"
        text = _read_resolution(stack.store.transport, key)
        if text is None:
            from airflow_zen.runtimes.environments import export_lock, resolve_requirements

            if lines[0].startswith(f"{_UV_LOCK} "):
                lines = (*_requirements_of(export_lock(self._path(step), self.group, self)), *lines[1:])
            text = resolve_requirements(lines, interpreter, index, _preferred_versions(), self)
            text = _store_resolution(stack.store.transport, key, text)
        return Resolved(text, python, interpreter)

    def _read_requirements(self, step: Step | None) -> tuple[str, ...]:
        """Return the lines of the requirements."""
        if not isinstance(self.requirements, str):
            return self.requirements
        path = self._path(step)
        try:
            if path.name == _UV_LOCK:
                # uv tells what is in it; that is not asked while the resolution of this content is stored.
                return (f"{_UV_LOCK} {self.group} {sha256(path.read_bytes()).hexdigest()}",)
            if path.suffix == ".toml":
                return _project_requirements(path, self.group)
            return tuple(_requirements_in(path))
        except OSError as error:
            raise RuntimeUnavailable(f"{self!r}: {path} cannot be read: {error}.") from error

    def _path(self, step: Step | None) -> Path:
        source = (step and inspect.getsourcefile(inspect.unwrap(step.function))) or ""
        return Path(source).resolve().parent / str(self.requirements)

    def _interpreter(self) -> tuple[str, str]:
        """Return the interpreter for the environment, as uv takes it, and its version."""
        if not self.python:
            return sys.executable, ".".join(map(str, sys.version_info[:2]))
        if "/" in self.python:
            return self.python, ".".join(map(str, inspect_interpreter(self.python, self)[0][:2]))
        return self.python, self.python

    def _index(self) -> Index | None:
        if not self.index_conn_id:
            return None
        from airflow_zen.runtimes.environments import Index

        return Index.from_connection(self.index_conn_id)


class Resolved(msgspec.Struct, frozen=True):
    """Requirements resolved for a version of Python: lines of pins, and the interpreter to make an environment with."""

    text: str
    python: str
    interpreter: str

    @property
    def key(self) -> str:
        """The name of the environment: the same requirements, Python, platform and release of this package share one."""
        from airflow_zen import __version__

        parts = [
            self.text,
            self.python,
            self.interpreter,
            platform.python_version(),
            sysconfig.get_platform(),
            __version__,
        ]
        return sha256(json.dumps(parts).encode()).hexdigest()[:20]


def _requirements_in(path: Path) -> Iterator[str]:
    """Yield the lines of a requirements file, and of those that it includes."""
    for line in _requirements_of(path.read_text()):
        option, _, value = line.partition(" ")
        if option in ("-r", "--requirement"):
            yield from _requirements_in(path.parent / value.strip())
        elif re.match(r"-[ce]|--(constraint|editable)|[./]|file:", line):
            raise RuntimeUnavailable(
                f"{path} has {line!r}: constraints and local paths are not supported, because their content is not in the "
                "cache key. Write pins, and build a wheel of local code."
            )
        else:
            yield line


def _requirements_of(text: str) -> Iterator[str]:
    """Yield the lines of a requirements file without comments."""
    for written in text.replace("\\\n", " ").splitlines():
        if line := re.sub(r"(^|\s)#.*", "", written).strip():
            yield line


def _project_requirements(path: Path, group: str) -> tuple[str, ...]:
    """Return the dependencies of a `pyproject.toml`, those of one of its groups, or the pins of a `pylock.toml`."""
    import tomllib

    try:
        document = tomllib.loads(path.read_text())
        if "lock-version" in document:
            return tuple(_locked(each) for each in document["packages"])
        if not group:
            return tuple(document["project"]["dependencies"])
        pending, lines = [group], list[str]()
        while pending:
            for each in document["dependency-groups"][pending.pop()]:
                if isinstance(each, dict):
                    pending.append(each["include-group"])
                else:
                    lines.append(each)
        return tuple(lines)
    except (ValueError, KeyError, TypeError) as error:
        wanted = f"dependency group {group!r}" if group else "list of dependencies"
        raise RuntimeUnavailable(f"{path} has no {wanted}: {error!r}.") from error


def _locked(package: Mapping[str, str]) -> str:
    marker = f" ; {package['marker']}" if "marker" in package else ""
    return f"{package['name']}=={package['version']}{marker}"


def _preferred_versions() -> str:
    """Return the versions installed beside Airflow as pins, which the resolver prefers."""
    lines = []
    for requirement in RUNNER_REQUIREMENTS:
        name = re.split(r"[<>=]", requirement)[0]
        try:
            lines.append(f"{name}=={version(name)}\n")
        except PackageNotFoundError:
            continue
    return "".join(lines)


def _read_resolution(transport: Transport, key: str) -> str | None:
    try:
        return transport.read(key).decode()
    except ArtifactNotFound:
        return None


def _store_resolution(transport: Transport, key: str, text: str) -> str:
    """Store a resolution, unless another worker has stored one; return the stored one."""
    try:
        transport.create(key, text.encode())
    except AlreadyExists:
        return transport.read(key).decode()
    return text
