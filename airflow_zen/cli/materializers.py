"""`airflow zen materializers`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from typing import Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_zen.cli.output import print_rows
from airflow_zen.config.settings import Settings
from airflow_zen.materializers.base import Materializer, entry_name, installed_version, load_entry
from airflow_zen.materializers.registry import MaterializerRegistry, default_registry

_MAX_TYPES = 4
_MAX_NAME_LENGTH = 32


@suppress_logs_and_warning
def list_materializers(args: Any) -> None:
    """Print who saves what: types, encoding, libraries and whether they are here, the extra that brings them."""
    registry = default_registry(allow_pickle=Settings.read(args.stack).allow_pickle)
    owners = packages_distributions()
    print_rows([_row(cls, registry, owners, args.output) for cls in _all_materializers(registry)], args.output)


def _all_materializers(registry: MaterializerRegistry) -> Iterator[type[Materializer]]:
    """Give each materializer once: ours, those of decorators, those of other distributions."""
    known = dict.fromkeys(registry.encodings.values())
    yield from dict.fromkeys([*map(load_entry, known), *registry.from_entry_points()])


def _row(cls: type[Materializer], registry: MaterializerRegistry, owners: Any, output: str) -> dict[str, Any]:
    here = {name: version for name in cls.libraries if (version := installed_version(name))}
    types = _type_names(cls, registry)
    return {
        "encoding": cls.encoding,
        "saves": types if output in ("json", "yaml") else _truncate_names(types),
        "also reads": ", ".join(cls.reads),
        "libraries": ", ".join(f"{name} {version}" for name, version in here.items()),
        "installed": "yes" if _is_importable(types, cls.encoding) else "no",
        "extra": cls.extra,
        "offered by": ", ".join(owners.get(cls.__module__.partition(".")[0], [cls.__module__])),
    }


def _type_names(cls: type[Materializer], registry: MaterializerRegistry) -> list[str]:
    named = [name for name, entry in registry.types.items() if entry_name(entry) == entry_name(cls)]
    return named or [*cls.type_names()]


def _is_importable(types: list[str], encoding: str) -> bool:
    """Tell whether the library of its types can be imported, or that of its encoding where it has none of its own."""
    module = (types[0] if types else encoding).partition(".")[0].partition("@")[0]
    return module in ("builtins", "python") or find_spec(module) is not None


def _truncate_names(types: list[str]) -> str:
    """Leave out the middle of long names; module and class are what a reader looks for."""
    short = [
        name if len(name) <= _MAX_NAME_LENGTH else f"{name.partition('.')[0]}…{name.rpartition('.')[2]}"
        for name in types
    ]
    short = [name.removeprefix("builtins.") for name in short]
    return ", ".join(short[:_MAX_TYPES]) + (f" and {len(short) - _MAX_TYPES} more" if len(short) > _MAX_TYPES else "")
