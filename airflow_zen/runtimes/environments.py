"""The virtual environments of a worker: resolved and made with uv or pip, shared by tasks, bounded in size."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from airflow_zen.errors import RuntimeUnavailable, SettingsError

if TYPE_CHECKING:
    from airflow_zen.runtimes.virtualenv import Resolved
    from airflow_zen.steps.runtime import Runtime

_MARKER = "airflow_zen.json"
_MAX_REASON = 3000


class Index(msgspec.Struct, frozen=True):
    """A package index; `url` includes the credentials, `public_url` does not."""

    url: str
    public_url: str

    def __repr__(self) -> str:
        return f"Index({self.public_url!r})"

    @classmethod
    def from_connection(cls, conn_id: str) -> Index:
        """Return the index of an Airflow connection of type `package_index`. Raises `SettingsError`."""
        from airflow.providers.standard.hooks.package_index import PackageIndexHook

        try:
            url = str(PackageIndexHook(conn_id).get_connection_url())
        except Exception as error:
            raise SettingsError(f"Virtualenv(index_conn_id={conn_id!r}) cannot be read: {error}") from error
        parts = urlsplit(url)
        return cls(url, parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())


class StoredEnvironment(msgspec.Struct, frozen=True):
    """An environment on this worker: its contents, its size in bytes, and when it was made and last used."""

    key: str
    python: str
    requirements: tuple[str, ...]
    size: int
    created: float
    used: float = 0.0


class Environments:
    """The environments in one folder.

    An environment is complete when its marker exists, which is written last. The process that makes it holds an
    exclusive lock, which its installer shares: no second process makes the same one, and no installer outlives the
    lock. Processes that use it hold a shared lock, so that no prune deletes it. `limit`: bytes of all, above which the
    least recently used are deleted.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    @classmethod
    def configured(cls) -> Environments:
        """Return the environments in `[zen] environments_dir`."""
        from airflow_zen.config.options import default_environments_dir, find_options

        options = find_options()
        folder = Path(options.text("environments_dir") or default_environments_dir()).expanduser().absolute()
        return cls(folder, options.size("environments_size", default="20G"))

    @contextmanager
    def use(self, resolved: Resolved, index: Index | None) -> Iterator[str]:
        """Yield the interpreter of an environment, which is made if it does not exist; keep it during the block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = self.folder / resolved.key
        with (self.folder / f"{resolved.key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            while not (folder / _MARKER).exists():
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not (folder / _MARKER).exists():
                    self._make(folder, resolved, index, lock.fileno())
                # Another process may delete it before the lock is a shared one.
                fcntl.flock(lock, fcntl.LOCK_SH)
            os.utime(folder / _MARKER)
            yield str(folder / "bin/python")

    def stored(self) -> list[StoredEnvironment]:
        """Return the complete environments, the least recently used first."""
        found = []
        for marker in self.folder.glob(f"*/{_MARKER}"):
            with suppress(OSError, msgspec.MsgspecError):
                stored = msgspec.json.decode(marker.read_bytes(), type=StoredEnvironment)
                found.append(msgspec.structs.replace(stored, used=marker.stat().st_mtime))
        return sorted(found, key=lambda stored: stored.used)

    def prune(self, unused_since: float | None = None, limit: int | None = None) -> list[StoredEnvironment]:
        """Delete environments last used before a time, and the least recently used above a size; return them.

        Environments that a task uses, or that are being made, are kept. Incomplete ones of killed processes are
        deleted, too.
        """
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if folder.is_dir() and not (folder / _MARKER).exists():
                self._delete(folder.name)
        stored = self.stored()
        excess = sum(each.size for each in stored) - (self.limit if limit is None else limit)
        deleted = []
        for each in stored:
            is_old = unused_since is not None and each.used < unused_since
            if (is_old or excess > 0) and self._delete(each.key):
                excess -= each.size
                deleted.append(each)
        return deleted

    def _delete(self, key: str) -> bool:
        """Delete an environment that no process uses or makes; return whether it was deleted."""
        with (self.folder / f"{key}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            (self.folder / key / _MARKER).unlink(missing_ok=True)
            shutil.rmtree(self.folder / key, ignore_errors=True)
            return True

    def _make(self, folder: Path, resolved: Resolved, index: Index | None, lock: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        requirements = self.folder / f"{folder.name}.txt"
        requirements.write_text(resolved.text)
        _make_environment(folder, resolved.interpreter, lock)
        _install(folder, requirements, index, lock)
        requirements.unlink()
        lines = tuple(line for line in resolved.text.splitlines() if line and not line.startswith("#"))
        size = sum(path.lstat().st_size for path in folder.rglob("*"))
        stored = StoredEnvironment(folder.name, resolved.python, lines, size, time.time())
        (folder / "new").write_bytes(msgspec.json.encode(stored))
        (folder / "new").rename(folder / _MARKER)
        self.prune()


def find_uv() -> str | None:
    """Return the path of uv, from the PATH or beside this interpreter; None if it is not installed."""
    beside = Path(sys.executable).with_name("uv")
    return shutil.which("uv") or (str(beside) if beside.is_file() else None)


def resolve_requirements(
    lines: Sequence[str], interpreter: str, index: Index | None, preferred: str, runtime: Runtime
) -> str:
    """Return the pins of requirements and their dependencies, one on each line, sorted.

    preferred: pins that are used if the requirements allow them. With NumPy 1, pyarrow is limited to releases that can
    be imported with it, which pyarrow does not declare. Raises `RuntimeUnavailable` with the resolver's reason.
    """
    pins = _resolve(lines, interpreter, index, preferred, runtime)
    if re.search(r"^numpy==1\.", pins, re.MULTILINE) and re.search(r"^pyarrow==(2[4-9]|[3-9]\d)\.", pins, re.MULTILINE):
        return _resolve([*lines, "pyarrow<24"], interpreter, index, preferred, runtime)
    return pins


def _resolve(lines: Sequence[str], interpreter: str, index: Index | None, preferred: str, runtime: Runtime) -> str:
    with tempfile.TemporaryDirectory(prefix="zen-resolve-") as temporary:
        source, target = Path(temporary, "in.txt"), Path(temporary, "out.txt")
        source.write_text("".join(f"{line}\n" for line in lines))
        target.write_text(preferred)
        if uv := find_uv():
            command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", interpreter]
            _run([*command, "--output-file", str(target), str(source)], index, f"{runtime!r} cannot be resolved")
            return "".join(sorted(target.read_text().splitlines(keepends=True)))
        environment, report = Path(temporary, "environment"), Path(temporary, "report.json")
        _make_environment(environment, interpreter)
        pip = [str(environment / "bin/python"), "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        _run([*pip, "--report", str(report), "-r", str(source)], index, f"{runtime!r} cannot be resolved")
        return "".join(sorted(map(_pin, json.loads(report.read_text())["install"])))


def _pin(install: Any) -> str:
    metadata, url = install["metadata"], install["download_info"]["url"]
    name = re.sub(r"[-_.]+", "-", metadata["name"]).lower()
    is_direct = install.get("is_direct")
    return f"{name} @ {url}\n" if is_direct else f"{name}=={metadata['version']}\n"


def _make_environment(folder: Path, interpreter: str, lock: int | None = None) -> None:
    if uv := find_uv():
        command = [uv, "venv", "--quiet", "--no-project", "--python", interpreter, str(folder)]
    else:
        # pip knows no releases by number.
        command = [interpreter if "/" in interpreter else f"python{interpreter}", "-m", "venv", str(folder)]
    _run(command, None, f"No environment can be made with {interpreter}", lock)


def _install(folder: Path, requirements: Path, index: Index | None, lock: int) -> None:
    interpreter = str(folder / "bin/python")
    if uv := find_uv():
        command = [uv, "pip", "install", "--quiet", "--no-deps", "--python", interpreter, "-r", str(requirements)]
    else:
        command = [interpreter, "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements)]
    _run(command, index, "The resolved requirements cannot be installed", lock)


def export_lock(path: Path, group: str, runtime: Runtime) -> str:
    """Return the contents of a `uv.lock` as lines of a requirements file, for the project or one of its groups.

    Raises `RuntimeUnavailable` with uv's reason.
    """
    uv = find_uv()
    if uv is None:
        raise RuntimeUnavailable(
            f"{runtime!r} needs uv to read {path}: install uv on the worker, or write a pylock.toml."
        )
    with tempfile.TemporaryDirectory(prefix="zen-resolve-") as temporary:
        target = Path(temporary, "out.txt")
        part = ("--only-group", group) if group else ("--no-default-groups",)
        options = ("--frozen", "--no-emit-project", "--no-hashes", "--no-header", "--no-annotate", "--offline", *part)
        command = [uv, "export", "--quiet", *options, "--project", str(path.parent), "--output-file", str(target)]
        _run(command, None, f"{runtime!r}: {path} cannot be read")
        return target.read_text()


def _run(command: Sequence[str], index: Index | None, failure: str, lock: int | None = None) -> None:
    """Run uv or pip in a process that shares the lock; raise `RuntimeUnavailable` with its output if it fails."""
    # A virtual environment around the worker is not meant, and no interpreter is downloaded.
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment |= {"UV_PYTHON_DOWNLOADS": "never", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    if index:
        environment |= {"UV_DEFAULT_INDEX": index.url, "PIP_INDEX_URL": index.url}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            pass_fds=[lock] if lock is not None else [],
        )
    except OSError as error:
        raise RuntimeUnavailable(f"{failure}: {error}.") from error
    if done.returncode:
        from airflow_zen.config.settings import airflow_redactor

        reason = airflow_redactor().text(done.stdout.strip())[-_MAX_REASON:]
        raise RuntimeUnavailable(f"{failure}: {reason or f'exit code {done.returncode}'}")
