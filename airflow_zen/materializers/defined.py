"""Materializers that a project has written and told nobody about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from airflow_zen.errors import AlreadyExists
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.entries import entry_name

_OWN_PACKAGE = f"{__name__.partition('.')[0]}."


class SubclassMaterializers(msgspec.Struct, frozen=True):
    """Find a materializer among classes by what each says of itself: its own `types` and its own `encoding`.

    They are asked last, so none of them takes a type or an encoding from another one by accident.
    """

    classes: tuple[type[Materializer], ...] = ()

    def for_type(self, name: str) -> type[Materializer] | None:
        """Give the one that saves a type; raises `AlreadyExists` where several do."""
        return _require_one(name, (cls for cls in self.classes if "types" in vars(cls) and name in cls.type_names()))

    def for_encoding(self, encoding: str) -> type[Materializer] | None:
        """Give the one that reads an encoding; raises `AlreadyExists` where several do."""
        return _require_one(encoding, (cls for cls in self.classes if cls.can_read(encoding)))


def subclass_materializers() -> SubclassMaterializers:
    """Give the subclasses of `Materializer` in the modules that this process has imported, but for our own.

    Of a module that is imported twice, as Airflow may import a DAG file, the later one.
    """
    found = (cls for cls in _all_subclasses(Materializer) if not cls.__module__.startswith(_OWN_PACKAGE))
    return SubclassMaterializers(tuple({entry_name(cls): cls for cls in found if hasattr(cls, "encoding")}.values()))


def _all_subclasses(cls: type[Materializer]) -> Iterator[type[Materializer]]:
    for found in cls.__subclasses__():
        yield found
        yield from _all_subclasses(found)


def _require_one(what: str, found: Iterable[type[Materializer]]) -> type[Materializer] | None:
    classes = list(found)
    if len(classes) > 1:
        raise AlreadyExists(
            f"{' and '.join(sorted(map(entry_name, classes)))} are both materializers of {what}. Decorate the one that is "
            "meant with @register_materializer, or name it on the outputs that it is for: "
            f"Annotated[T, Artifact(materializer={classes[0].__qualname__})]."
        )
    return classes[0] if classes else None
