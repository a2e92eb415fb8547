"""The promotion of a model version: an alias moves only from what was compared, and each move is kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_zen.artifacts.leases import StoreLock, try_lock
from airflow_zen.artifacts.ref import decode_document, encode_document
from airflow_zen.errors import AlreadyExists, ArtifactNotFound, PromotionRefused, log_errors
from airflow_zen.json_records import convert_record
from airflow_zen.lineage.mlflow.errors import MlflowRejected
from airflow_zen.markup import iso_time
from airflow_zen.models.model import ModelSelector, validate_alias
from airflow_zen.transports.base import quote_key_part

if TYPE_CHECKING:
    from airflow_zen.models.registered_models import RegisteredModels, RegisteredVersion
    from airflow_zen.transports.base import Transport

log = logging.getLogger("airflow_zen.models")

FORMAT_VERSION = 1
PENDING, MOVED, ABANDONED = "pending", "moved", "abandoned"

# A holder that was killed keeps the lock for this long. It moves the alias in the first half only: MLflow answers, or
# is given up, before another process can hold the lock.
_LOCK_SECONDS = 60.0
_WAIT_SECONDS, _POLL_SECONDS = 90.0, 1.0


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """One move of an alias, as it is kept in the artifact root.

    `number` counts the moves of the alias. `version` and `previous` are version numbers; `previous` is empty for the
    first. `digest` is that of the version's artifact. `state`: `pending` before the alias moves, then `moved`, or
    `abandoned` where it did not move. `at` is in seconds since the epoch. `by` is who asked for it, `origin` the task
    instance that did it (`dag/run/task/map index`, empty for a command), `why` the reason in words, `approved_by` who
    approved it. `rollback`: whether it undid another move. `gates` are the outcomes of the gates, by their title.
    """

    number: int
    model: str
    alias: str
    version: str
    previous: str = ""
    digest: str = ""
    state: str = PENDING
    at: float = 0.0
    by: str = ""
    origin: str = ""
    why: str = ""
    approved_by: str = ""
    rollback: bool = False
    gates: Mapping[str, str] = msgspec.field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the document of `docs/format.md`."""
        return encode_document({"airflow_zen": FORMAT_VERSION, **msgspec.to_builtins(self)})

    @classmethod
    def from_json(cls, text: bytes, key: str) -> Promotion:
        """Return the promotion of a document. Raises `ArtifactRefused` or `ArtifactCorrupt`."""
        return decode_document(text, key, (FORMAT_VERSION,), lambda document: convert_record(document, cls))


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A wanted move of an alias to a version, from the version `previous` that was compared with; see `Promotion`."""

    model: str
    alias: str
    version: str
    previous: str = ""
    digest: str = ""
    by: str = ""
    origin: str = ""
    why: str = ""
    approved_by: str = ""
    rollback: bool = False
    gates: Mapping[str, str] = msgspec.field(default_factory=dict)


class Promotions:
    """Move aliases of a model registry, and keep each move under `models/` of the artifact root.

    MLflow has no conditional write: a lock in the store keeps promotions of one model apart, and under it the alias is
    read again before it moves. `clock` returns seconds since the epoch, `sleep` waits for seconds.
    """

    def __init__(
        self,
        registry: RegisteredModels,
        transport: Transport,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.registry = registry
        self._transport = transport
        self._clock = clock
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"Promotions({self.registry!r})"

    def history(self, model: str, alias: str) -> list[Promotion]:
        """Return the moves of an alias, oldest first; a request for each, and one for their list."""
        keys = sorted(self._transport.list(_folder(model, alias)))
        return [Promotion.from_json(self._transport.read(key), key) for key in keys]

    def promote(self, move: Move) -> tuple[Promotion, bool]:
        """Move an alias; return the promotion, and whether this task instance or command has moved it.

        A task that is tried again finds the move of its earlier try, and returns it as moved. An alias that is at the
        version already is not moved. Raises `PromotionRefused` where it no longer has the version that was compared
        with, or another promotion of the model is running; `LineageNotFound` for a version that does not exist,
        `MlflowUnavailable`.
        """
        validate_alias(move.alias)
        version = self.registry.get(ModelSelector(move.model, move.version))
        with self._lock(move.model) as lock:
            current = self.registry.aliases(move.model).get(move.alias, "")
            last = self._settle(move, current)
            if current == move.version:
                if last and last.state == MOVED and last.version == current:
                    return last, bool(move.origin) and last.origin == move.origin
                return Promotion(number=0, **_fields(move), state=MOVED), False
            if current != move.previous:
                raise PromotionRefused(
                    f"{move.model}@{move.alias} {f'is version {current}' if current else 'is not set'} now, and version "
                    f"{move.version} was compared with {_version_text(move.previous)}. Evaluate and promote it again."
                )
            done = self._move(move, last.number + 1 if last else 1, lock)
        self._tag(version, done)
        return done, True

    def roll_back(self, model: str, alias: str, by: str, why: str = "") -> Promotion:
        """Point an alias at the version before the last promotion. Raises `PromotionRefused` without one."""
        current, moves = self.registry.aliases(model).get(alias, ""), self.history(model, alias)
        moves = [move for move in moves if move.state != ABANDONED]
        if moves and moves[-1].version != current:
            # The alias was moved by hand after that.
            previous = moves[-1].version
        else:
            promoted = [move.previous for move in moves if move.version == current and not move.rollback]
            previous = promoted[-1] if promoted else ""
        if not previous or not current:
            raise PromotionRefused(
                f"No earlier version of {model}@{alias} is known. Name the version: `airflow zen models promote {model} "
                f"VERSION {alias}`."
            )
        why = why or f"rollback from version {current}"
        move = Move(model=model, alias=alias, version=previous, previous=current, by=by, why=why, rollback=True)
        return self.promote(move)[0]

    @contextmanager
    def _lock(self, model: str) -> Iterator[StoreLock]:
        """Hold the lock on a model's aliases for the block; wait for another holder, which may have been killed."""
        key, began = f"{_model_folder(model)}/lock", self._clock()
        for attempt in count():
            with try_lock(self._transport, key, self._clock, _LOCK_SECONDS) as lock:
                if lock is not None:
                    yield lock
                    return
            if self._clock() - began > _WAIT_SECONDS:
                raise PromotionRefused(f"Another promotion of model {model!r} is running. Try again.")
            if attempt == 0:
                log.info("Another promotion of model %r is running, or was killed: waiting for at most 60 s.", model)
            self._sleep(_POLL_SECONDS)

    def _settle(self, move: Move, current: str) -> Promotion | None:
        """Return the last move; if its process was killed, the alias says how it ended."""
        last = last_promotion(self._transport, move.model, move.alias)
        if last and last.state == PENDING:
            last = replace(last, state=MOVED if last.version == current else ABANDONED)
            self._write(last)
        return last

    def _move(self, move: Move, number: int, lock: StoreLock) -> Promotion:
        pending = Promotion(number=number, **_fields(move), at=self._clock())
        try:
            self._transport.create(_key(pending), pending.to_json())
        except AlreadyExists:
            raise PromotionRefused(
                f"Another process moved {move.model}@{move.alias} at the same time. Evaluate and promote again."
            ) from None
        if self._clock() > lock.record.until - _LOCK_SECONDS / 2:
            self._write(replace(pending, state=ABANDONED))
            raise PromotionRefused(f"The store was too slow to move {move.model}@{move.alias} safely. Try again.")
        try:
            self.registry.set_alias(move.model, move.alias, move.version)
        except MlflowRejected:
            # Of a server that did not answer it is not known what it did: the next promotion sees it.
            self._write(replace(pending, state=ABANDONED))
            raise
        done = replace(pending, state=MOVED)
        with log_errors("The promotion is recorded as pending, until the next one"):
            self._write(done)
        return done

    def _tag(self, version: RegisteredVersion, done: Promotion) -> None:
        """Say on the page of the version who promoted it, and why."""
        text = f"{iso_time(done.at)} by {done.by or done.origin}, from {_version_text(done.previous)}"
        with log_errors("The page of the version does not say who promoted it"):
            self.registry.set_tag(version, f"zen.promoted.{done.alias}", f"{text}: {done.why}".removesuffix(": "))

    def _write(self, promotion: Promotion) -> None:
        self._transport.write(_key(promotion), promotion.to_json())


