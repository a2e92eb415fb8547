"""The small, self-verifying reference to an artifact that travels through XCom, and the versions of a name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import quote

import msgspec

from airflow_zen.artifacts.hashing import FILE_HASH, file_hash, hash_hex
from airflow_zen.errors import UNREADABLE, ArtifactCorrupt, ArtifactNameError, ArtifactNotFound, ArtifactRefused
from airflow_zen.json_records import convert_record

REF_MARKER = "__airflow_zen__"
REF_WIRE_VERSION = 2
# Version 1 had the SHA-256 of files.
_READABLE_WIRE_VERSIONS = (1, 2)

_DIGEST_PATTERN = re.compile(r"[0-9a-f]{64}")
# In the order in which Airflow's XCom tab shows them.
_WIRE_FIELDS = ("name", "type", "shape", "size", "encoding", "digest", "uri", "cached", "origin")
MAX_REF_FILES = 2
# A second download tells bytes that were damaged on their way from those that are damaged in the store.
MAX_DOWNLOADS = 2

REPAIR_ADVICE = "Run the step that made it again: it computes anew, and stores it again."

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

T = TypeVar("T")


# Users pass refs on and store them: these two stay dataclasses, which Airflow and typed JSON serialize.
@dataclass(frozen=True)
class ArtifactFile:
    """Describe one file of an artifact: `path` relative to it, `size` in bytes, `hash` as `FileHash` returns it.

    Raises `ArtifactRefused` for an impossible hash or size: caches derive paths from hashes.
    """

    path: str
    size: int
    hash: str

    def __post_init__(self) -> None:
        """Refuse values that only a forged ref or manifest can have."""
        if not FILE_HASH.fullmatch(self.hash) or self.size < 0:
            raise ArtifactRefused(
                f"An artifact lists its file {self.path!r} with {self.size} bytes and the hash {self.hash!r}, which no "
                "file can have. Run the step that made it again."
            )


def corrupt_error(place: object, file: ArtifactFile) -> ArtifactCorrupt:
    """Return the error for bytes that differ from those of a file."""
    return ArtifactCorrupt(
        f"{place} differs from its digest {hash_hex(file.hash)[:12]}: the stored bytes are damaged. {REPAIR_ADVICE}"
    )


def missing_error(place: object) -> ArtifactNotFound:
    """Return the error for a file of an artifact that no longer exists."""
    return ArtifactNotFound(f"{place} was pruned or deleted. {REPAIR_ADVICE}")


def checked_path(path: str) -> str:
    """Return the path of a file in an artifact; raise `ArtifactRefused` for one outside of it."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ArtifactRefused(f"An artifact lists the file {path!r}, which is outside it.")
    return path


def new_path(into: Path, path: str) -> Path:
    """Return the path of an artifact's file in a directory, and make its folders."""
    target = into / checked_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def verify_in_place(path: Path, file: ArtifactFile) -> None:
    """Raise `ArtifactNotFound` or `ArtifactCorrupt` unless the bytes at a local path are those of a file."""
    if not path.is_file():
        raise missing_error(path)
    if path.stat().st_size != file.size or all(file_hash(path, file.hash) != file.hash for _ in range(MAX_DOWNLOADS)):
        raise corrupt_error(path, file)


