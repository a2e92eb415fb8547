"""One version of a named artifact, and the form of names, tags and version labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.errors import ArtifactCorrupt, ArtifactNameError, ArtifactRefused

FORMAT_VERSION = 1
LATEST = "latest"

# Milliseconds counted down from here are 13 digits until the year 2286, and the newest come first in a listing.
_LAST_MILLISECOND = 9_999_999_999_999
_DIGEST_LENGTH = 16
_MAX_NAME_LENGTH = 250
_VERSION_KEY = re.compile(rf"(\d{{13}})-([0-9a-f]{{{_DIGEST_LENGTH}}})\.json")
_VERSION_LABEL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_DIGEST_PREFIX = re.compile(r"[0-9a-f]{6,64}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


class ArtifactVersion(msgspec.Struct, frozen=True):
    """Tell one version of a named artifact.

    `version` is its label for people, `created` seconds since the epoch. `origin` is the step run that made the
    content new under this name (`dag/run/task/map index/try`) and `dag_run` its DAG run (`dag/run`); both are empty for
    what was saved by hand. `tags` are those given with it; later ones lie beside it. `metadata` are facts, as JSON.
    """

    name: str
    version: str
    created: float
    ref: ArtifactRef
    origin: str = ""
    dag_run: str = ""
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)

    @property
    def object_name(self) -> str:
        """Name its object so that the first in a listing is the newest."""
        return object_name(round(self.created * 1000), self.ref.digest)

    def to_json(self) -> bytes:
        """Write the document of `docs/format.md`."""
        document = {
            "airflow_zen": FORMAT_VERSION,
            "name": self.name,
            "version": self.version,
            "created": self.created,
            "ref": self.ref.to_wire(),
            "origin": self.origin,
            "dag_run": self.dag_run,
            "tags": list(self.tags),
            "metadata": dict(self.metadata),
        }
        return json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_json(cls, text: bytes, key: str) -> ArtifactVersion:
        """Read the document back; raises `ArtifactRefused` for a newer format, `ArtifactCorrupt` for none."""
        try:
            document = json.loads(text)
            if document["airflow_zen"] != FORMAT_VERSION:
                raise ArtifactRefused(
                    f"{key} has format {document['airflow_zen']!r}; this airflow_zen reads {FORMAT_VERSION}. "
                    "Install a newer airflow-provider-zen."
                )
            return cls(
                name=str(document["name"]),
                version=str(document["version"]),
                created=float(document["created"]),
                ref=ArtifactRef.from_wire(document["ref"]),
                origin=str(document["origin"]),
                dag_run=str(document["dag_run"]),
                tags=tuple(document["tags"]),
                metadata=document["metadata"],
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ArtifactRefused):
                raise
            raise ArtifactCorrupt(f"{key} is not readable: {error}.") from error


class RecordedVersion(msgspec.Struct, frozen=True):
    """Say under which version an artifact is known by its name, and whether its content is new there."""

    version: str
    changed: bool


def object_name(milliseconds: int, digest: str) -> str:
    """Name a version's object by the time counted down, and by its content."""
    return f"{descending_timestamp(milliseconds)}-{digest[:_DIGEST_LENGTH]}.json"


def descending_timestamp(milliseconds: int) -> str:
    """Count a time down, so that later times come first as text."""
    return f"{_LAST_MILLISECOND - milliseconds:013}"


def parse_version_key(key: str) -> tuple[int, str]:
    """Read the milliseconds since the epoch and the digest's first 16 characters out of a version's key."""
    found = _VERSION_KEY.fullmatch(key.rpartition("/")[2])
    if found is None:
        raise ArtifactCorrupt(f"{key!r} is no version of an artifact. Delete what does not belong there.")
    return _LAST_MILLISECOND - int(found[1]), found[2]


def version_label(milliseconds: int) -> str:
    """Write a time as the label of a version: `2026-11-24T14:03:12.123Z`."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z"


def to_milliseconds(moment: datetime) -> int:
    """Count the milliseconds since the epoch; a time without a zone is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def is_version_label(text: str) -> bool:
    """Tell whether a text has the form of a version's label."""
    return _VERSION_LABEL.fullmatch(text) is not None


def is_digest_prefix(text: str) -> bool:
    """Tell whether a text may be the beginning of a digest, of 6 characters at least."""
    return _DIGEST_PREFIX.fullmatch(text) is not None


def parse_instant(text: str) -> int | None:
    """Read an ISO date or time as milliseconds since the epoch, a date as its end; None for anything else."""
    if _DATE.match(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    day = timedelta(days=1, milliseconds=-1) if _DATE.fullmatch(text) else timedelta()
    return to_milliseconds(moment + day)


def validate_artifact_name(name: Any) -> str:
    """Refuse a name that cannot be one: parts between slashes, at most 250 characters when percent-encoded."""
    parts = name.split("/") if isinstance(name, str) else []
    if not parts or not all(part.strip(" .") and part.isprintable() for part in parts) or name != name.strip():
        raise ArtifactNameError(
            f"An artifact cannot be named {name!r}. Write words, with slashes between them if there are several: "
            "'flights/features'."
        )
    if "[" in name or "]" in name:
        raise ArtifactNameError(
            f"An artifact cannot be named {name!r}: brackets are for the instances of a mapped step. Leave them out."
        )
    if len(quote(name, safe="")) > _MAX_NAME_LENGTH:
        raise ArtifactNameError(
            f"The artifact name {name[:40]!r}… is longer than {_MAX_NAME_LENGTH} characters, percent-encoded. Shorten it."
        )
    return str(name)


def validate_tag(tag: Any) -> str:
    """Refuse a tag that could be taken for a digest, a date, or 'latest', all of which select versions too."""
    if not isinstance(tag, str) or not tag.strip(" .") or not tag.isprintable() or tag != tag.strip():
        raise ArtifactNameError(f"{tag!r} cannot be a tag. Write a word such as 'golden'.")
    if (
        tag == LATEST
        or is_digest_prefix(tag)
        or parse_instant(tag) is not None
        or len(quote(tag, safe="")) > _MAX_NAME_LENGTH
    ):
        raise ArtifactNameError(f"{tag!r} cannot be a tag: it reads as a digest, a date or 'latest', or is too long.")
    return str(tag)


SELECTOR_MARKER = "__airflow_zen_version__"
SELECTOR_WIRE_VERSION = 1


class VersionSelector(msgspec.Struct, frozen=True):
    """Ask for one version of a name; `version` is what `ArtifactNames.get` takes as text."""

    name: str
    version: str = LATEST

    def to_wire(self) -> dict[str, Any]:
        """Write it as a marked JSON dict."""
        return {
            SELECTOR_MARKER: SELECTOR_WIRE_VERSION,
            "name": validate_artifact_name(self.name),
            "version": self.version,
        }

    @staticmethod
    def is_wire(value: object) -> bool:
        """Tell whether a JSON value asks for a version."""
        return isinstance(value, dict) and SELECTOR_MARKER in value

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> VersionSelector:
        """Read it back; raises `ArtifactRefused` for what is malformed or newer than we know."""
        name, version = wire.get("name"), wire.get("version")
        if wire[SELECTOR_MARKER] != SELECTOR_WIRE_VERSION or not isinstance(name, str) or not isinstance(version, str):
            raise ArtifactRefused(
                f"{dict(wire)!r} asks for no version of an artifact that this airflow_zen understands. Write "
                'Artifact("name").latest().'
            )
        return cls(name, version)
