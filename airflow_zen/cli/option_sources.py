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
from airflow_zen.options import CONFIG_SECTION, Options, default_artifact_root, load_stacks_file
from airflow_zen.stacks_file import DEFAULT_STACK

_SECRET = re.compile(r"(token|key|secret|password|sig|signature)=[^&]*", re.IGNORECASE)
_SOURCE_NAMES = {
    "env var": "environment",
    "airflow.cfg": "airflow.cfg",
    "default": "default",
    "provider-metadata-fallback-defaults": "default",
    "cmd": "command",
    "secret": "secrets backend",
}


@dataclass(frozen=True)
class EffectiveOption:
    """One option: its value as it may be shown, and who said so."""

    option: str
    value: str
    source: str


def effective_options(options: Options) -> Iterator[EffectiveOption]:
    """Give every option of `[zen]` as a stack has it."""
    configured: dict[str, Any] = dict(
        conf.as_dict(display_source=True, display_sensitive=True, raw=False).get(CONFIG_SECTION, {})
    )
    for option in get_provider_info()["config"][CONFIG_SECTION]["options"]:
        if options.is_stack_specific(option):
            yield EffectiveOption(
                option,
                mask_secrets(options.text(option)),
                str(load_stacks_file().path) if option in options.overrides else "",
            )
            continue
        value, source = configured.get(option, ("", "default"))
        yield _with_default(
            option, EffectiveOption(option, mask_secrets(str(value or "")), _SOURCE_NAMES.get(source, source)), options
        )


def mask_secrets(text: str) -> str:
    """Leave out what an address proves who one is with."""
    parts = urlsplit(text) if "://" in text else None
    if parts is not None and "@" in parts.netloc:
        text = parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}").geturl()
    return _SECRET.sub(lambda match: f"{match[1]}=***", text)


def _with_default(option: str, found: EffectiveOption, options: Options) -> EffectiveOption:
    """Say what an option that nobody sets means."""
    if found.value or options.stack != DEFAULT_STACK:
        return found
    if option == "artifact_root":
        return EffectiveOption(option, default_artifact_root(), "default")
    if option == "mlflow_tracking_uri" and os.environ.get("MLFLOW_TRACKING_URI"):
        return EffectiveOption(option, mask_secrets(os.environ["MLFLOW_TRACKING_URI"]), "MLFLOW_TRACKING_URI")
    return found
