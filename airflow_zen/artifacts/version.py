"""One version of a named artifact, and the rules for names, tags and version labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

from airflow_zen.artifacts.ref import ArtifactRef, decode_document, encode_document
from airflow_zen.errors import ArtifactCorrupt, ArtifactNameError, ArtifactRefused
from airflow_zen.json_records import convert_record

FORMAT_VERSION = 1
LATEST = "latest"
SELECTOR_MARKER = "__airflow_zen_version__"
SELECTOR_WIRE_VERSION = 1

# Descending timestamps are counted from here: 13 digits until the year 2286.
_LAST_MILLISECOND = 9_999_999_999_999
_DIGEST_LENGTH = 16
_MAX_NAME_LENGTH = 250
_VERSION_KEY = re.compile(rf"(\d{{13}})-([0-9a-f]{{{_DIGEST_LENGTH}}})\.json")
_DIGEST_PREFIX = r"[0-9a-f]{6,64}"
_DATE = r"\d{4}-\d\d-\d\d"


class ArtifactVersion(msgspec.Struct, frozen=True):
    """Describe one version of a named artifact.

    `version` is its label for users, `created` seconds since the epoch. `origin` is the step run that first made the
    content under this name (`dag/run/task/map index/try`) and `dag_run` its DAG run (`dag/run`); both are empty for an
    artifact that was saved by hand. `tags` are those of its creation; later ones are stored beside it. `metadata` are
    facts, as JSON.
    """

    name: str
    version: str
    created: float
    ref: ArtifactRef
    origin: str = ""
    dag_run: str = ""
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the document of `docs/format.md`."""
        document = {"airflow_zen": FORMAT_VERSION, **msgspec.to_builtins(self), "ref": self.ref.to_wire()}
        return encode_document(document)

    @classmethod
    def from_json(cls, text: bytes, key: str) -> ArtifactVersion:
        """Return the version of a document; raise `ArtifactRefused` for a newer format, `ArtifactCorrupt` for damage."""

        def decode(document: dict[str, Any]) -> ArtifactVersion:
            return convert_record({**document, "ref": ArtifactRef.from_wire(document["ref"])}, cls)

        return decode_document(text, key, (FORMAT_VERSION,), decode)


class RecordedVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """The version under which an artifact was recorded, and whether its content is new under the name.

    `quarantined` means that its checks failed, and no `latest` selects it.
    """

    version: str
    changed: bool
    quarantined: bool = False


def object_name(milliseconds: int, digest: str) -> str:
    """Return the name of a version's object: its descending timestamp, and its content."""
    return f"{descending_timestamp(milliseconds)}-{digest[:_DIGEST_LENGTH]}.json"


def version_path(name: str) -> str:
    """Return the path under `versions/` of an object name, or of the timestamp it begins with.

    Objects are in folders by their time, for 12 days and in them for 17 minutes, so that on a filesystem the newest is
    found without looking at all others.
    """
    return f"{name[:4]}/{name[:7]}/{name}"


def descending_timestamp(milliseconds: int) -> str:
    """Return a time as text that sorts later times first."""
    return f"{_LAST_MILLISECOND - milliseconds:013}"


def parse_version_key(key: str) -> tuple[int, str]:
    """Return the milliseconds since the epoch and the digest's first 16 characters from a version's key."""
    found = _VERSION_KEY.fullmatch(key.rpartition("/")[2])
    if found is None:
        raise ArtifactCorrupt(f"{key!r} is not a version of an artifact. Delete the object.")
    return _LAST_MILLISECOND - int(found[1]), found[2]


def version_label(milliseconds: int) -> str:
    """Return a time as the label of a version: `2026-11-24T14:03:12.123Z`."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z"


def to_milliseconds(moment: datetime) -> int:
    """Return the milliseconds since the epoch; a time without a zone is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def is_digest_prefix(text: str) -> bool:
    """Whether a text may be the beginning of a digest, at least 6 characters."""
    return re.fullmatch(_DIGEST_PREFIX, text) is not None


def parse_instant(text: str) -> int | None:
    """Return an ISO date or time in milliseconds since the epoch, the end of the day for a date; None for other texts."""
    if re.match(_DATE, text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    day = timedelta(days=1, milliseconds=-1) if re.fullmatch(_DATE, text) else timedelta()
    return to_milliseconds(moment + day)


def validate_artifact_name(name: Any) -> str:
    """Return a valid name, or raise `ArtifactNameError`: parts between slashes, at most 250 characters percent-encoded."""
    parts = name.split("/") if isinstance(name, str) else []
    if not parts or not all(part.strip(" .") and part.isprintable() for part in parts) or name != name.strip():
        raise ArtifactNameError(
            f"An artifact cannot be named {name!r}. Use words, separated by slashes: 'flights/features'."
        )
    if "[" in name or "]" in name:
        raise ArtifactNameError(
            f"An artifact cannot be named {name!r}: brackets mark the instances of a mapped step. Remove them."
        )
    if len(quote(name, safe="")) > _MAX_NAME_LENGTH:
        raise ArtifactNameError(
            f"The artifact name {name[:40]!r}… is longer than {_MAX_NAME_LENGTH} characters, percent-encoded. Shorten it."
        )
    return str(name)


def validate_tag(tag: Any) -> str:
    """Return a valid tag, or raise `ArtifactNameError`: not a digest, a date or 'latest', which select versions too."""
    if not isinstance(tag, str) or not tag.strip(" .") or not tag.isprintable() or tag != tag.strip():
        raise ArtifactNameError(f"{tag!r} cannot be a tag. Use a word such as 'golden'.")
    selects = tag == LATEST or is_digest_prefix(tag) or parse_instant(tag) is not None
    if selects or len(quote(tag, safe="")) > _MAX_NAME_LENGTH:
        raise ArtifactNameError(
            f"{tag!r} cannot be a tag: it has the form of a digest, a date or 'latest', or is too long."
        )
    return str(tag)


class VersionSelector(msgspec.Struct, frozen=True):
    """Select one version of a name; `version` is a text as `VersionIndex.get` takes it."""

    name: str
    version: str = LATEST

    def to_wire(self) -> dict[str, Any]:
        """Return the selector as a marked JSON dict."""
        name = validate_artifact_name(self.name)
        return {SELECTOR_MARKER: SELECTOR_WIRE_VERSION, "name": name, "version": self.version}

    @staticmethod
    def is_wire(value: object) -> bool:
        """Whether a JSON value is a selector on the wire."""
        return isinstance(value, dict) and SELECTOR_MARKER in value

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> VersionSelector:
        """Return the selector of a wire form; raise `ArtifactRefused` for a malformed or newer one."""
        name, version = wire.get("name"), wire.get("version")
        if wire[SELECTOR_MARKER] != SELECTOR_WIRE_VERSION or not isinstance(name, str) or not isinstance(version, str):
            raise ArtifactRefused(
                f"{dict(wire)!r} is not a version selector that this airflow_zen reads. Write "
                'Artifact("name").latest().'
            )
        return cls(name, version)
