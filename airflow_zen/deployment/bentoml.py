"""The target `BentoML`: a Bento of the model, served by processes on this machine."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from airflow_zen.deployment.base import Deployment, DeploymentRequest, LocalTarget, Server, ServerPlace
from airflow_zen.deployment.protocols import Rows
from airflow_zen.errors import DeploymentFailed, SettingsError, StepDefinitionError

if TYPE_CHECKING:
    from airflow_zen.stack import Stack

log = logging.getLogger("airflow_zen.deployment")

_TIMEOUT = 60.0
_MAX_REASON = 3000
_BUILD = "airflow_zen.deployment.programs.bento_build"


class BentoML(LocalTarget, frozen=True, repr_omit_defaults=True):
    """Build a Bento of a model, and serve it with BentoML: `POST <endpoint>/predict` with `{"rows": [{…}, …]}`.

    The types of its API are those of the model's signature, its requirements the pins of the environment that served it,
    and its version is made of the model's digest. `workers`: the processes that predict, each with the model in memory.
    `timeout`: seconds for one request. `bentoml`: the release of BentoML. `extra_requirements`: what its environment has
    beside what the model needs.

    A Bento that has passed the smoke test can be published. `bentocloud_conn_id`: an Airflow connection with the URL of
    BentoCloud, or of a server with its API, as host, and a token as password: the Bento is pushed there.
    `containerize`: the name of a container image without a tag, such as `registry.example.com/flight_delay`: the Docker
    engine of the worker builds it with the Bento's version as tag. Neither is done again for the same version.

    https://docs.bentoml.com/en/latest/
    """

    kind: ClassVar[str] = "bentoml"
    workers: int = 1
    timeout: int = 60
    bentoml: str = "bentoml>=1.4.40,<1.5"
    extra_requirements: tuple[str, ...] = ()
    bentocloud_conn_id: str = ""
    containerize: str = ""

    def __post_init__(self) -> None:
        """Check the options where they are written."""
        for name in ("workers", "timeout"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise StepDefinitionError(f"BentoML({name}=…) is a positive number, got {value!r}.")

    def requirements(self, model: Sequence[str]) -> list[str]:
        """Return BentoML and the pins of the model."""
        return [self.bentoml, *model, *self.extra_requirements]

    def server(self, place: ServerPlace) -> Server:
        """Return the supervisor of BentoML, which starts the workers; its store is in the server's own folder."""
        name, version = bento_tag(place.name, place.digest)
        options = f"services.{name}.workers={self.workers} services.{name}.traffic.timeout={self.timeout}"
        where = ["--host", "127.0.0.1", "--port", str(place.ports[0])]
        return Server(
            builds=[[place.python, "-P", "-m", _BUILD, name, version, str(place.model)]],
            command=[place.program("bentoml"), "serve", f"{name}:{version}", *where],
            environment={
                "BENTOML_HOME": str(place.folder / "bentoml"),
                "BENTOML_CONFIG_OPTIONS": options,
            },
            ready="/readyz",
        )

    def find_current(self, request: DeploymentRequest) -> Deployment | None:
        """Return the deployment if it serves, and its Bento is published."""
        found = super().find_current(request)
        return None if found is None or self._unpublished(request) else found

    def deploy(self, request: DeploymentRequest, stack: Stack) -> Deployment:
        """Serve the Bento on this machine, and publish it then."""
        deployed = super().deploy(request, stack)
        if missing := self._unpublished(request):
            publish(self, request, stack, missing)
        return deployed

    def _unpublished(self, request: DeploymentRequest) -> list[Publication]:
        """Return where the Bento is to be published, and is not."""
        if not (self.bentocloud_conn_id or self.containerize):
            return []
        name, version = bento_tag(request.name, request.digest)
        wanted: list[Publication] = []
        if self.bentocloud_conn_id:
            wanted.append(BentoCloud.from_connection(self.bentocloud_conn_id))
        if self.containerize:
            wanted.append(ContainerImage(self.containerize))
        return [each for each in wanted if not each.has(name, version)]

    def predict_path(self, name: str) -> str:
        """Return the path of the service's only API."""
        return "/predict"

    def encode_rows(self, rows: Rows) -> Mapping[str, Any]:
        """Return an object of each row."""
        return {"rows": rows.records()}


def bento_tag(name: str, digest: str) -> tuple[str, str]:
    """Return the name of a Bento as BentoML allows it, and the version of a digest."""
    return re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_")[:63] or "model", digest[:16]


class Publication(Protocol):
    """A place that Bentos are published in."""

    def has(self, name: str, version: str) -> bool:
        """Whether the place has the version of a Bento."""

    def command(self, name: str, version: str) -> Sequence[str]:
        """Return the command of BentoML that publishes it, and its arguments."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of that command."""


