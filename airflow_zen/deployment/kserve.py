"""The target `KServe`: KServe's Python model server on this machine, or an InferenceService in a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import force_setattr

from airflow_zen.deployment.base import Server, ServerPlace
from airflow_zen.deployment.cluster.credentials import StoreSecret, kserve_secret
from airflow_zen.deployment.cluster.target import (
    Address,
    ClusterTarget,
    ModelSource,
    Progress,
    Resource,
    condition,
    is_current,
    plain_option,
    unmet,
)
from airflow_zen.errors import StepDefinitionError

_INFERENCE_SERVICE = Resource("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")
_FAILED_TRANSITIONS = ("BlockedByFailedLoad", "InvalidSpec")


class KServe(ClusterTarget, frozen=True, kw_only=True, repr_omit_defaults=True):
    """Serve a model with KServe: `POST <endpoint>/v2/models/NAME/infer`, on this machine also protocol V1.

    On this machine it is KServe's Python model server. `kserve`: its release. `extra_requirements`: what its environment
    has beside what the model needs.

    In the cluster that `kubernetes` names it is an `InferenceService` of the model format `mlflow`, which KServe serves with
    MLServer. `canary`: the percentage of the requests that a new version gets while the old one gets the others, until it
    is deployed without, or promoted. `logger`: the URL that requests and answers are sent to, such as
    `<gateway>/log/{model}?version={version}&deployment={deployment}&token={token}` of the deployment service, with
    these names in it. `runtime`, `image`: another serving runtime, or another image of it, where the model needs more
    libraries. `resources`: of its container. The other options are those of `ClusterTarget`.

    https://kserve.github.io/website/
    """

    kind: ClassVar[str] = "kserve"
    kserve: str = "kserve>=0.21,<0.22"
    extra_requirements: tuple[str, ...] = ()
    canary: int | None = None
    logger: str = ""
    runtime: str = ""
    image: str = ""
    resources: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the options where they are written."""
        super().__post_init__()
        force_setattr(self, "resources", plain_option(self.resources))
        if self.secret:
            raise StepDefinitionError(
                f"KServe(secret={self.secret!r}) is read by nobody: KServe finds secrets by service_account=."
            )
        canary: Any = self.canary
        if canary is not None and not (type(canary) is int and 0 <= canary < 100):
            raise StepDefinitionError(
                f"KServe(canary=…) is a percentage from 0 to 99, or None for all, got {canary!r}."
            )

    @property
    def canary_percent(self) -> int | None:
        """The option."""
        return self.canary

    def cluster_options(self) -> tuple[str, ...]:
        """Return the names of the options that only a cluster has."""
        return ("canary", "logger", "runtime", "image", "resources")

    def requirements(self, model: Sequence[str]) -> list[str]:
        """Return KServe and what the model needs; KServe needs a release of pandas that may be older than the model's."""
        return [self.kserve, *(each for each in model if not each.startswith("pandas==")), *self.extra_requirements]

    def server(self, place: ServerPlace) -> Server:
        """Return KServe's server with our model class: KServe has none for MLflow."""
        program = [place.python, "-P", "-m", "airflow_zen.deployment.programs.kserve_server"]
        return Server(
            command=[*program, place.name, str(place.model), str(place.ports[0])],
            ready=f"/v2/models/{place.name}/ready",
        )

    def resource(self) -> Resource:
        """Return InferenceService."""
        return _INFERENCE_SERVICE

    def manifest(self, name: str, source: ModelSource) -> dict[str, Any]:
        """Return the predictor; https://kserve.github.io/website/docs/reference/crd-api."""
        model = {
            "modelFormat": {"name": "mlflow"},
            "protocolVersion": "v2",
            "storageUri": source.storage_uri,
            "runtime": self.runtime,
            "image": self.image,
            "resources": dict(self.resources),
        }
        predictor = {
            "model": {key: value for key, value in model.items() if value},
            "serviceAccountName": source.service_account,
            "logger": source.logger(self.logger),
            **self.replica_fields(),
        }
        return {"predictor": {key: value for key, value in predictor.items() if value}}

    def progress(self, found: Mapping[str, Any]) -> Progress:
        """Return what the conditions and the status of the model say."""
        model = found.get("status", {}).get("modelStatus", {})
        if is_current(found) and model.get("transitionStatus") in _FAILED_TRANSITIONS:
            failure = model.get("lastFailureInfo", {})
            why = " ".join(filter(None, (failure.get("reason"), failure.get("message"))))
            return Progress("failed", why or model["transitionStatus"])
        is_loaded = model.get("transitionStatus", "UpToDate") == "UpToDate"
        if is_current(found) and condition(found, "Ready").get("status") == "True" and is_loaded:
            return Progress("ready")
        return Progress("waiting", unmet(found))

    def address(self, found: Mapping[str, Any]) -> Address:
        """Return the URL of the status; by an ingress, with the host that it is routed by."""
        url = str(found.get("status", {}).get("url", "")).rstrip("/")
        if not self.ingress:
            return Address(url)
        return Address(self.ingress.rstrip("/"), {"Host": urlsplit(url).netloc})

    def store_secret(self, options: Mapping[str, Any]) -> StoreSecret | None:
        """Return KServe's form."""
        return kserve_secret(options)

    def storage_uri(self, uri: str, options: Mapping[str, Any]) -> str:
        """Return an address of Azure as the URL that KServe expects."""
        scheme, _, path = uri.partition("://")
        if scheme in ("az", "abfs", "abfss") and (account := options.get("account_name")):
            return f"https://{account}.blob.core.windows.net/{path}"
        return super().storage_uri(uri, options)
