"""How bytes move: one small interface, and the choice of what implements it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol


class Transport(Protocol):
    """Move bytes under one root. Keys are relative, `/`-separated. Safe to use from several threads.

    Reading a key that is not there raises `ArtifactNotFound`.
    """

    def read(self, key: str) -> bytes:
        """Fetch a small object whole."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Store a small object with one request; an existing one is replaced."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Store a small object if the key is free, else raise `AlreadyExists`; atomic where the store can."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Fetch an object into a local file."""
        ...

    def publish(self, directory: Path, prefix: str, last: str) -> None:
        """Store all files of `directory` under `prefix`, in parallel, and the one named `last` after them."""
        ...

    def copy(self, prefix: str, url: str, names: Iterable[str]) -> None:
        """Copy the objects `names` under `prefix` to the absolute `url` within the store, without moving bytes here."""
        ...

    def exists(self, key: str) -> bool:
        """Tell whether an object is there; one request."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys under `prefix`, in lexicographic order."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is gone already is no error."""
        ...


def open_transport(root: str, options: Mapping[str, Any]) -> Transport:
    """Open `root` with the fastest transport installed for its scheme.

    A path or `file://` is local; `s3`, `gs` and `az` URLs go through obstore where it is installed
    (imports in 0.05 s against s3fs's 0.3–1.3 s, small objects 5 times faster, no copy of an upload in
    memory); everything else, and these without obstore, through fsspec.
    """
    raise NotImplementedError
