"""What lies under `artifacts/`: one artifact after the other, from one listing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from airflow_zen.artifacts.manifest import MANIFEST_FILE_NAME
from airflow_zen.artifacts.stored_object import ObjectInfo
from airflow_zen.artifacts.transport import Transport

_ARTIFACTS_PREFIX = "artifacts"


@dataclass(frozen=True)
class StoredArtifact:
    """The objects of one artifact; without a manifest it is what an upload left that never ended."""

    digest: str
    objects: tuple[ObjectInfo, ...]

    @property
    def manifest(self) -> str | None:
        """The key of its manifest; None where it has none."""
        key = f"{_ARTIFACTS_PREFIX}/{self.digest[:2]}/{self.digest}/{MANIFEST_FILE_NAME}"
        return key if any(each.key == key for each in self.objects) else None

    @property
    def keys(self) -> list[str]:
        """The keys of all its objects."""
        return [each.key for each in self.objects]

    @property
    def size(self) -> int:
        """Bytes of all its objects."""
        return sum(each.size for each in self.objects)

    @property
    def modified(self) -> float:
        """When the latest of its objects was written, in seconds since the epoch."""
        return max(each.modified for each in self.objects)


def list_stored_artifacts(transport: Transport) -> Iterator[StoredArtifact]:
    """Give every artifact, in the order of digests, with one page of the listing in memory."""
    for digest, objects in groupby(transport.list_objects(_ARTIFACTS_PREFIX), key=lambda each: each.key.split("/")[2]):
        yield StoredArtifact(digest, tuple(objects))
