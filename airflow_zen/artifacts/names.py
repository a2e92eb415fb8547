"""Versions of named artifacts: which content a name stands for, now and before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace

from airflow_zen.artifacts.asked import AskedVersion
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.artifacts.root import folder
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.artifacts.version import (
    LATEST,
    ArtifactVersion,
    Made,
    as_time,
    checked_tag,
    countdown,
    is_digest,
    is_label,
    label,
    milliseconds_of,
    parsed,
)
from airflow_zen.errors import ArtifactNotFound

_NAMES = "names"
_TAGS = "tags"
_READERS = 16


class Tagged(msgspec.Struct, frozen=True):
    """A tag on one version: `version` is its label, `key` is where it lies."""

    tag: str
    version: str
    key: str


class ArtifactNames:
    """Keep one small object for each version: `names/<name>/versions/<time counted down>-<digest>.json`.

    The first key in a listing is the newest version, so it is found with one request however many there are, and the
    key says by itself whether content has changed. Nothing is overwritten and nothing compared, so nothing is lost
    where several write at once. Tags are objects beside them: `tags/<tag>/<name>/<the version's>`.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._transport = store.transport

    def add(
        self,
        name: str,
        ref: ArtifactRef,
        created: float,
        *,
        origin: str = "",
        dag_run: str = "",
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Made:
        """Make this content the newest version of a name, unless it is that already; one request, two if it is not.

        `created`: seconds since the epoch; moved on where a worker's clock is behind the newest version. Tags are
        given to the version that is there, too.
        """
        tags = tuple(dict.fromkeys(checked_tag(tag) for tag in tags))
        newest = self._transport.first(_folder(name))
        then, known = parsed(newest) if newest else (-1, "")
        if newest and ref.digest.startswith(known):
            for tag in tags:
                self._mark(tag, name, newest)
            return Made(label(then), changed=False)
        now = max(round(created * 1000), then + 1)
        plain = replace(ref, name=name, cached=False, origin="")
        version = ArtifactVersion(name, label(now), now / 1000, plain, origin, dag_run, tags, dict(metadata or {}))
        key = f"{_folder(name)}/{version.file_name}"
        self._transport.write(key, version.to_json())
        for tag in tags:
            self._mark(tag, name, key)
        return Made(version.version, changed=True)

    def get(self, name: str, version: str | datetime = LATEST) -> ArtifactVersion:
        """Give one version of a name; two requests, but where a digest is looked for among many.

        `version` is `"latest"`, a version's label, the beginning of a digest (6 characters or more), a tag, or a date
        or time: the newest version at or before it. Raises `ArtifactNotFound`.
        """
        return self.read(self.find(name, version))

    def resolve(self, asked: AskedVersion) -> ArtifactRef:
        """Give the ref of a version that is asked for."""
        return self.get(asked.name, asked.version).ref

    def find(self, name: str, version: str | datetime = LATEST) -> str:
        """Give the key of one version of a name, as `get` chooses it; one request, but for digests."""
        key = self._find(name, version)
        if key is None:
            raise self._not_found(name, version)
        return key

    def keys(self, name: str) -> Iterator[str]:
        """Yield the keys of a name's versions, newest first; a request for each 1000."""
        yield from self._transport.list(_folder(name))

    def versions(self, name: str, limit: int | None = None) -> list[ArtifactVersion]:
        """Give a name's versions, newest first; a request for each."""
        with ThreadPoolExecutor(_READERS) as pool:
            return [version for version in pool.map(self._still_there, islice(self.keys(name), limit)) if version]

    def newest(self, prefix: str = "") -> list[ArtifactVersion]:
        """Give the newest version of each name that begins with `prefix`, in the order of names; two requests for each."""
        start = folder(prefix) if prefix else ""
        found = [held for held in self._transport.folders(_NAMES) if held.startswith(start)]
        with ThreadPoolExecutor(_READERS) as pool:
            newest = pool.map(lambda held: self._transport.first(f"{_NAMES}/{held}/versions"), found)
            versions = [version for version in pool.map(self._still_there, filter(None, newest)) if version]
        return sorted(versions, key=lambda version: version.name)

    def read(self, key: str) -> ArtifactVersion:
        """Read the version that lies at a key."""
        found = ArtifactVersion.from_json(self._transport.read(key), key)
        return replace(found, ref=self._store.relocate(found.ref))

    def tag(self, name: str, version: str | datetime, tag: str) -> None:
        """Tag a version, so that it is found by the tag and kept by pruning."""
        self._mark(checked_tag(tag), name, self.find(name, version))

    def untag(self, name: str, version: str | datetime, tag: str) -> None:
        """Take a tag away; one that is not there is no error."""
        self._transport.delete([_marker(tag, name, self.find(name, version))])

    def tagged(self, tag: str = "", name: str = "") -> list[Tagged]:
        """List what a tag marks, or all tags; of one name where it is given. One listing."""
        marks = map(_mark_of, self._transport.list(f"{_TAGS}/{folder(tag)}" if tag else _TAGS))
        return [mark for mark in marks if not name or mark.key.startswith(f"{_folder(name)}/")]

    def tagged_versions(self, tag: str) -> list[ArtifactVersion]:
        """Give the versions that have a tag, in the order of names, the newest of a name first."""
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(lambda mark: self._still_there(mark.key), self.tagged(tag))
            return [version for version in found if version]

    def _find(self, name: str, version: str | datetime) -> str | None:
        where = _folder(name)
        if version == LATEST:
            return self._transport.first(where)
        if isinstance(version, datetime):
            return self._at(where, milliseconds_of(version))
        time = as_time(version)
        if time is not None:
            key = self._at(where, time)
            # A label means the version that has it, and never an older one in its place.
            return key if key is None or not is_label(version) or parsed(key)[0] == time else None
        if is_digest(version):
            return next((key for key in self.keys(name) if self._is(key, version)), None)
        marker = self._transport.first(_tag_folder(version, name))
        return f"{where}/{marker.rpartition('/')[2]}" if marker else None

    def _at(self, where: str, milliseconds: int) -> str | None:
        """Find the newest version at or before a time."""
        return self._transport.first(where, after=f"{where}/{countdown(milliseconds)}")

    def _is(self, key: str, digest: str) -> bool:
        known = parsed(key)[1]
        return known.startswith(digest) or (digest.startswith(known) and self.read(key).ref.digest.startswith(digest))

    def _mark(self, tag: str, name: str, key: str) -> None:
        mark = {"tag": tag, "name": name, "version": label(parsed(key)[0])}
        self._transport.write(_marker(tag, name, key), json.dumps(mark).encode())

    def _still_there(self, key: str) -> ArtifactVersion | None:
        """Read a version, or None where it was pruned since it was listed."""
        with suppress(ArtifactNotFound):
            return self.read(key)
        return None

    def _not_found(self, name: str, version: str | datetime) -> ArtifactNotFound:
        newest = self._transport.first(_folder(name))
        if newest:
            there = f"Its newest is {label(parsed(newest)[0])!r}"
            return ArtifactNotFound(f"Artifact {name!r} has no version {str(version)!r}. {there}.")
        mapped = next((held for held in self._transport.folders(_NAMES) if held.startswith(folder(f"{name}["))), None)
        hint = f"Its step is mapped: ask for {name + '[0]'!r}." if mapped else "See `airflow zen artifacts list`."
        return ArtifactNotFound(f"No artifact is named {name!r} here. {hint}")


def _folder(name: str) -> str:
    return f"{_NAMES}/{folder(name)}/versions"


def _tag_folder(tag: str, name: str) -> str:
    return f"{_TAGS}/{folder(tag)}/{folder(name)}"


def _marker(tag: str, name: str, key: str) -> str:
    return f"{_tag_folder(tag, name)}/{key.rpartition('/')[2]}"


def _mark_of(marker: str) -> Tagged:
    """Read from a marker's key which version it marks."""
    _, tag, name, file_name = marker.split("/")
    return Tagged(unquote(tag), label(parsed(file_name)[0]), f"{_NAMES}/{name}/versions/{file_name}")
