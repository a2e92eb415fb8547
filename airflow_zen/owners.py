"""Whose artifact lies at an address: a look at the roots of all stacks."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from airflow_zen.errors import SettingsError
from airflow_zen.options import load_stacks_file, stack_names
from airflow_zen.settings import Settings

log = logging.getLogger("airflow_zen.settings")


def all_settings() -> Iterator[Settings]:
    """Give the settings of every stack that is defined; one that cannot be used is told in the log and left out."""
    for name in stack_names(load_stacks_file()):
        try:
            yield Settings.read(name)
        except SettingsError as error:
            log.warning("Stack %r cannot be used: %s", name, error)


def settings_of_uri(uri: str) -> Settings | None:
    """Give the settings of the stack under whose root an address lies, the innermost of several; None where nobody knows."""
    candidates = [settings for settings in all_settings() if uri.startswith(f"{settings.artifact_root}/artifacts/")]
    return max(candidates, key=lambda settings: len(settings.artifact_root), default=None)
