"""The objects of a cluster that deployments consist of: custom resources, secrets and service accounts."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.common.compat.sdk import AirflowException
from kubernetes.client import CoreV1Api, CustomObjectsApi
from kubernetes.client.rest import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from airflow_zen.deployment.cluster.target import CANDIDATE
from airflow_zen.errors import DeploymentFailed

if TYPE_CHECKING:
    from airflow_zen.deployment.cluster.credentials import StoreSecret
    from airflow_zen.deployment.cluster.target import ClusterTarget

log = logging.getLogger("airflow_zen.deployment")

_MANAGER = "airflow-zen"
_LABELS = {"app.kubernetes.io/managed-by": _MANAGER}
_APPLY = "application/apply-patch+yaml"
_NOT_FOUND, _CONFLICT = 404, 409
_STORE, _JOURNAL = "-store", "-journal"


class ClusterUnavailable(DeploymentFailed):
    """The API server of a cluster does not answer, at least temporarily."""


class Objects:
    """The objects in the namespace of a target; methods raise `DeploymentFailed` for requests the cluster refuses."""

    def __init__(self, target: ClusterTarget) -> None:
        self._target = target
        hook = KubernetesHook(conn_id=target.kubernetes)
        try:
            client = hook.get_conn()
            self.namespace = target.namespace or hook.get_namespace() or "default"
        except (ConfigException, AirflowException) as error:
            raise DeploymentFailed(
                f"{target!r} finds no cluster: {error}. Set up the connection {target.kubernetes!r}."
            ) from error
        self._custom, self._core = CustomObjectsApi(client), CoreV1Api(client)
        resource = target.resource()
        self._place = (resource.group, resource.version, self.namespace, resource.plural)

    def get(self, name: str) -> dict[str, Any] | None:
        """Return an object; None if there is none of the name."""
        with self._refusals(f"read {name!r}"):
            try:
                return dict(self._custom.get_namespaced_custom_object(*self._place, name))
            except ApiException as error:
                if error.status == _NOT_FOUND and not _kind_is_unknown(error):
                    return None
                raise

    def apply(self, body: Mapping[str, Any]) -> None:
        """Create or change an object; a field that another manager has set is a conflict."""
        name = body["metadata"]["name"]
        labels = {**_LABELS, **body["metadata"].get("labels", {})}
        body = {**body, "metadata": {**body["metadata"], "namespace": self.namespace, "labels": labels}}
        with self._refusals(f"apply {name!r}"):
            self._custom.patch_namespaced_custom_object(
                *self._place,
                name,
                body,
                field_manager=_MANAGER,
                field_validation="Strict",
                _content_type=_APPLY,
            )
        log.info("Applied %s %s/%s", body["kind"], self.namespace, name)

    def apply_access(self, name: str, secret: StoreSecret) -> str:
        """Give a service account access to a secret; return the names of both."""
        name = f"{name}{_STORE}"
        options = {"field_manager": _MANAGER, "force": True, "_content_type": _APPLY}
        metadata = {"name": name, "labels": _LABELS}
        kept = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "stringData": dict(secret.data)}
        kept["metadata"] = {**metadata, "annotations": dict(secret.annotations)}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "secrets": [{"name": name}], "metadata": metadata}
        with self._refusals(f"apply the secret {name!r}"):
            self._core.patch_namespaced_secret(name, self.namespace, kept, **options)
            self._core.patch_namespaced_service_account(name, self.namespace, account, **options)
        return name

    def read_journal(self, name: str) -> tuple[str, str]:
        """Return the journal of a deployment, and the version of its object; both are empty where there is none."""
        with self._refusals(f"read the journal of {name!r}"), _unless_missing():
            found = self._core.read_namespaced_config_map(f"{name}{_JOURNAL}", self.namespace)
            return found.data["journal"], found.metadata.resource_version
        return "", ""

    def write_journal(self, name: str, text: str, version: str) -> str:
        """Write the journal of a deployment over that of a version, and return the new version.

        Raises `DeploymentFailed` if somebody else has written it meanwhile.
        """
        metadata = {"name": f"{name}{_JOURNAL}", "labels": _LABELS}
        body = {"metadata": {**metadata, "resourceVersion": version or None}, "data": {"journal": text}}
        with self._refusals(f"write the journal of {name!r}"):
            if version:
                written = self._core.replace_namespaced_config_map(metadata["name"], self.namespace, body)
            else:
                written = self._core.create_namespaced_config_map(self.namespace, body)
        return str(written.metadata.resource_version)

    def delete(self, name: str) -> None:
        """Delete an object; one that does not exist is no error."""
        with self._refusals(f"delete {name!r}"), _unless_missing():
            self._custom.delete_namespaced_custom_object(*self._place, name)
            log.info("Deleted %s/%s", self.namespace, name)

    def delete_all(self, name: str) -> None:
        """Delete the object of a name, its candidate, its journal, and their access to the artifact root."""
        self.delete(f"{name}{CANDIDATE}")
        self.delete(name)
        core = self._core
        with self._refusals(f"delete what belongs to {name!r}"):
            for delete, end in (
                (core.delete_namespaced_service_account, _STORE),
                (core.delete_namespaced_secret, _STORE),
                (core.delete_namespaced_config_map, _JOURNAL),
            ):
                with _unless_missing():
                    delete(f"{name}{end}", self.namespace)

    def logs(self, name: str, lines: int) -> str:
        """Return the end of the logs of the pods whose names begin with that of an object."""
        texts = []
        with self._refusals(f"read the logs of {name!r}"):
            for pod in self._core.list_namespaced_pod(self.namespace).items:
                if pod.metadata.name.startswith(f"{name}-") and CANDIDATE not in pod.metadata.name:
                    container = pod.spec.containers[0].name
                    # The client would return the text of a bytes object.
                    options = {"container": container, "tail_lines": lines, "_preload_content": False}
                    with suppress(ApiException):
                        text = self._core.read_namespaced_pod_log(pod.metadata.name, self.namespace, **options)
                        texts.append(f"--- {pod.metadata.name}\n{text.data.decode(errors='replace')}")
        return "\n".join(texts)

    @contextmanager
    def _refusals(self, act: str) -> Iterator[None]:
        """Translate errors of the cluster's API."""
        try:
            yield
        except (ApiException, HTTPError) as error:
            reason = getattr(error, "reason", "") or str(error)
            with suppress(ValueError, TypeError, AttributeError):
                reason = json.loads(error.body)["message"]  # type: ignore[union-attr]
            remedy = ""
            if getattr(error, "status", 0) == _CONFLICT:
                remedy = (
                    " Somebody else has changed it: wait for their deployment, or undo the change, and deploy again."
                )
            elif isinstance(error, ApiException) and _kind_is_unknown(error):
                group, version, _, plural = self._place
                remedy = f" Does the cluster have {plural}.{group}/{version}?"
            kind = ClusterUnavailable if _is_transient(error) else DeploymentFailed
            raise kind(
                f"The cluster of {self._target.kubernetes!r} does not {act} in namespace {self.namespace!r}: "
                f"{str(reason).rstrip('.')}.{remedy}"
            ) from error


def _is_transient(error: Exception) -> bool:
    return not isinstance(error, ApiException) or error.status in (0, 429) or error.status >= 500


def _kind_is_unknown(error: ApiException) -> bool:
    """Whether the cluster lacks the custom resource definition, and not only the object."""
    if error.status != _NOT_FOUND:
        return False
    try:
        return not json.loads(error.body).get("details", {}).get("name")
    except (ValueError, TypeError, AttributeError):
        return True


@contextmanager
def _unless_missing() -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        if error.status != _NOT_FOUND:
            raise
