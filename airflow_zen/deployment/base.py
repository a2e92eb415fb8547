"""The records and interfaces of deployments: the request, the target, the server, and the resulting `Deployment`."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from airflow_zen.deployment.protocols import Rows, compare_predictions
from airflow_zen.errors import DeploymentFailed

if TYPE_CHECKING:
    from airflow_zen.deployment.client import ServiceClient
    from airflow_zen.stack import Stack

# By name: it imports this file, and a DAG file that is parsed does not need it.
_CLIENT = "airflow_zen.deployment.client"
_SMOKE_TEST_FAILED = "The smoke test of {name!r} failed: {why} The model is not served by it."


# Users pass it on and store it: a dataclass, which typed JSON saves exactly.
@dataclass(frozen=True)
class Deployment:
    """A model version that answers requests.

    `endpoint`: the URL below which the target's protocol is served, and `predict_url` the one that predictions are
    requested from. `model`, `version`: of the registry, or the name of an artifact and the start of its digest.
    `target`: the text of the target. `owner`: who deployed it. `since`: when it began to serve, ISO 8601 in UTC.
    """

    name: str
    endpoint: str
    predict_url: str
    model: str
    version: str
    digest: str
    target: str
    owner: str
    since: str


class DeploymentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A model to serve under a name.

    directory: the MLflow Model on this machine, its requirements pinned, with a signature if its inputs are known. uri:
    the address of its artifact in the store. requirements: the pins that the model was made with. rows: the inputs of
    the smoke test, with the predictions in this process; None makes no smoke test. token: the bearer token of clients,
    empty for none. log_predictions: whether requests and answers are stored. paths: folders of the project's modules
    that the model uses.
    """

    name: str
    model: str
    version: str
    digest: str
    uri: str
    directory: Path
    stack: str = ""
    owner: str = ""
    requirements: tuple[str, ...] = ()
    rows: Rows | None = None
    expected: Any = None
    token: str = ""
    log_predictions: bool = True
    paths: tuple[str, ...] = ()


class Target(msgspec.Struct, frozen=True):
    """The place and the way in which a model is served: a frozen record of options, with a deterministic repr.

    Subclasses encode requests, and `deploy` a model. `kind` names the target in tags and tables.
    """

    kind: ClassVar[str]

    def predict_path(self, name: str) -> str:
        """Return the path below the endpoint that predictions are requested from."""
        raise NotImplementedError

    def encode_rows(self, rows: Rows) -> Mapping[str, Any]:
        """Return the JSON body of a request for predictions."""
        raise NotImplementedError

    def key(self, request: DeploymentRequest) -> str:
        """Return the identity of a request: a deployment with the same key already serves it."""
        parts = [repr(self), request.model, request.version, request.digest, request.token, request.log_predictions]
        return sha256(msgspec.json.encode(parts)).hexdigest()[:16]

    def find_current(self, request: DeploymentRequest) -> Deployment | None:
        """Return the deployment of the request's name if it serves with the request's key already; else None.

        The request has no rows yet.
        """
        raise NotImplementedError

    def resume(self, request: DeploymentRequest) -> Deployment | None:
        """Wait for what an earlier call of `deploy` has tested and begun to serve; return None if there is nothing.

        The request has no rows yet. Raises as `deploy`.
        """
        return None

    def deploy(self, request: DeploymentRequest, stack: Stack) -> Deployment:
        """Serve the model under the request's name.

        The earlier version is served until the new one has passed its smoke test. Raises `DeploymentFailed` if it
        fails. Raises `StepDeferred` if the task does not have to wait; the call is repeated when its trigger has fired.
        """
        raise NotImplementedError

    def stop(self, deployment: Deployment) -> None:
        """End the deployment, and delete everything that was made for it."""
        raise NotImplementedError

    def logs(self, deployment: Deployment, lines: int) -> str:
        """Return the end of the log of the server."""
        raise NotImplementedError

    def describe_state(self, deployment: Deployment) -> str:
        """Return the state: `serving`, `starting`, `stopped`, or the problem."""
        raise NotImplementedError


