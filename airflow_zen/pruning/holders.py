"""Who holds which artifact: what a mark leaves behind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# Names in listings and MLflow's tags carry this much of a digest: 64 bits, which no two artifacts of a root share.
_SHORT = 16


@dataclass(frozen=True)
class Holder:
    """Who holds: `kind` is `version`, `run`, `cache`, `MLflow run` or `model`, `name` whose."""

    kind: str
    name: str


@dataclass
class Holders:
    """Collect for each artifact who holds it, in little memory: a number for a digest, a shared tuple for its holders."""

    _known: dict[Holder, int] = field(default_factory=dict)
    _sets: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)
    _held: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def add(self, holder: Holder, digests: Iterable[str]) -> None:
        """Note that `holder` holds these; digests may be cut to their first 16 characters."""
        number = self._known.setdefault(holder, len(self._known))
        for digest in map(short, digests):
            held = self._held.get(digest, ())
            if number not in held:
                more = tuple(sorted((*held, number)))
                self._held[digest] = self._sets.setdefault(more, more)

    def of(self, digest: str) -> tuple[Holder, ...]:
        """Name all holders of an artifact."""
        held = self._held.get(short(digest), ())
        names = list(self._known)
        return tuple(names[number] for number in held)

    def __contains__(self, digest: str) -> bool:
        return short(digest) in self._held

    @property
    def digests(self) -> Iterable[int]:
        """Give what is held so far, each digest as `short` writes it."""
        return self._held.keys()


def short(digest: str) -> int:
    """Write the first 16 characters of a digest as a number: 8 bytes where the text takes 113."""
    return int(digest[:_SHORT], 16)
