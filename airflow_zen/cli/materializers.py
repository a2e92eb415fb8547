"""`airflow zen materializers`."""

from __future__ import annotations

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
    from airflow_zen.materializers.base import load_entry
    from airflow_zen.materializers.registry import default_registry

    registry = default_registry(allow_pickle=Settings.read(args.stack).allow_pickle)
    # Ours and those of decorators, then those of other distributions, each once.
    materializers = dict.fromkeys([*map(load_entry, registry.encodings.values()), *registry.from_entry_points()])
    owners = packages_distributions()
    print_rows([_row(cls, registry, owners) for cls in materializers], args.output)


def _row(cls: type[Materializer], registry: MaterializerRegistry, owners: Any) -> dict[str, Any]:
    from airflow_zen.materializers.base import entry_name, installed_version

    installed = {name: version for name in cls.libraries if (version := installed_version(name))}
    types = [name for name, entry in registry.types.items() if entry_name(entry) == entry_name(cls)]
    types = types or [*cls.type_names()]
    # The library of the types, or of the encoding if there are no types.
    module = (types[0] if types else cls.encoding).partition(".")[0].partition("@")[0]
    return {
        "encoding": cls.encoding,
        "saves": Cell(types, _truncate_names(types)),
        "also reads": ", ".join(cls.reads),
        "libraries": ", ".join(f"{name} {version}" for name, version in installed.items()),
        "installed": "yes" if module in ("builtins", "python") or find_spec(module) else "no",
        "extra": cls.extra,
        "offered by": ", ".join(owners.get(cls.__module__.partition(".")[0], [cls.__module__])),
    }


def _truncate_names(types: list[str]) -> str:
    """Join the first names; a long name keeps its package and its class."""
    parts = ((name, name.partition(".")[0], name.rpartition(".")[2]) for name in types[:_MAX_TYPES])
    short = [name if len(name) <= _MAX_NAME_LENGTH else f"{package}…{cls}" for name, package, cls in parts]
    more = f" and {len(types) - _MAX_TYPES} more" if len(types) > _MAX_TYPES else ""
    return ", ".join(name.removeprefix("builtins.") for name in short) + more
