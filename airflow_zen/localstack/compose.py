"""The stack of `docker/`, brought up and down by Docker's compose."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import airflow_zen
from airflow_zen.localstack.state import StackError

_FILE = Path("docker/compose.yaml")


def compose_file(given_path: str | None, start: Path) -> Path:
    """Find the compose file: the one asked for, else that of the checkout around `start`, else that of this package.

    Raises `StackError` where there is none.
    """
    if given_path:
        if not Path(given_path).is_file():
            raise StackError(f"The compose file {given_path!r} is not there.")
        return Path(given_path).resolve()
    package = Path(airflow_zen.__file__).resolve().parent
    for folder in (*start.resolve().joinpath("x").parents, package.parent):
        if (folder / _FILE).is_file() and (folder / "docker" / "secrets.sh").is_file():
            return folder / _FILE
    raise StackError(
        f"No {_FILE} of airflow_zen is in {str(start)!r} or above it. Run this inside a checkout of the repository, or "
        "name the file with --file."
    )


def run_compose(file: Path, *arguments: str) -> None:
    """Run `docker compose` on a file; raises `StackError` where there is no Docker, or where it fails."""
    command = [docker_program(), "compose", "--file", str(file), *arguments]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise StackError(f"{' '.join(['docker', *command[1:]])} ended with {done.returncode}.")


def docker_program() -> str:
    """Find Docker's program; raises `StackError` where there is none, or none that knows compose."""
    found = shutil.which("docker")
    missing = "no `docker` program on the PATH" if found is None else ""
    if found and subprocess.run([found, "compose", "version"], capture_output=True, check=False).returncode:
        missing = "no compose plugin of the `docker` program"
    if found is None or missing:
        raise StackError(
            f"There is {missing}, so the stack of containers cannot be managed from here. Install Docker Engine with its "
            "compose plugin, or start the stack without containers: airflow zen stack up local."
        )
    return found


def make_secrets(file: Path) -> None:
    """Make the secrets that are missing beside the compose file; those that are there stay."""
    script = file.parent / "secrets.sh"
    if script.is_file():
        subprocess.run(["bash", str(script)], check=True)


def log_arguments(part: str | None, lines: int, *, following: bool) -> Sequence[str]:
    """Say `logs` in compose's words."""
    return ["logs", f"--tail={lines}", *(["--follow"] if following else []), *([part] if part else [])]
