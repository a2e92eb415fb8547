"""A PostgreSQL server of its own, on a free loopback port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import free_port, running

_USER = "zen"


def missing() -> list[str]:
    """Name the programs that are not on the PATH."""
    return [
        name for name in ("initdb", "postgres", *(("setpriv",) if os.geteuid() == 0 else ())) if not shutil.which(name)
    ]


@contextmanager
def postgres(user: str = _USER, password: str = "") -> Iterator[str]:
    """Run a server with an empty database; give its SQLAlchemy URL.

    password: of `user`, and everybody needs one; by default nobody does.
    """
    # Not in pytest's directory: that is root's alone, and PostgreSQL refuses to run as root.
    directory = Path(tempfile.mkdtemp(prefix="zen-postgres-"))
    port = free_port()
    prefix = _unprivileged(directory)
    try:
        cluster = ["-D", str(directory / "data"), "-U", user, *_checks(directory, password)]
        create = [*prefix, "initdb", "--no-sync", *cluster]
        subprocess.run(create, check=True, capture_output=True, cwd=directory)
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", str(directory), "-p", str(port)]
        command = [*prefix, "postgres", "-D", str(directory / "data"), *options]
        address = f"{user}{password and f':{password}'}@127.0.0.1:{port}/postgres"
        with running(command, log=directory / "log", answers=lambda: _answers(f"postgresql://{address}")):
            yield f"postgresql+psycopg2://{address}"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _answers(url: str) -> bool:
    """Whether it accepts a session: it listens before that, and refuses early clients."""
    import psycopg2

    try:
        psycopg2.connect(url).close()
    except psycopg2.OperationalError:
        return False
    return True


def _checks(directory: Path, password: str) -> list[str]:
    """Ask for passwords where there is one; the directory is PostgreSQL's alone."""
    if not password:
        return ["--auth=trust"]
    file = directory / "password"
    file.write_text(password)
    return ["--auth=scram-sha-256", f"--pwfile={file}"]


def _unprivileged(directory: Path) -> list[str]:
    """Change the owner of the directory to nobody if we are root; return the command prefix that runs as nobody."""
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