class BentoCloud:
    """The API of BentoCloud at a URL."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url.rstrip("/"), token

    @classmethod
    def from_connection(cls, conn_id: str) -> BentoCloud:
        """Return that of an Airflow connection. Raises `SettingsError`."""
        from airflow.sdk import BaseHook

        try:
            found = BaseHook.get_connection(conn_id)
        except Exception as error:
            raise SettingsError(f"BentoML(bentocloud_conn_id={conn_id!r}) cannot be read: {error}") from error
        host = found.host or ""
        if not host or not found.password:
            raise SettingsError(f"Connection {conn_id!r} needs the URL of BentoCloud as host, and a token as password.")
        url = host if "://" in host else f"{found.schema or 'https'}://{host}"
        return cls(f"{url}:{found.port}" if found.port else url, found.password)

    def has(self, name: str, version: str) -> bool:
        """Whether the Bento is uploaded. Raises `DeploymentFailed` if the API does not say."""
        import httpx

        url = f"{self._url}/api/v1/bento_repositories/{name}/bentos/{version}"
        try:
            answer = httpx.get(url, headers={"X-YATAI-API-TOKEN": self._token}, timeout=_TIMEOUT)
            if answer.status_code == httpx.codes.NOT_FOUND or "record not found" in answer.text:
                return False
            return str(answer.raise_for_status().json().get("upload_status")) == "success"
        except (httpx.HTTPError, ValueError) as error:
            raise DeploymentFailed(f"BentoCloud does not say whether it has {name}:{version}: {error}") from error

    def command(self, name: str, version: str) -> Sequence[str]:
        """Push the Bento and its model."""
        return ["push", f"{name}:{version}"]

    @property
    def environment(self) -> Mapping[str, str]:
        """The URL and the token."""
        return {"BENTO_CLOUD_API_ENDPOINT": self._url, "BENTO_CLOUD_API_KEY": self._token}


class ContainerImage:
    """An image of the Docker engine that this machine uses."""

    environment: Mapping[str, str] = {}

    def __init__(self, image: str) -> None:
        self._image = image

    def has(self, name: str, version: str) -> bool:
        """Whether the engine has the image. Raises `DeploymentFailed` where Docker is not installed."""
        docker = shutil.which("docker")
        if docker is None:
            raise DeploymentFailed(
                f"BentoML(containerize={self._image!r}) needs the program docker on the PATH of the worker."
            )
        command = [docker, "image", "inspect", f"{self._image}:{version}"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def command(self, name: str, version: str) -> Sequence[str]:
        """Build the image."""
        return ["containerize", f"{name}:{version}", "--image-tag", f"{self._image}:{version}"]


def publish(target: BentoML, request: DeploymentRequest, stack: Stack, places: Sequence[Publication]) -> None:
    """Build the Bento of a request in a store of its own, and publish it. Raises `DeploymentFailed`."""
    from airflow_zen.deployment.client import make_environment
    from airflow_zen.runtimes.environments import Environments

    made, (name, version) = make_environment(target, request, stack), bento_tag(request.name, request.digest)
    using = Environments(made.folder, made.limit).use(made.resolved, None) if made else nullcontext(sys.executable)
    with using as python, stack.scratch_directory() as scratch:
        variables = _variables(python, scratch, request.paths)
        _run([python, "-P", "-m", _BUILD, name, version, str(request.directory)], variables)
        for place in places:
            bentoml = str(Path(python).with_name("bentoml"))
            _run([bentoml, *place.command(name, version)], {**variables, **place.environment})
            log.info("Published %s:%s: bentoml %s", name, version, " ".join(place.command(name, version)))


def _variables(python: str, scratch: Path, paths: Sequence[str]) -> dict[str, str]:
    from airflow_zen.lineage.mlflow.offline import write_package
    from airflow_zen.runtimes.base import TELEMETRY_OFF
    from airflow_zen.runtimes.child_process import NOT_INHERITED
    from airflow_zen.runtimes.environments import find_uv

    own = {name: value for name, value in os.environ.items() if not NOT_INHERITED.fullmatch(name)}
    tools = [str(Path(python).parent), *([str(Path(uv).parent)] if (uv := find_uv()) else [])]
    return {
        **own,
        **TELEMETRY_OFF,
        "BENTOML_HOME": str(scratch / "bentoml"),
        "PYTHONPATH": os.pathsep.join([write_package(scratch / "package"), *paths]),
        "PATH": os.pathsep.join([*tools, own.get("PATH", os.defpath)]),
    }


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, env=environment, text=True, check=False, **streams)  # type: ignore[call-overload]
    if done.returncode:
        from airflow_zen.config.settings import airflow_redactor

        reason = airflow_redactor().text(done.stdout.strip())[-_MAX_REASON:]
        raise DeploymentFailed(f"{Path(command[0]).name} {' '.join(command[1:4])} failed: {reason}")
