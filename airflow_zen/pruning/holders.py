"""Who holds which artifact: what a mark leaves behind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# Names in listings and MLflow's tags carry this much of a digest: 64 bits, which no two artifacts of a root share.
_COMPACT_LENGTH = 16


@dataclass(frozen=True)
class Referrer:
    """Who holds: `kind` is `version`, `run`, `cache`, `MLflow run` or `model`, `name` whose."""

    kind: str
    name: str


@dataclass
class ReferrerIndex:
    """Collect for each artifact who holds it, in little memory: a number for a digest, a shared tuple for its holders."""

    _numbers: dict[Referrer, int] = field(default_factory=dict)
    _interned_sets: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)
    _referrers_by_digest: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def add(self, referrer: Referrer, digests: Iterable[str]) -> None:
        """Note that `holder` holds these; digests may be cut to their first 16 characters."""
        number = self._numbers.setdefault(referrer, len(self._numbers))
        for digest in map(compact_digest, digests):
            held = self._referrers_by_digest.get(digest, ())
            if number not in held:
                more = tuple(sorted((*held, number)))
                self._referrers_by_digest[digest] = self._interned_sets.setdefault(more, more)

    def of(self, digest: str) -> tuple[Referrer, ...]:
        """Name all holders of an artifact."""
        held = self._referrers_by_digest.get(compact_digest(digest), ())
        names = list(self._numbers)
        return tuple(names[number] for number in held)

    def __contains__(self, digest: str) -> bool:
        return compact_digest(digest) in self._referrers_by_digest

    @property
    def compact_digests(self) -> Iterable[int]:
        """Give what is held so far, each digest as `short` writes it."""
        return self._referrers_by_digest.keys()


def compact_digest(digest: str) -> int:
    """Write the first 16 characters of a digest as a number: 8 bytes where the text takes 113."""
    return int(digest[:_COMPACT_LENGTH], 16)
