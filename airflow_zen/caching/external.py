"""What a step reads that is no argument: the files and environment variables that its `Cache` names."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import fingerprint

if TYPE_CHECKING:
    from airflow_zen.caching.policy import Cache


def external_fingerprints(
    policy: Cache, function: Callable[..., Any], environment: Mapping[str, str]
) -> dict[str, str]:
    """Fingerprint named files by path and content, and named variables by value; labelled `file …` and `env …`.

    Raises `FingerprintError` for a pattern that matches no file: what cannot be read cannot be in a key.
    """
    found = {f"env {name}": fingerprint(environment.get(name)) for name in policy.env}
    if policy.files:
        folder = _source_folder(function)
        for pattern in policy.files:
            found.update(_file_digests(folder, pattern))
    return found


def _file_digests(folder: Path, pattern: str) -> Iterator[tuple[str, str]]:
    """Yield label and digest of each file; labels are relative, so that the checkout's place does not matter."""
    parts = PurePosixPath(pattern).parts
    above = [part for part in parts if part == ".."]
    start, rest = folder.joinpath(*above), "/".join(parts[len(above) :])
    try:
        # Before Python 3.13 a last `**` means folders alone.
        found = sorted(start.glob(f"{rest}/*" if rest.endswith("**") else rest))
    except (ValueError, IndexError, NotImplementedError) as error:
        raise FingerprintError(
            f"Cache(files=…): {pattern!r} is no pattern of files, such as 'sql/*.sql': {error}"
        ) from error
    paths = [path for path in found if path.is_file() and "__pycache__" not in path.parts]
    if not paths:
        instead = f"; for all in the folder write {f'{pattern}/**/*'!r}" if found else ""
        raise FingerprintError(f"Cache(files=…): {pattern!r} matches no file in {folder}{instead}")
    for path in paths:
        label = PurePosixPath(*above, path.relative_to(start).as_posix())
        with path.open("rb") as file:
            yield f"file {label}", hashlib.file_digest(file, "sha256").hexdigest()


def _source_folder(function: Callable[..., Any]) -> Path:
    file = inspect.getsourcefile(inspect.unwrap(function))
    if not file or not Path(file).is_file():
        raise FingerprintError(
            f"Cache(files=…) is relative to the file of {function.__qualname__}(), which is defined in none"
        )
    return Path(file).resolve().parent
