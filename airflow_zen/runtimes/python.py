"""The runtime `Python`: an interpreter that exists on the worker, with what is installed there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.caching.code.distributions import installed_distributions
from airflow_zen.errors import FingerprintError, RuntimeUnavailable, StepDefinitionError
from airflow_zen.steps.runtime import Runtime

if TYPE_CHECKING:
    from airflow_zen.stack import Stack
    from airflow_zen.steps.runtime import Execution, StepResult
    from airflow_zen.steps.step import Step

_PROBE = "import json, sys; print(json.dumps([sys.version_info[:3], sys.path[1:], sys.executable]))"
OLDEST_PYTHON = (3, 11)


class Python(Runtime, msgspec.Struct, frozen=True):
    """Run the function with another interpreter on the worker: `Python("/opt/envs/tf/bin/python")`.

    `path`: the interpreter, Python 3.11 or later. It needs blake3 and msgspec, and what the step imports; neither Airflow
    nor this package is installed there. Its version, and what is installed beside it, are in the cache key instead of the
    distributions of the worker.
    """

    path: str

    def __post_init__(self) -> None:
        """Check the path where it is written."""
        path: Any = self.path
        if not isinstance(path, str) or not os.path.isabs(path):  # noqa: PTH117
            raise StepDefinitionError(
                f"Python(…) takes the path of an interpreter, such as '/opt/envs/tf/bin/python', got {self.path!r}."
            )

    def ingredients(self, step: Step, stack: Stack) -> Mapping[str, str]:
        """Return the version of Python, and the identity of each installed distribution."""
        try:
            version, folders = inspect_interpreter(self.path, self)
        except RuntimeUnavailable as error:
            raise FingerprintError(str(error)) from error
        found: dict[str, str] = {}
        for folder in reversed(folders):
            found |= {f"distribution {name}": identity for name, identity in installed_distributions(folder).items()}
        return {"python": ".".join(map(str, version[:2])), **found}

    def execute(self, execution: Execution) -> StepResult:
        """Run the function in a child process of the task."""
        from airflow_zen.runtimes.child_process import execute_in_process

        inspect_interpreter(self.path, self)
        return execute_in_process(self.path, execution, self)


def inspect_interpreter(path: str, runtime: Runtime) -> tuple[tuple[int, ...], list[str]]:
    """Return the version of an interpreter, and the folders that it imports from.

    Those of a virtual environment are read from its files; another interpreter is started, once per process. Raises
    `RuntimeUnavailable` for one that cannot be started, or is too old.
    """
    try:
        changed = os.stat(path).st_mtime_ns  # noqa: PTH116 - a change is another interpreter
        version, folders = _read_environment(Path(path).parent.parent) or _probe(path, changed)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", "") or error
        raise RuntimeUnavailable(f"{runtime!r} cannot be started on this worker: {detail}") from error
    if version < OLDEST_PYTHON:
        raise RuntimeUnavailable(
            f"{runtime!r} is Python {'.'.join(map(str, version))}; steps need {'.'.join(map(str, OLDEST_PYTHON))} or later."
        )
    return version, folders


def _read_environment(folder: Path) -> tuple[tuple[int, ...], list[str]] | None:
    """Return version and folders from the files of a virtual environment; None for any other interpreter."""
    try:
        lines = (folder / "pyvenv.cfg").read_text().splitlines()
    except OSError:
        return None
    options = {name.strip().lower(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    found = re.match(r"(\d+)\.(\d+)", options.get("version_info") or options.get("version", ""))
    if found is None or options.get("include-system-site-packages", "false").lower() != "false":
        return None
    packages = folder / "lib" / f"python{found[0]}" / "site-packages"
    return ((int(found[1]), int(found[2])), [str(packages)]) if packages.is_dir() else None


@lru_cache(maxsize=64)
def _probe(path: str, changed: int) -> tuple[tuple[int, ...], list[str]]:
    command = [path, "-I", "-c", _PROBE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    version, folders, _ = json.loads(done.stdout)
    return tuple(version), [folder for folder in folders if Path(folder).is_dir()]
