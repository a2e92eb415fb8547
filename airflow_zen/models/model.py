"""`Model`: a registered model that a step makes versions of, and one version of it as an argument."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec.structs import force_setattr

from airflow_zen.artifacts.ref import Selector
from airflow_zen.errors import ModelNameError

SELECTOR_MARKER = "__airflow_zen_model__"
CHAMPION, CHALLENGER, LATEST = "champion", "challenger", "latest"

# MLflow's own rules, but for names with an @, which would read as an alias.
_ALIAS = re.compile(r"[A-Za-z0-9_-]+")
_NUMBER_OR_LATEST = re.compile(r"(?i)v?\d+|latest")


class ModelSelector(Selector, frozen=True):
    """Select one version of a registered model: `version` is a number as text, `latest`, or `@` and an alias."""

    _marker = SELECTOR_MARKER
    _refusal = 'does not select a model version that this airflow_zen knows. Write Model("name").champion().'

    @classmethod
    def parse(cls, text: str) -> ModelSelector:
        """Return the selector of `name@alias`, `name/7` or `name/latest`; raise `ModelNameError` for other texts."""
        name, at, alias = text.rpartition("@")
        if at:
            return cls(validate_model_name(name), f"@{validate_alias(alias)}")
        name, slash, version = text.rpartition("/")
        if not slash or not (version == LATEST or version.isdecimal()):
            raise ModelNameError(
                f"{text!r} names no version of a registered model. Write 'name@champion', 'name/7' or 'name/latest'."
            )
        return cls(validate_model_name(name), version)

    @property
    def alias(self) -> str:
        """The alias; empty for a number and for the latest version."""
        return self.version[1:] if self.version.startswith("@") else ""

    def __str__(self) -> str:
        return self.name + (self.version if self.alias else f"/{self.version}")


class Model(msgspec.Struct, frozen=True):
    """Name a registered model in MLflow: what a step registers, or which version it reads.

    `tags` are those of each version, `description` is that of the registered model. `signature` and `input_example` say
    whether MLflow gets the model's columns, and a few rows of them, from the inputs of the step. Raises
    `ModelNameError` for an invalid name.
    """

    name: str
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    description: str = ""
    signature: bool = True
    input_example: bool = True

    def __post_init__(self) -> None:
        """Check the name, and take tags of any simple type."""
        if self._selects:
            ModelSelector.parse(self.name)
        else:
            validate_model_name(self.name)
        force_setattr(self, "tags", {str(key): str(value) for key, value in self.tags.items()})

    def __hash__(self) -> int:
        """Return the hash of the name: types that carry a model as a mark are kept in sets."""
        return hash(self.name)

    def __repr__(self) -> str:
        """Show the options that are set; equal in every process, because Airflow serializes it with mapped tasks."""
        return (
            f"Model({', '.join([repr(self.name), *(f'{name}={value!r}' for name, value in self.options().items())])})"
        )

    def options(self) -> dict[str, Any]:
        """Return what it says about the registration beside the name, as JSON; without what is not set."""
        options = {"tags": dict(self.tags), "description": self.description}
        flags = {name: False for name in ("signature", "input_example") if not getattr(self, name)}
        return {name: value for name, value in options.items() if value} | flags

    def champion(self) -> Any:
        """Select the version with the alias `champion`; typed `Any`, as the argument stands for the model."""
        return self.alias(CHAMPION)

    def challenger(self) -> Any:
        """Select the version with the alias `challenger`, which is the one that a step registered last."""
        return self.alias(CHALLENGER)

    def alias(self, alias: str) -> Any:
        """Select the version with an alias, when it is read."""
        return ModelSelector(self._plain_name(), f"@{validate_alias(alias)}").to_wire()

    def version(self, number: int | str) -> Any:
        """Select a version by its number."""
        if not str(number).isdecimal():
            raise ModelNameError(f"A version of a registered model is a number, got {number!r}.")
        return ModelSelector(self._plain_name(), str(number)).to_wire()

    def latest(self) -> Any:
        """Select the newest version, when it is read."""
        return ModelSelector(self._plain_name(), LATEST).to_wire()

    @property
    def selector(self) -> ModelSelector:
        """The version that its name selects; raise `ModelNameError` where it selects none."""
        return ModelSelector.parse(self.name)

    @property
    def _selects(self) -> bool:
        return "@" in self.name or "/" in self.name

    def _plain_name(self) -> str:
        if self._selects:
            raise ModelNameError(f"Model({self.name!r}) selects a version already. Pass it as it is.")
        return self.name


def as_model(value: str | Model) -> Model | None:
    """Return the model that an option names; None for an empty text."""
    return value if isinstance(value, Model) else Model(value) if value else None


def as_selector(value: Any) -> ModelSelector | None:
    """Return the model version that a `Model`, or a selector on the wire, selects; None for other values."""
    if isinstance(value, Model):
        return value.selector
    return ModelSelector.from_wire(value) if ModelSelector.is_wire(value) else None


def selector_of_annotation(declared: Any) -> ModelSelector | None:
    """Return what `Annotated[T, Model("name@alias")]` selects; None without such a mark."""
    marks = get_args(declared)[1:] if get_origin(declared) is Annotated else ()
    return next((mark.selector for mark in marks if isinstance(mark, Model)), None)


def validate_model_name(name: Any) -> str:
    """Return a valid name of a registered model, or raise `ModelNameError`."""
    if not isinstance(name, str) or not name.strip() or re.search("[/:@]", name) or not name.isprintable():
        raise ModelNameError(
            f"A registered model cannot be named {name!r}: MLflow takes no '/' and no ':', and '@' begins an alias. Write "
            "a name such as 'flight_delay'."
        )
    return name


def validate_alias(alias: Any) -> str:
    """Return a valid alias, or raise `ModelNameError`: MLflow keeps numbers and `latest` for itself."""
    if not isinstance(alias, str) or not _ALIAS.fullmatch(alias) or _NUMBER_OR_LATEST.fullmatch(alias):
        raise ModelNameError(
            f"{alias!r} cannot be an alias. Write a word of letters, digits, '_' and '-', such as 'champion'; versions are "
            "selected by Model('name').version(7) and Model('name').latest()."
        )
    return alias
