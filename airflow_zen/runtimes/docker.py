"""The runtime `Docker`: a container of an image that has this package, on the engine that the worker reaches."""

from __future__ import annotations

import codecs
import io
import logging
import os
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import force_setattr

from airflow_zen.errors import FingerprintError, RuntimeUnavailable, StepDefinitionError
from airflow_zen.runtimes.memory_limits import memory_bytes, memory_limits, memory_of_try
from airflow_zen.steps.runtime import Runtime

if TYPE_CHECKING:
    from airflow_zen.runtimes.base import OutputStream
    from airflow_zen.stack import Stack
    from airflow_zen.steps.runtime import Execution, StepResult
    from airflow_zen.steps.step import Step

log = logging.getLogger("airflow_zen.runtimes")

_DEFAULT_URL = "unix:///var/run/docker.sock"
_SPEC = "airflow-zen-spec.json"
# Airflow sends SIGKILL 5 seconds after SIGTERM.
_SECONDS_TO_STOP = 3
# Created longer ago and not started, a container has lost its task.
_SECONDS_TO_START = 600
_COMMAND_NOT_FOUND = 127
_LABEL = "airflow_zen.step_run"


class Docker(Runtime, msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Run the function in a container: `Docker("registry/train:1", memory=("4Gi", "16Gi"))`.

    The image needs Python 3.11 or later with this package and what the step imports; Airflow and MLflow are needed only
    if the step uses them. Its digest is in the cache key instead of the distributions of the worker.

    `cpus`: a limit, such as 1.5. `memory`: a limit, such as "4Gi"; a sequence has one for each try of the task, and the
    last one is that of all later tries. `gpus`: a number, or "all". `shm_size`: of /dev/shm. `network`: a network mode of
    Docker, such as "host", or the name of a network. `mounts`: "SOURCE:TARGET" or "SOURCE:TARGET:ro", as for
    `docker run --volume`. `environment`: variables; one whose value is None has the worker's value. `user`: name or
    number, by default the image's. `python`: the interpreter in the image.

    `docker_url`: of the engine, by default that of DOCKER_HOST, with the certificates of DOCKER_CERT_PATH, or of the
    engine on this machine. `docker_conn_id`: an Airflow connection with the login to the image's registry.
    `artifact_root`: the artifact root as containers reach it, where that differs. A local artifact root is mounted, and
    the container runs as the worker's user, so that both can change its files.
    """

    image: str
    cpus: float = 0
    memory: str | tuple[str, ...] = ()
    gpus: int | str = 0
    network: str = ""
    mounts: tuple[str, ...] = ()
    environment: Mapping[str, str | None] = msgspec.field(default_factory=dict)
    user: str = ""
    shm_size: str = ""
    python: str = "python"
    docker_url: str = ""
    docker_conn_id: str = ""
    artifact_root: str = ""

    def __post_init__(self) -> None:
        """Check the options where they are written, and put them in one form."""
        image: object = self.image
        if not isinstance(image, str) or not image.strip():
            raise StepDefinitionError(f"Docker(…) takes the name of an image, such as 'train:1', got {image!r}.")
        _check_numbers(self.cpus, self.gpus)
        force_setattr(self, "memory", memory_limits(self.memory))
        force_setattr(self, "mounts", _checked_mounts(self.mounts))
        force_setattr(self, "environment", dict(sorted(self.environment.items())))
        if self.shm_size:
            memory_limits(self.shm_size)

    def ingredients(self, step: Step, stack: Stack) -> Mapping[str, str]:
        """Return the digest of the image; for an image that the engine does not have, ask the registry."""
        _, _, pinned = self.image.partition("@")
        if pinned:
            return {"image": pinned}
        try:
            with self._engine() as client:
                return {"image": self._digest(client)}
        except RuntimeUnavailable as error:
            raise FingerprintError(str(error)) from error

    def execute(self, execution: Execution) -> StepResult:
        """Run the function in a container, and remove the container.

        Raises the function's error, or `RuntimeUnavailable` for a container that ended without an answer.
        """
        from airflow_zen.runtimes.base import OutputStream, describe_exit, read_answer

        stream = OutputStream()
        limit = memory_of_try(tuple(self.memory), execution.run.id.try_number)
        with self._engine() as client, self._container(client, execution, limit) as container:
            code, is_out_of_memory = _run(client, container, stream)
        if stream.answer:
            return read_answer(stream.answer, execution, self._named())
        if code == _COMMAND_NOT_FOUND and not is_out_of_memory:
            raise RuntimeUnavailable(
                f"{self._named()!r} has no {self.python!r}: the image needs Python 3.11 or later with airflow-provider-zen. "
                "Name another interpreter with python=."
            )
        memory = f"out of memory, limit {limit}" if limit else "out of memory"
        raise describe_exit(code, stream.tail, self._named(), out_of_memory=memory if is_out_of_memory else "")

    @contextmanager
    def _engine(self) -> Iterator[Any]:
        """Connect to the engine; its errors in the block are raised as `RuntimeUnavailable`."""
        with closing(self._connect()) as client:
            from docker.errors import APIError
            from requests import RequestException
            from urllib3.exceptions import HTTPError

            try:
                yield client
            except APIError as error:
                raise RuntimeUnavailable(
                    f"{self._named()!r} was refused by the Docker engine: {error.explanation}."
                ) from error
            except (RequestException, HTTPError) as error:
                raise RuntimeUnavailable(f"{self._named()!r} lost the Docker engine: {error}.") from error

    def _connect(self) -> Any:
        """Return the client of the Docker provider's hook, which logs in to the registry."""
        try:
            from airflow.providers.common.compat.sdk import AirflowException
            from airflow.providers.docker.hooks.docker import DockerHook
            from docker.errors import DockerException
            from docker.utils import kwargs_from_env
        except ImportError as error:
            raise RuntimeUnavailable(
                f"{self._named()!r} needs the Docker provider: pip install airflow-provider-zen[docker]."
            ) from error
        given = kwargs_from_env()
        url = self.docker_url or given.get("base_url") or _DEFAULT_URL
        try:
            return DockerHook(self.docker_conn_id or None, base_url=url, tls=given.get("tls")).api_client
        except (AirflowException, DockerException) as error:
            raise RuntimeUnavailable(f"{self._named()!r} cannot use the Docker engine at {url}: {error}") from error

    def _named(self) -> Docker:
        """Return the name of the runtime in errors: the image, without the options."""
        return Docker(self.image)

    @contextmanager
    def _container(self, client: Any, execution: Execution, limit: str) -> Iterator[str]:
        """Create a container with the spec in it, without starting it; remove it after the block."""
        from requests import RequestException

        from airflow_zen.runtimes.base import make_spec

        spec = msgspec.json.encode(make_spec(execution, root=self.artifact_root))
        _remove_abandoned(client)
        container = client.create_container(**self._configuration(client, execution, limit))["Id"]
        try:
            client.put_archive(container, "/", _archive(spec))
            log.info("Running in container %s of image %s", container[:12], self.image)
            yield container
        finally:
            # The engine removes an ended one itself, perhaps just now.
            with suppress(RequestException):
                client.remove_container(container, force=True)

    def _configuration(self, client: Any, execution: Execution, limit: str) -> dict[str, Any]:
        environment, binds, user = self._environment(client, execution), list(self.mounts), self.user
        if mounted := self._mounted_root(client, execution.stack.store.root):
            binds.append(mounted)
            if not user:
                user = f"{os.getuid()}:{os.getgid()}"
                environment.setdefault("HOME", "/tmp")  # noqa: S108 - the image need not know this user
        return {
            "image": self._local_image(client)["Id"],
            "entrypoint": [self.python, "-P", "-m", "airflow_zen.runner"],
            "command": [f"/{_SPEC}"],
            "environment": environment,
            "user": user or None,
            "labels": {_LABEL: str(execution.run.id)},
            # The engine closes it when this process is gone.
            "stdin_open": True,
            "host_config": client.create_host_config(binds=binds, **self._limits(limit)),
        }

    def _environment(self, client: Any, execution: Execution) -> dict[str, str | None]:
        """Return the variables of the container; one that is None is removed from those of the image."""
        from airflow_zen.runner import LIFELINE_VARIABLE
        from airflow_zen.runtimes.base import step_environment

        # A container that shares this machine's network reaches what listens for this machine only.
        reaches_relay = self.network == "host" and _is_local(client)
        found = step_environment(execution.stack, execution.opened(), reaches_relay=reaches_relay)
        own = {name: os.environ.get(name) if value is None else value for name, value in self.environment.items()}
        return {name: value or None for name, value in {**found, **own}.items()} | {LIFELINE_VARIABLE: "0"}

    def _limits(self, limit: str) -> dict[str, Any]:
        from docker.types import DeviceRequest

        memory = memory_bytes(limit) if limit else None
        count = -1 if self.gpus == "all" else self.gpus
        return {
            "auto_remove": True,
            "init": True,
            "network_mode": self.network or None,
            "nano_cpus": round(self.cpus * 1e9) or None,
            "mem_limit": memory,
            # Without swap, which would make it slow in the place of ending it.
            "memswap_limit": memory,
            "shm_size": memory_bytes(self.shm_size) if self.shm_size else None,
            "device_requests": [DeviceRequest(count=count, capabilities=[["gpu"]])] if count else None,
        }

    def _mounted_root(self, client: Any, root: str) -> str:
        """Return the mount of a local artifact root; "" for another one."""
        if "://" in root or self.artifact_root:
            return ""
        if not _is_local(client):
            raise RuntimeUnavailable(
                f"{self._named()!r} runs on another machine, which does not have the artifact root {root!r}. Use an object store, or "
                "say with artifact_root= how containers reach it, and mount it there with mounts=."
            )
        os.makedirs(root, exist_ok=True)  # noqa: PTH103 - a missing one would be made by the engine, for root
        return f"{root}:{root}"

    def _local_image(self, client: Any) -> dict[str, Any]:
        """Return the engine's description of the image, which is pulled if it is missing."""
        from docker.errors import APIError, ImageNotFound

        with suppress(ImageNotFound):
            return dict(client.inspect_image(self.image))
        log.info("Pulling image %s", self.image)
        try:
            for status in client.pull(self.image, stream=True, decode=True):
                if reason := status.get("error"):
                    raise RuntimeUnavailable(self._missing_image(reason))
            return dict(client.inspect_image(self.image))
        except APIError as error:
            raise RuntimeUnavailable(self._missing_image(error.explanation)) from error

    def _digest(self, client: Any) -> str:
        """Return the digest that the registry assigned to the image; for an image built here, that of the engine."""
        from docker.errors import APIError, ImageNotFound
        from docker.utils import parse_repository_tag

        try:
            image = client.inspect_image(self.image)
        except ImageNotFound:
            try:
                return str(client.inspect_distribution(self.image)["Descriptor"]["digest"])
            except APIError as error:
                raise RuntimeUnavailable(self._missing_image(error.explanation)) from error
        # One image may have been pushed to several repositories.
        repository, _ = parse_repository_tag(self.image)
        digests = sorted(image.get("RepoDigests") or (), key=lambda name: (name.partition("@")[0] != repository, name))
        return str(digests[0].partition("@")[2] if digests else image["Id"])

    def _missing_image(self, reason: str) -> str:
        return (
            f"{self._named()!r} has no image: the Docker engine does not have {self.image!r}, and cannot pull it: {reason}. Check the "
            "name, build the image there, or name a connection with the login to its registry with docker_conn_id=."
        )


def _check_numbers(cpus: object, gpus: object) -> None:
    if not isinstance(cpus, int | float) or cpus < 0:
        raise StepDefinitionError(f"cpus must be a number, such as 1.5, got {cpus!r}.")
    if gpus != "all" and (not isinstance(gpus, int) or gpus < 0):
        raise StepDefinitionError(f"gpus must be a number or 'all', got {gpus!r}.")


def _checked_mounts(mounts: Iterable[str]) -> tuple[str, ...]:
    found = (mounts,) if isinstance(mounts, str) else tuple(mounts)
    for mount in found:
        parts = mount.split(":")
        if len(parts) not in (2, 3) or not PurePosixPath(parts[1]).is_absolute():
            raise StepDefinitionError(f"mounts must be 'SOURCE:TARGET' or 'SOURCE:TARGET:ro', got {mount!r}.")
    return found


def _is_local(client: Any) -> bool:
    return str(client.base_url).startswith(("http+docker://localhost", "http+docker://localnpipe"))


def _archive(spec: bytes) -> bytes:
    """Return a tar archive with the spec, readable by every user of the container."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(_SPEC)
        entry.size, entry.mode = len(spec), 0o444
        tar.addfile(entry, io.BytesIO(spec))
    return archive.getvalue()


def _remove_abandoned(client: Any) -> None:
    """Remove containers of tasks that were killed before the start; the engine removes only those that have ended."""
    from requests import RequestException

    for container in client.containers(all=True, filters={"label": _LABEL, "status": "created"}):
        if container["Created"] < time.time() - _SECONDS_TO_START:
            with suppress(RequestException):
                client.remove_container(container["Id"], force=True)


def _run(client: Any, container: str, stream: OutputStream) -> tuple[int, bool]:
    """Start a container, pass on its output, and wait for its end; return the exit code, and whether memory ran out.

    An interrupt of this process is passed on to the function, which may clean up for three seconds.
    """
    from requests import RequestException

    # The engine removes an ended container, so its end is read from the events.
    events = client.events(filters={"container": container}, decode=True)
    connection = client.attach_socket(container, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    client.start(container)
    try:
        _pass_on(connection, stream)
        return _end(events)
    except BaseException:
        with suppress(RequestException):
            client.stop(container, timeout=_SECONDS_TO_STOP)
            _pass_on(connection, stream)
        raise


def _pass_on(connection: Any, stream: OutputStream) -> None:
    """Pass on the lines of both outputs until they end."""
    from docker.utils.socket import STDERR, frames_iter

    outputs = (_Lines(stream, is_error=False), _Lines(stream, is_error=True))
    for kind, data in frames_iter(connection, tty=False):
        outputs[kind == STDERR].feed(data)
    for output in outputs:
        output.feed(b"", final=True)


def _end(events: Iterable[Mapping[str, Any]]) -> tuple[int, bool]:
    code, is_out_of_memory = None, False
    for event in events:
        is_out_of_memory |= event["Action"] == "oom"
        if event["Action"] == "die":
            code = int(event["Actor"]["Attributes"]["exitCode"])
        if event["Action"] == "destroy" and code is not None:
            return code, is_out_of_memory
    raise RuntimeUnavailable("The Docker engine ended while the step ran in a container.")


class _Lines:
    """Pass on one output by line; a carriage return, as of a progress bar, ends a line, too."""

    def __init__(self, stream: OutputStream, *, is_error: bool) -> None:
        self._stream, self._is_error = stream, is_error
        self._decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
        self._rest = ""

    def feed(self, data: bytes, *, final: bool = False) -> None:
        """Process received bytes, which may end within a line or a character."""
        *lines, self._rest = (self._rest + self._decoder.decode(data, final=final)).split("\n")
        if final and self._rest:
            lines.append(self._rest)
        for line in lines:
            self._stream.write(line, is_error=self._is_error)
