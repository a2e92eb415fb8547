"""`Cache`: what a step's cache key is made of, and how long a result is reused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from pathlib import PurePath
from typing import Any

from airflow_zen.errors import StepDefinitionError

_SCOPES = ("shared", "dag")


@dataclass(frozen=True, repr=False)
class Cache:
    """Reuse a step's results, with a choice of what its cache key is made of.

    `ttl`: seconds, or a timedelta, after which a result is computed again; `math.inf` keeps it for ever. `ignore`:
    parameters that are not in the key. `files`: patterns of files whose content is in the key, relative to the file
    that defines the step (`sql/*.sql`). `env`: environment variables that are in the key. `key`: called with the
    arguments by name, artifacts as `ArtifactRef`s; its result replaces all arguments in the key. `packages`: False
    leaves out the versions of libraries. `scope`: `"shared"` reuses results of every DAG, `"dag"` only of the step's
    own. None follows the `[zen] cache_*` option. Raises `StepDefinitionError` for invalid values.
    """

    ttl: timedelta | float | None = None
    ignore: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    key: Callable[..., Any] | None = None
    packages: bool | None = None
    scope: str | None = None

    def __post_init__(self) -> None:
        """Check the values where they are written."""
        for name in ("ignore", "files", "env"):
            object.__setattr__(self, name, _string_tuple(name, getattr(self, name)))
        for pattern in self.files:
            if PurePath(pattern).is_absolute():
                raise _invalid_option("files", pattern, "patterns relative to the file that defines the step")
        if not _is_valid_ttl(self.ttl):
            wanted = "a timedelta, or seconds, above zero (cache=False never reuses a result)"
            raise _invalid_option("ttl", self.ttl, wanted)
        if self.key is not None and not callable(self.key):
            raise _invalid_option("key", self.key, "a function of the step's arguments")
        if not isinstance(self.packages, bool | None):
            raise _invalid_option("packages", self.packages, "True or False")
        if self.scope is not None and self.scope not in _SCOPES:
            raise _invalid_option("scope", self.scope, " or ".join(map(repr, _SCOPES)))

    @property
    def ttl_seconds(self) -> float:
        """The age in seconds up to which a result is reused."""
        if isinstance(self.ttl, timedelta):
            return self.ttl.total_seconds()
        return math.inf if self.ttl is None else float(self.ttl)

    def with_defaults(self, defaults: Cache) -> Cache:
        """Return a copy in which `defaults` replace the options that are None."""
        open_options = [name for name in ("ttl", "packages", "scope") if getattr(self, name) is None]
        return replace(self, **{name: getattr(defaults, name) for name in open_options})

    def __repr__(self) -> str:
        """Show the chosen options; equal in every process, because Airflow serializes it with mapped tasks."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.key is not None:
            options["key"] = _callable_name(self.key)
        return f"Cache({', '.join(f'{name}={value!r}' for name, value in options.items() if value not in (None, ()))})"


def _callable_name(function: Any) -> str:
    """Return the name of a function, of a partial or of a callable object, without its address."""
    named = getattr(function, "func", function)
    return str(getattr(named, "__qualname__", type(named).__qualname__))


def _is_valid_ttl(given: Any) -> bool:
    if given is None or isinstance(given, bool):
        return given is None
    return bool(given > timedelta(0)) if isinstance(given, timedelta) else isinstance(given, float | int) and given > 0


def _string_tuple(name: str, given: Any) -> tuple[str, ...]:
    """Return the names as a tuple; one name is a tuple of it."""
    texts = (given,) if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) and text for text in texts):
        raise _invalid_option(name, given, "names in a tuple")
    return tuple(texts)


def _invalid_option(name: str, given: Any, wanted: str) -> StepDefinitionError:
    return StepDefinitionError(f"Cache({name}=…) takes {wanted}, got {given!r}.")


FOLLOW_SETTINGS = Cache()
