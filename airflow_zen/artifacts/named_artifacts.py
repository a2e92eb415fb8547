"""The versions of named artifacts: the current content of each name, and earlier ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from airflow_zen.artifacts.ref import (
    LATEST,
    ArtifactVersion,
    RecordedVersion,
    VersionSelector,
    descending_timestamp,
    is_digest_prefix,
    object_name,
    parse_instant,
    parse_version_key,
    to_milliseconds,
    validate_tag,
    version_label,
    version_path,
)
from airflow_zen.errors import ArtifactNameError, ArtifactNotFound
from airflow_zen.transports.base import map_in_parallel, quote_key_part

if TYPE_CHECKING:
    from airflow_zen.artifacts.ref import ArtifactRef
    from airflow_zen.artifacts.store import ArtifactStore

log = logging.getLogger("airflow_zen.artifacts")

_NAMES = "names"
_TAGS = "tags"


class VersionTag(msgspec.Struct, frozen=True):
    """A tag on one version of a name: `version` is its label, `key` its key."""

    tag: str
    name: str
    version: str
    key: str


class NextVersion(msgspec.Struct, frozen=True):
    """The next version of a name: its key, and the version to store; None if the newest has this content already."""

    key: str
    recorded: RecordedVersion
    version: ArtifactVersion | None = None


class VersionIndex:
    """Keep one small object for each version: `names/<name>/versions/…/<descending timestamp>-<digest>.json`.

    The first key in a listing is the newest version, so one request finds it however many there are, and the key
    alone shows whether content has changed. No object is overwritten, so concurrent writers lose nothing. Tags are
    objects of their own: `tags/<tag>/<name>/<the version's object name>`. `read` returns the object of a version by its
    key, by default from the store.
    """

    def __init__(self, store: ArtifactStore, read: Callable[[str], bytes] | None = None) -> None:
        self._store = store
        self._transport = store.transport
        self._read_document = read or store.transport.read

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
    ) -> RecordedVersion:
        """Make this content the newest version of a name: one request if it already is, else two.

        created: seconds since the epoch; a later time is used if a worker's clock is behind the newest version. Tags
        are also added to an existing version.
        """
        tags = tuple(dict.fromkeys(validate_tag(tag) for tag in tags))
        next_version = self.next(
            name, ref, created, self.newest_key(name), origin=origin, dag_run=dag_run, tags=tags, metadata=metadata
        )
        self.write(next_version)
        for tag in tags:
            self._write_tag(tag, name, next_version.key)
        return next_version.recorded

    def newest_key(self, name: str) -> str | None:
        """Return the key of the newest version of a name, None where it has none; one request."""
        return self._transport.first_key(_versions_prefix(name))

    def lookups(self, names: Mapping[str, str]) -> tuple[dict[str, str | None], list[Callable[[], None]]]:
        """Return functions that look up the newest versions of names by their labels, and the dict for the keys.

        A key is None for a name without versions; a name that cannot be looked up is logged, and omitted.
        """
        newest: dict[str, str | None] = {}

        def look_up(label: str, name: str) -> None:
            try:
                newest[label] = self.newest_key(name)
            except Exception as error:  # noqa: BLE001 - a version is not worth a failed step
                log.warning("Artifact %r has no new version, though its content is stored: %s", name, error)

        return newest, [partial(look_up, label, name) for label, name in names.items()]

    def next(
        self,
        name: str,
        ref: ArtifactRef,
        created: float,
        newest: str | None,
        *,
        origin: str = "",
        dag_run: str = "",
        tags: tuple[str, ...] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> NextVersion:
        """Return the version that `write` stores to make this content the newest, from the key of the newest one."""
        then, known = parse_version_key(newest) if newest else (-1, "")
        if newest and ref.digest.startswith(known):
            return NextVersion(newest, RecordedVersion(version_label(then), changed=False))
        then = max(round(created * 1000), then + 1)
        plain = replace(ref, name=name, cached=False, origin="")
        facts = dict(metadata or {})
        version = ArtifactVersion(name, version_label(then), then / 1000, plain, origin, dag_run, tags, facts)
        key = f"{_versions_prefix(name)}/{version_path(object_name(then, ref.digest))}"
        return NextVersion(key, RecordedVersion(version.version, changed=True), version)

    def next_in_quarantine(self, name: str, ref: ArtifactRef, created: float, **facts: Any) -> NextVersion:
        """Return the version that `write` stores to keep this content in quarantine.

        No `latest` or time selects it, only its label and digest; its metadata mark it. `facts` are those of `next`.
        """
        metadata = {**facts.pop("metadata", {}), "quarantined": True}
        newest = self._transport.first_key(_quarantine_prefix(name))
        found = self.next(name, ref, created, newest, metadata=metadata, **facts)
        key = found.key.replace(_versions_prefix(name), _quarantine_prefix(name), 1)
        return msgspec.structs.replace(found, key=key, recorded=RecordedVersion(found.recorded.version, False, True))

    def write(self, next_version: NextVersion) -> None:
        """Store a version if its content is new, with one request."""
        if next_version.version:
            self._transport.write(next_version.key, next_version.version.to_json())

    def get(self, name: str, version: str | datetime = LATEST) -> ArtifactVersion:
        """Return one version of a name; two requests, more only to search many versions for a digest.

        `version` is `"latest"`, a version's label, the beginning of a digest (6 characters or more), a tag, or a date
        or time, which selects the newest version at or before it. Raises `ArtifactNotFound`.
        """
        return self.read(self.find_key(name, version))

    def resolve(self, selector: VersionSelector) -> ArtifactRef:
        """Return the ref of the selected version."""
        return self.get(selector.name, selector.version).ref

    def find_key(self, name: str, version: str | datetime = LATEST) -> str:
        """Return the key of one version of a name, as `get` selects it; one request, more only for a digest."""
        key = self._find_key(name, version)
        if key is None:
            raise self._not_found_error(name, version)
        return key

    def keys(self, name: str) -> Iterator[str]:
        """Yield the keys of a name's versions, newest first, then those in quarantine; a request for each 1000."""
        yield from self._transport.list(_versions_prefix(name))
        yield from self._transport.list(_quarantine_prefix(name))

    def versions(self, name: str, limit: int | None = None) -> list[ArtifactVersion]:
        """Return a name's versions, newest first; a request for each."""
        return self._read_all(islice(self.keys(name), limit))

    def list_names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with `prefix`, sorted; one listing."""
        return sorted(
            name for each in self._transport.list_prefixes(_NAMES) if (name := unquote(each)).startswith(prefix)
        )

    def newest_versions(self, prefix: str = "") -> list[ArtifactVersion]:
        """Return the newest version of each name that begins with `prefix`, sorted by name; two requests for each."""
        start = quote_key_part(prefix) if prefix else ""
        names = [name for name in self._transport.list_prefixes(_NAMES) if name.startswith(start)]
        keys = map_in_parallel(lambda name: self._transport.first_key(f"{_NAMES}/{name}/versions"), names)
        return sorted(self._read_all(filter(None, keys)), key=lambda version: version.name)

    def read(self, key: str) -> ArtifactVersion:
        """Return the version at a key."""
        found = ArtifactVersion.from_json(self._read_document(key), key)
        return msgspec.structs.replace(found, ref=self._store.relocate(found.ref))

    def tag(self, name: str, version: str | datetime, tag: str) -> None:
        """Tag a version, so that it is found by the tag and kept by pruning; not one in quarantine."""
        key = self.find_key(name, version)
        if key.startswith(_quarantine_prefix(name)):
            raise ArtifactNameError(
                f"Version {str(version)!r} of {name!r} is in quarantine, where no tag selects it. Save it again as a version "
                "to use it: airflow_zen.save_artifact(value, name)."
            )
        self._write_tag(validate_tag(tag), name, key)

    def untag(self, name: str, version: str | datetime, tag: str) -> None:
        """Remove a tag; a version without it is no error."""
        self._transport.delete([_tag_key(tag, name, self.find_key(name, version))])

    def list_tags(self, tag: str = "", name: str = "") -> list[VersionTag]:
        """Return the versions of a tag, or of all tags, optionally of one name; one listing."""
        found = []
        for marker in self._transport.list(f"{_TAGS}/{quote_key_part(tag)}" if tag else _TAGS):
            _, marked, quoted_name, version = marker.split("/")
            if not name or quoted_name == quote_key_part(name):
                label = version_label(parse_version_key(version)[0])
                key = f"{_NAMES}/{quoted_name}/versions/{version_path(version)}"
                found.append(VersionTag(unquote(marked), unquote(quoted_name), label, key))
        return found

    def tagged_versions(self, tag: str) -> list[ArtifactVersion]:
        """Return the versions that have a tag, sorted by name, the newest of a name first."""
        return self._read_all(mark.key for mark in self.list_tags(tag))

    def _find_key(self, name: str, version: str | datetime) -> str | None:
        where = _versions_prefix(name)
        if version == LATEST:
            return self._transport.first_key(where)
        if isinstance(version, datetime):
            return self._key_before(where, to_milliseconds(version))
        time = parse_instant(version)
        if time is not None:
            key = self._key_before(where, time)
            if version_label(time) != version:
                return key
            # A label selects exactly its version, never an older one.
            found = (key, self._key_before(_quarantine_prefix(name), time))
            return next((key for key in found if key and parse_version_key(key)[0] == time), None)
        if is_digest_prefix(version):
            return next((key for key in self.keys(name) if self._has_digest(key, version)), None)
        marker = self._transport.first_key(_tag_prefix(version, name))
        return f"{where}/{version_path(marker.rpartition('/')[2])}" if marker else None

    def _key_before(self, where: str, milliseconds: int) -> str | None:
        """Return the key of the newest version at or before a time."""
        return self._transport.first_key(where, after=f"{where}/{version_path(descending_timestamp(milliseconds))}")

    def _has_digest(self, key: str, digest: str) -> bool:
        known = parse_version_key(key)[1]
        return known.startswith(digest) or (digest.startswith(known) and self.read(key).ref.digest.startswith(digest))

    def _write_tag(self, tag: str, name: str, key: str) -> None:
        mark = {"tag": tag, "name": name, "version": version_label(parse_version_key(key)[0])}
        self._transport.write(_tag_key(tag, name, key), json.dumps(mark).encode())

    def _read_all(self, keys: Iterable[str]) -> list[ArtifactVersion]:
        """Read versions in parallel, except those pruned since they were listed."""

        def read(key: str) -> ArtifactVersion | None:
            with suppress(ArtifactNotFound):
                return self.read(key)
            return None

        return [version for version in map_in_parallel(read, keys) if version]

    def _not_found_error(self, name: str, version: str | datetime) -> ArtifactNotFound:
        if newest := self._transport.first_key(_versions_prefix(name)):
            label = version_label(parse_version_key(newest)[0])
            near = _near_text(str(version), {mark.tag for mark in self.list_tags(name=name)})
            return ArtifactNotFound(
                f"Artifact {name!r} has no version {str(version)!r}. {near}Its newest is {label!r}."
            )
        names = self.list_names()
        if any(each.startswith(f"{name}[") for each in names):
            return ArtifactNotFound(f"No artifact is named {name!r} here. Its step is mapped: use {name + '[0]'!r}.")
        near = _near_text(name, names)
        return ArtifactNotFound(f"No artifact is named {name!r} here. {near}See `airflow zen artifacts list`.")


def _near_text(wanted: str, known: Iterable[str]) -> str:
    """Return the question for similar names; empty without any."""
    from difflib import get_close_matches

    near = get_close_matches(wanted, sorted(known))
    return f"Did you mean {' or '.join(map(repr, near))}? " if near else ""


def _versions_prefix(name: str) -> str:
    return f"{_NAMES}/{quote_key_part(name)}/versions"


def _quarantine_prefix(name: str) -> str:
    return f"{_NAMES}/{quote_key_part(name)}/quarantine"


def _tag_prefix(tag: str, name: str) -> str:
    return f"{_TAGS}/{quote_key_part(tag)}/{quote_key_part(name)}"


def _tag_key(tag: str, name: str, key: str) -> str:
    return f"{_tag_prefix(tag, name)}/{key.rpartition('/')[2]}"
