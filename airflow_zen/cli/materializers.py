"""`airflow zen materializers`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from airflow_zen.cli.command import STACK_AND_OUTPUT, command
from airflow_zen.cli.output import Cell, print_rows

if TYPE_CHECKING:
    from airflow_zen.materializers.base import Materializer
    from airflow_zen.materializers.registry import MaterializerRegistry

_MAX_TYPES = 4
_MAX_NAME_LENGTH = 32


@command("materializers", *STACK_AND_OUTPUT)
def list_materializers(args: Any) -> None:
    """List the types that can be stored, with the libraries and the extra that each needs."""
    from importlib.metadata import packages_distributions

    from airflow_zen.config.settings import Settings
    from airflow_zen.materializers.registry import default_registry

    registry = default_registry(allow_pickle=Settings.read(args.stack).allow_pickle)
    owners = packages_distributions()
    print_rows([_row(cls, registry, owners) for cls in _all_materializers(registry)], args.output)


def _all_materializers(registry: MaterializerRegistry) -> Iterator[type[Materializer]]:
    """Yield each materializer once: ours, those of decorators, those of other distributions."""
    from airflow_zen.materializers.base import load_entry

    known = dict.fromkeys(registry.encodings.values())
    yield from dict.fromkeys([*map(load_entry, known), *registry.from_entry_points()])


def _row(cls: type[Materializer], registry: MaterializerRegistry, owners: Any) -> dict[str, Any]:
    from airflow_zen.materializers.base import installed_version

    installed = {name: version for name in cls.libraries if (version := installed_version(name))}
    types = _type_names(cls, registry)
    return {
        "encoding": cls.encoding,
        "saves": Cell(types, _truncate_names(types)),
        "also reads": ", ".join(cls.reads),
        "libraries": ", ".join(f"{name} {version}" for name, version in installed.items()),
        "installed": "yes" if _is_importable(types, cls.encoding) else "no",
        "extra": cls.extra,
        "offered by": ", ".join(owners.get(cls.__module__.partition(".")[0], [cls.__module__])),
    }


def _type_names(cls: type[Materializer], registry: MaterializerRegistry) -> list[str]:
    from airflow_zen.materializers.base import entry_name

    named = [name for name, entry in registry.types.items() if entry_name(entry) == entry_name(cls)]
    return named or [*cls.type_names()]


def _is_importable(types: list[str], encoding: str) -> bool:
    """Whether the library of the types, or of the encoding if there are no types, is installed."""
    module = (types[0] if types else encoding).partition(".")[0].partition("@")[0]
    return module in ("builtins", "python") or find_spec(module) is not None


def _truncate_names(types: list[str]) -> str:
    """Join the first names; a long name keeps its package and its class."""
    short = [
        name if len(name) <= _MAX_NAME_LENGTH else f"{name.partition('.')[0]}…{name.rpartition('.')[2]}"
        for name in types
    ]
    short = [name.removeprefix("builtins.") for name in short]
    return ", ".join(short[:_MAX_TYPES]) + (f" and {len(short) - _MAX_TYPES} more" if len(short) > _MAX_TYPES else "")
