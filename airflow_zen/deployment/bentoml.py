"""The target `BentoML`: a Bento of the model, served by processes on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_zen.deployment.base import Deployment, DeploymentRequest, LocalTarget, Server, ServerPlace
from airflow_zen.deployment.protocols import Rows
from airflow_zen.errors import StepDefinitionError

if TYPE_CHECKING:
    from airflow_zen.deployment.bento_publishing import Publication
    from airflow_zen.stack import Stack

BUILD_PROGRAM = "airflow_zen.deployment.programs.bento_build"


class BentoML(LocalTarget, frozen=True):
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
            builds=[[place.python, "-P", "-m", BUILD_PROGRAM, name, version, str(place.model)]],
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
            from airflow_zen.deployment.bento_publishing import publish

            publish(self, request, stack, missing)
        return deployed

    def _unpublished(self, request: DeploymentRequest) -> list[Publication]:
        """Return where the Bento is to be published, and is not."""
        if not (self.bentocloud_conn_id or self.containerize):
            return []
        from airflow_zen.deployment.bento_publishing import BentoCloud, ContainerImage

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
