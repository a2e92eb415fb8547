"""Every option of a stack with its value and where that comes from, without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf

from airflow_zen.get_provider_info import get_provider_info
from airflow_zen.options import SECTION, Options, default_root, stacks_file
from airflow_zen.stacks_file import DEFAULT

_SECRET = re.compile(r"(token|key|secret|password|sig|signature)=[^&]*", re.IGNORECASE)
_TOLD = {
    "env var": "environment",
    "airflow.cfg": "airflow.cfg",
    "default": "default",
    "provider-metadata-fallback-defaults": "default",
    "cmd": "command",
    "secret": "secrets backend",
}


@dataclass(frozen=True)
class Sourced:
    """One option: its value as it may be shown, and who said so."""

    option: str
    value: str
    source: str


def sourced(options: Options) -> Iterator[Sourced]:
    """Give every option of `[zen]` as a stack has it."""
    given: dict[str, Any] = dict(conf.as_dict(display_source=True, display_sensitive=True, raw=False).get(SECTION, {}))
    for option in get_provider_info()["config"][SECTION]["options"]:
        if options.is_own(option):
            yield Sourced(
                option, masked(options.text(option)), str(stacks_file().path) if option in options.own else ""
            )
            continue
        value, source = given.get(option, ("", "default"))
        yield _default(option, Sourced(option, masked(str(value or "")), _TOLD.get(source, source)), options)


def masked(text: str) -> str:
    """Leave out what an address proves who one is with."""
    parts = urlsplit(text) if "://" in text else None
    if parts is not None and "@" in parts.netloc:
        text = parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}").geturl()
    return _SECRET.sub(lambda match: f"{match[1]}=***", text)


def _default(option: str, found: Sourced, options: Options) -> Sourced:
    """Say what an option that nobody sets means."""
    if found.value or options.stack != DEFAULT:
        return found
    if option == "artifact_root":
        return Sourced(option, default_root(), "default")
    if option == "mlflow_tracking_uri" and os.environ.get("MLFLOW_TRACKING_URI"):
        return Sourced(option, masked(os.environ["MLFLOW_TRACKING_URI"]), "MLFLOW_TRACKING_URI")
    return found