def content_digest(encoding: str, type_name: str, files: tuple[ArtifactFile, ...]) -> str:
    """Return an artifact's digest, 64 hex characters: the hash of its encoding, Python type, and files.

    Time and writer are not hashed, so that the same content has the same digest everywhere.
    """
    identity = [encoding, type_name, sorted([file.path, file.size, file.hash] for file in files)]
    return hashlib.sha256(json.dumps(identity, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


def decode_document(
    text: bytes, what: str, formats: Collection[int], decode: Callable[[dict[str, Any]], T], advice: str = ""
) -> T:
    """Return the result of `decode` for a stored JSON document of one of the `formats`.

    Raises `ArtifactRefused` for another format, `ArtifactCorrupt` for a document that cannot be decoded.
    """
    try:
        document = json.loads(text)
        if document["airflow_zen"] in formats:
            return decode(document)
    except ArtifactRefused:
        raise
    except UNREADABLE as error:
        raise ArtifactCorrupt(f"{what} is not readable: {error}. {advice}".rstrip()) from error
    raise ArtifactRefused(
        f"{what} has format {document['airflow_zen']!r}; this airflow_zen reads {max(formats)}. Install a newer "
        "airflow-provider-zen."
    )


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Return a document as JSON for people, sorted and indented, the same bytes each time; `decode_document` reads it."""
    # The indentation of json is written in Python, and takes three times as long.
    return msgspec.json.format(json.dumps(document, sort_keys=True, allow_nan=False).encode(), indent=1)


@dataclass(frozen=True)
class ArtifactRef:
    """Refer to one stored artifact.

    `digest` is its identity, `uri` its address for users and other tools, `encoding` the layout of its files, `type`
    the Python type of the value, `size` the bytes of all files. `shape` is a short description such as `"336776 rows
    × 19 columns"`. `files` lists the files of artifacts with at most `MAX_REF_FILES`, so that a reader can verify and
    fetch them without the manifest. `code` names the classes and functions of the project that the value is built of,
    as `module:qualname`; they are in the cache key of a step that reads it. `cached` and `origin`
    (`dag/run/task/map_index/try`) are whether, and from which step run, a step reused it.
    """

    digest: str
    uri: str
    encoding: str
    type: str
    size: int
    name: str = ""
    shape: str = ""
    files: tuple[ArtifactFile, ...] = field(default=(), repr=False)
    inline: bool = False
    code: tuple[str, ...] = ()
    cached: bool = False
    origin: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Return the ref as the marked JSON dict of `docs/format.md`; under 1 KB."""
        wire = {REF_MARKER: REF_WIRE_VERSION, **{name: getattr(self, name) for name in _WIRE_FIELDS}}
        if self.inline:
            wire["inline"] = True
        if self.code:
            wire["code"] = list(self.code)
        if self.files:
            wire["files"] = [[file.path, file.size, file.hash] for file in self.files]
        return wire

    @staticmethod
    def is_wire(value: object) -> bool:
        """Whether a JSON value is a ref on the wire."""
        return isinstance(value, dict) and REF_MARKER in value

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> ArtifactRef:
        """Return the ref of a wire form.

        Raises `ArtifactRefused` when it is malformed, has a newer format, or has files that do not match its digest.
        """
        version = wire.get(REF_MARKER)
        if version not in _READABLE_WIRE_VERSIONS:
            raise ArtifactRefused(
                f"Artifact ref of wire version {version!r} cannot be read: this airflow_zen reads version "
                f"{REF_WIRE_VERSION}. Install the airflow-provider-zen that wrote it, or a newer one."
            )
        try:
            files = tuple(ArtifactFile(path, int(size), text) for path, size, text in wire.get("files", ()))
            ref = convert_record({**wire, "files": files}, cls)
        except UNREADABLE as error:
            raise ArtifactRefused(f"Malformed artifact ref {dict(wire)!r}: {error}.") from error
        if not _DIGEST_PATTERN.fullmatch(ref.digest):
            raise ArtifactRefused(f"Artifact ref has no sha256 digest, got {ref.digest!r}.")
        if files and content_digest(ref.encoding, ref.type, files) != ref.digest:
            raise ArtifactRefused(f"The files of artifact ref {ref.digest[:12]} do not match its digest.")
        return ref

    def with_name(self, name: str) -> ArtifactRef:
        """Return the ref under another artifact name."""
        return replace(self, name=name)

    def reused_from(self, origin: str) -> ArtifactRef:
        """Return the ref marked as reused from the cache, made by the step run `origin`."""
        return replace(self, cached=True, origin=origin)


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


class Selector(msgspec.Struct, frozen=True):
    """The wire form of what selects one version of a name: a JSON dict marked with `_marker`."""

    name: str
    version: str

    _marker: ClassVar[str]
    _refusal: ClassVar[str]

    def to_wire(self) -> dict[str, Any]:
        """Return the selector as a marked JSON dict."""
        return {self._marker: SELECTOR_WIRE_VERSION, "name": self.name, "version": self.version}

    @classmethod
    def is_wire(cls, value: object) -> bool:
        """Whether a JSON value is a selector on the wire."""
        return isinstance(value, dict) and cls._marker in value

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """Return the selector of a wire form; raise `ArtifactRefused` for a malformed or newer one."""
        name, version = wire.get("name"), wire.get("version")
        if wire[cls._marker] != SELECTOR_WIRE_VERSION or not isinstance(name, str) or not isinstance(version, str):
            raise ArtifactRefused(f"{dict(wire)!r} {cls._refusal}")
        return cls(name, version)


class VersionSelector(Selector, frozen=True):
    """Select one version of a name; `version` is a text as `VersionIndex.get` takes it."""

    version: str = LATEST

    _marker = SELECTOR_MARKER
    _refusal = 'is not a version selector that this airflow_zen reads. Write Artifact("name").latest().'

    def to_wire(self) -> dict[str, Any]:
        """Return the selector as a marked JSON dict."""
        validate_artifact_name(self.name)
        return super().to_wire()
