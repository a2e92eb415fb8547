"""The target `Seldon`: MLServer on this machine, or a model of Seldon Core in a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow_zen.deployment.base import Server, ServerPlace
from airflow_zen.deployment.cluster.credentials import StoreSecret, rclone_environment, rclone_secret
from airflow_zen.deployment.cluster.target import (
    Address,
    ClusterTarget,
    ModelSource,
    Progress,
    Resource,
    condition,
    is_current,
    unmet,
)
from airflow_zen.errors import StepDefinitionError

_MODEL = Resource("mlops.seldon.io", "v1alpha1", "models", "Model")
_SELDON_DEPLOYMENT = Resource("machinelearning.seldon.io", "v1", "seldondeployments", "SeldonDeployment")
_FAILED = ("ModelFailed", "ScheduleFailed", "LoadFailed")


class Seldon(ClusterTarget, frozen=True, kw_only=True, repr_omit_defaults=True):
    """Serve a model with Seldon: `POST <endpoint>/v2/models/NAME/infer`.

    On this machine it is MLServer, which Seldon runs for models of MLflow, and which answers MLflow's protocol, too.
    `mlserver`: its release. `extra_requirements`: what its environment has beside what the model needs.

    In the cluster that `kubernetes` names it is a `Model` of Seldon Core 2, which is reached by `ingress`, by default the
    service `seldon-mesh` of the namespace; with `core=1` a `SeldonDeployment` of Seldon Core 1. `server_name`, `memory`: of
    a `Model`. `logger`: the URL that Core 1 sends requests and answers to, such as
    `<gateway>/log/{model}?version={version}&deployment={deployment}&token={token}` of the deployment service, with
    these names in it; Core 2 has none. The other options are those of `ClusterTarget`.

    https://docs.seldon.ai/seldon-core-2
    """

    kind: ClassVar[str] = "seldon"
    port_count: ClassVar[int] = 3
    mlserver: str = "1.7.1"
    extra_requirements: tuple[str, ...] = ()
    core: int = 2
    server_name: str = ""
    memory: str = ""
    logger: str = ""

    def __post_init__(self) -> None:
        """Check the options where they are written."""
        super().__post_init__()
        if self.core not in (1, 2):
            raise StepDefinitionError(f"Seldon(core=…) is 1 or 2, got {self.core!r}.")
        others = ("service_account", "logger") if self.core == 2 else ("server_name", "memory", "max_replicas")
        if unused := [name for name in others if getattr(self, name)]:
            raise StepDefinitionError(
                f"Seldon({unused[0]}={getattr(self, unused[0])!r}) is not of Seldon Core {self.core}: remove it, or set "
                f"core={3 - self.core}."
            )

    def cluster_options(self) -> tuple[str, ...]:
        """Return the names of the options that only a cluster has."""
        return ("core", "server_name", "memory", "logger")

    def requirements(self, model: Sequence[str]) -> list[str]:
        """Return MLServer and what the model needs."""
        return [f"mlserver=={self.mlserver}", f"mlserver-mlflow=={self.mlserver}", *model, *self.extra_requirements]

    def server(self, place: ServerPlace) -> Server:
        """Return MLServer without processes of its own for a model."""
        http, grpc, metrics = place.ports
        ports = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics}
        settings = {"host": "127.0.0.1", **ports, "parallel_workers": 0}
        model = {
            "name": place.name,
            "implementation": "mlserver_mlflow.MLflowRuntime",
            "parameters": {"uri": str(place.model)},
        }
        return Server(
            files={"settings.json": json.dumps(settings), "model-settings.json": json.dumps(model)},
            command=[place.program("mlserver"), "start", str(place.folder)],
            ready=f"/v2/models/{place.name}/ready",
        )

    def resource(self) -> Resource:
        """Return the kind of the generation of Seldon Core."""
        return _SELDON_DEPLOYMENT if self.core == 1 else _MODEL

    def manifest(self, name: str, source: ModelSource) -> dict[str, Any]:
        """Return the specification of a `Model`, or of a `SeldonDeployment` with one predictor."""
        if self.core == 1:
            return self._seldon_deployment(name, source)
        given = {
            "storageUri": source.storage_uri,
            "requirements": ["mlflow"],
            "secretName": source.secret,
            "server": self.server_name,
            "memory": self.memory,
            **self.replica_fields(),
        }
        return {key: value for key, value in given.items() if value}

    def progress(self, found: Mapping[str, Any]) -> Progress:
        """Return what the condition of a `Model`, or the state of a `SeldonDeployment` says."""
        status = found.get("status", {})
        if self.core == 1:
            states = {"Available": "ready", "Failed": "failed"}
            state = states.get(str(status.get("state")), "waiting") if is_current(found) else "waiting"
            return Progress(state, str(status.get("description", "")))  # type: ignore[arg-type]
        ready = condition(found, "ModelReady")
        if is_current(found) and ready.get("status") == "True":
            return Progress("ready")
        if is_current(found) and ready.get("reason") in _FAILED:
            return Progress("failed", f"{ready['reason']} {ready.get('message', '')}".strip())
        return Progress("waiting", unmet(found))

    def address(self, found: Mapping[str, Any]) -> Address:
        """Return the URL of the mesh and the model's header; of Core 1 that of its own service, or its path below an ingress."""
        name, namespace = found["metadata"]["name"], found["metadata"]["namespace"]
        ingress = self.ingress.rstrip("/")
        if self.core == 1:
            service = urlsplit(found.get("status", {}).get("address", {}).get("url", ""))
            return Address(
                f"{ingress}/seldon/{namespace}/{name}" if ingress else f"{service.scheme}://{service.netloc}"
            )
        return Address(ingress or f"http://seldon-mesh.{namespace}.svc.cluster.local", {"Seldon-Model": name})

    def store_secret(self, options: Mapping[str, Any]) -> StoreSecret | None:
        """Return the configuration of rclone, for Core 1 as variables."""
        found = rclone_secret(options)
        return rclone_environment(found) if found and self.core == 1 else found

    def _seldon_deployment(self, name: str, source: ModelSource) -> dict[str, Any]:
        graph = {
            "name": name,
            "implementation": "MLFLOW_SERVER",
            "modelUri": source.storage_uri,
            "envSecretRefName": source.secret,
            "serviceAccountName": source.service_account,
            "logger": source.logger(self.logger),
        }
        predictor: dict[str, Any] = {"name": "default", "graph": {key: value for key, value in graph.items() if value}}
        if self.min_replicas:
            predictor["replicas"] = self.min_replicas
        return {"protocol": "v2", "predictors": [predictor]}
