"""Deployments that a task has begun and that have no artifact yet: what a killed first one has left is found by these."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_zen.artifacts.ref import decode_document, encode_document
from airflow_zen.deployment.base import Deployment, DeploymentRequest, Target
from airflow_zen.errors import ArtifactNotFound
from airflow_zen.json_records import convert_record
from airflow_zen.transports.base import quote_key_part

if TYPE_CHECKING:
    from airflow_zen.transports.base import Transport

_FORMAT_VERSION = 1
_PREFIX = "deployments"


class UnfinishedDeployments:
    """Records of deployments in the artifact root, from the request to the target until the target serves."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __iter__(self) -> Iterator[Deployment]:
        """Yield the deployments by name, without endpoints; one request for each."""
        for key in self._transport.list(_PREFIX):
            if found := self._read(key):
                yield found

    def find(self, name: str) -> Deployment | None:
        """Return the deployment of a name, None where none is unfinished."""
        return self._read(_key(name))

    def begin(self, request: DeploymentRequest, target: Target) -> None:
        """Record that the target is asked to serve a request."""
        begun = Deployment(
            name=request.name,
            endpoint="",
            predict_url="",
            model=request.model,
            version=request.version,
            digest=request.digest,
            target=repr(target),
            owner=request.owner,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._transport.write(_key(request.name), encode_document({"airflow_zen": _FORMAT_VERSION, **asdict(begun)}))

    def end(self, name: str) -> None:
        """Delete the record of a name; one that does not exist is no error."""
        self._transport.delete([_key(name)])

    def _read(self, key: str) -> Deployment | None:
        try:
            text = self._transport.read(key)
        except ArtifactNotFound:
            return None
        return decode_document(text, key, (_FORMAT_VERSION,), lambda document: convert_record(document, Deployment))


def _key(name: str) -> str:
    return f"{_PREFIX}/{quote_key_part(name)}.json"
