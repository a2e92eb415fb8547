"""A real S3 store: the RADOS gateway of Ceph, its objects in memory."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.servers.process import accepts, free_port, running
from tests.servers.s3 import S3Server

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")

# `ms mon client mode`: without it the gateway loops while it authenticates.
# `paxos …`: without them the start takes 12 s. `tcp_nodelay`: without it a GET takes 44 ms.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms bind msgr1 = false
public addr = 127.0.0.1
run dir = {directory}/run
admin socket = {directory}/run/$name.asok
pid file = {directory}/run/$name.pid
crash dir = {directory}/run
log file = {directory}/$name.log
osd pool default size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
paxos propose interval = 0.01
paxos min wait = 0.005
mon data = {directory}/mon
osd data = {directory}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw data = {directory}
rgw dynamic resharding = false
rgw crypt require ssl = false
rgw s3 auth use sts = true
rgw sts key = a-key-of-16-byte
"""


def missing() -> list[str]:
    """Name the programs of Ceph that this machine lacks."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


@contextmanager
def ceph(directory: Path) -> Iterator[S3Server]:
    """Run monitor, object store and gateway; `directory` must be new."""
    port, fsid = free_port(), str(uuid.uuid4())
    settings = _configure(directory, fsid, port)
    with ExitStack() as stack:
        _start_monitor(stack, directory, settings, fsid)
        _start_object_store(stack, directory, settings)
        gateway = ["radosgw", *settings, "-n", "client.rgw", "-f"]
        stack.enter_context(running(gateway, log=directory / "radosgw.out", answers=lambda: accepts(port)))
        yield _with_user(settings, port).create_bucket()


def _configure(directory: Path, fsid: str, port: int) -> list[str]:
    for name in ("mon", "osd", "run"):
        (directory / name).mkdir(parents=True)
    configuration = directory / "ceph.conf"
    configuration.write_text(
        CONFIGURATION.format(directory=directory.resolve(), fsid=fsid, port=port, mon_port=free_port())
    )
    return ["-c", str(configuration)]


def _start_monitor(stack: ExitStack, directory: Path, settings: list[str], fsid: str) -> None:
    monmap = str(directory / "monmap")
    address = next(line for line in Path(settings[1]).read_text().splitlines() if line.startswith("mon host"))
    _run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", f"[{address.split(' = ')[1]}]", monmap)
    _run("ceph-mon", *settings, "-i", "a", "--mkfs", "--monmap", monmap)
    command = ["ceph-mon", *settings, "-i", "a", "-f"]
    stack.enter_context(running(command, log=directory / "mon.out", answers=_answers("ceph", *settings, "status")))


def _start_object_store(stack: ExitStack, directory: Path, settings: list[str]) -> None:
    identity = str(uuid.uuid4())
    _run("ceph", *settings, "--connect-timeout", "120", "osd", "new", identity)
    _run("ceph-osd", *settings, "-i", "0", "--mkfs", "--osd-uuid", identity)
    command = ["ceph-osd", *settings, "-i", "0", "-f"]
    up = _answers("ceph", *settings, "osd", "stat", containing="1 up")
    stack.enter_context(running(command, log=directory / "osd.out", answers=up))


def _with_user(settings: list[str], port: int) -> S3Server:
    server = S3Server(
        f"http://127.0.0.1:{port}",
        access_key="zen-access",
        secret_key="zen-secret",
        bucket="zen",
        admin=("radosgw-admin", *settings),
    )
    keys = ("--access-key", server.access_key, "--secret-key", server.secret_key)
    _run(*server.admin, "user", "create", "--uid=zen", "--display-name=zen", *keys)
    return server


def _answers(*command: str, containing: str = "") -> Callable[[], bool]:
    def answers() -> bool:
        done = subprocess.run(
            [*command, "--connect-timeout", "5"], capture_output=True, text=True, check=False, timeout=240
        )
        return done.returncode == 0 and containing in done.stdout

    return answers


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
