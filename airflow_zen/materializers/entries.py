"""A materializer in the registry: its class, or where to import that from when it is first needed."""

from __future__ import annotations

from importlib import import_module

from airflow_zen.materializers.base import Materializer

MaterializerEntry = str | type[Materializer]


def entry_name(entry: MaterializerEntry) -> str:
    """Name an entry as `module:Class`."""
    return entry if isinstance(entry, str) else f"{entry.__module__}:{entry.__qualname__}"


def load_entry(entry: str) -> type[Materializer]:
    """Import the class that `module:Class` names."""
    module, _, name = entry.partition(":")
    cls: type[Materializer] = getattr(import_module(module), name)
    return cls