class ServerPlace(msgspec.Struct, frozen=True):
    """The place of a server of a local target.

    python: the interpreter of its environment. folder: its own empty folder, which is deleted with it. model: the
    MLflow Model directory. ports: the requested number of ports on the loopback interface.
    """

    name: str
    version: str
    digest: str
    python: str
    folder: Path
    model: Path
    ports: tuple[int, ...]

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.ports[0]}"

    def program(self, name: str) -> str:
        """Return the path of a program of the environment."""
        return str(Path(self.python).with_name(name))


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The start of a server of a local target; it must bind to 127.0.0.1 only.

    files: written into its folder first, by relative path. builds: commands that are run before it, in order. command:
    the server, which ends on SIGTERM. environment: variables besides the inherited ones. ready: a path that is answered
    with 200 when the server can predict.
    """

    command: Sequence[str]
    ready: str
    files: Mapping[str, str] = msgspec.field(default_factory=dict)
    builds: Sequence[Sequence[str]] = ()
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)


class LocalTarget(Target, frozen=True):
    """A target whose server is a process of this machine, behind the gateway of the deployment service.

    `port_count` is the number of ports that a server needs; the gateway uses the first.
    """

    port_count: ClassVar[int] = 1

    def requirements(self, model: Sequence[str]) -> list[str]:
        """Return the requirements of its environment, from the pins of the model."""
        raise NotImplementedError

    def server(self, place: ServerPlace) -> Server:
        """Return the start of the server."""
        raise NotImplementedError

    def find_current(self, request: DeploymentRequest) -> Deployment | None:
        """Ask the deployment service of this machine, if it runs."""
        return _service().find_current(request.name, self.key(request))

    def deploy(self, request: DeploymentRequest, stack: Stack) -> Deployment:
        """Serve the model with the deployment service of this machine, which is started if it does not run."""
        deployed: Deployment = import_module(_CLIENT).deploy_locally(self, request, stack)
        return deployed

    def stop(self, deployment: Deployment) -> None:
        """End the server after its current requests."""
        _service().stop(deployment.name)

    def logs(self, deployment: Deployment, lines: int) -> str:
        """Return the end of the server's log."""
        return _service().logs(deployment.name, lines)

    def describe_state(self, deployment: Deployment) -> str:
        """Return the state from the deployment service."""
        return _service().describe_state(deployment.name)


def _service() -> ServiceClient:
    client: ServiceClient = import_module(_CLIENT).ServiceClient.configured()
    return client


def log_token(token: str) -> str:
    """Return the token of a logger's URL, which is derived from that of a deployment's clients, and does not reveal it."""
    return hmac.new(token.encode(), b"prediction log", sha256).hexdigest() if token else ""


Send = Callable[[str, Mapping[str, Any]], Any]
"""Posts a JSON body to a path of a server, and returns the decoded answer; raises `DeploymentFailed` for an error."""


def smoke_test(target: Target, request: DeploymentRequest, send: Send) -> None:
    """Compare the predictions of a server with those in this process; raise `DeploymentFailed` where they differ."""
    if request.rows is None:
        return
    answer = send(target.predict_path(request.name), target.encode_rows(request.rows))
    if difference := compare_predictions(request.expected, answer):
        raise DeploymentFailed(_SMOKE_TEST_FAILED.format(name=request.name, why=difference))


def post_json(
    url: str, body: Mapping[str, Any], token: str = "", timeout: float = 120, headers: Mapping[str, str] | None = None
) -> Any:
    """Post a JSON body to a server, and return the decoded answer. Raises `DeploymentFailed` for an error.

    timeout: seconds for the answer.
    """
    import httpx

    headers = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        answer = httpx.post(url, json=body, headers=headers, timeout=timeout, trust_env=False)
        if answer.is_success:
            return answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise DeploymentFailed(f"POST {url} has no answer: {error!r}.") from error
    raise DeploymentFailed(f"POST {url} was answered with {answer.status_code}: {answer.text[:1000].strip()}")