class WatchedAlias:
    """The version at which a watcher saw an alias last, under `models/` of the artifact root."""

    def __init__(self, transport: Transport, selector: ModelSelector) -> None:
        self._transport = transport
        self._selector = selector
        self._key = f"{_model_folder(selector.name)}/watched/{quote_key_part(selector.alias)}.json"

    def has_moved(self, current: str) -> bool:
        """Whether the alias has moved other than by a task, which emits an event itself; False at the first look."""
        try:
            text = self._transport.read(self._key)
        except ArtifactNotFound:
            self.remember(current)
            return False
        if decode_document(text, self._key, (FORMAT_VERSION,), lambda document: str(document["version"])) == current:
            return False
        last = last_promotion(self._transport, self._selector.name, self._selector.alias)
        is_of_task = bool(last and last.origin and last.version == current and last.state != ABANDONED)
        if is_of_task:
            self.remember(current)
        return not is_of_task

    def remember(self, current: str) -> None:
        """Store the version that was seen."""
        self._transport.write(self._key, encode_document({"airflow_zen": FORMAT_VERSION, "version": current}))


def last_promotion(transport: Transport, model: str, alias: str) -> Promotion | None:
    """Return the last move of an alias; two requests."""
    key = max(transport.list(_folder(model, alias)), default=None)
    return None if key is None else Promotion.from_json(transport.read(key), key)


def _fields(move: Move) -> dict[str, Any]:
    return msgspec.structs.asdict(move)


def _folder(model: str, alias: str) -> str:
    return f"{_model_folder(model)}/aliases/{quote_key_part(alias)}"


def _model_folder(model: str) -> str:
    return f"models/{quote_key_part(model)}"


def _key(promotion: Promotion) -> str:
    return f"{_folder(promotion.model, promotion.alias)}/{promotion.number:06}.json"


def _version_text(number: str) -> str:
    return f"version {number}" if number else "no version"
