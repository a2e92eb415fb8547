"""`Artifact` and `Model` in DAG files: names in annotations, assets to schedule on, and arguments of steps.

Airflow is imported only for `asset`, so that annotations can be read without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_zen.artifacts.ref import LATEST, ArtifactRef, VersionSelector, validate_tag
from airflow_zen.errors import ArtifactNameError, InputError, ModelNameError
from airflow_zen.materializers.annotations import Artifact as DeclaredArtifact
from airflow_zen.models.model import Model as DeclaredModel
from airflow_zen.models.model import selector_of_annotation
from airflow_zen.steps.annotations import Imports, resolve_type

if TYPE_CHECKING:
    from airflow.sdk import Asset
    from airflow.sdk.definitions.asset import BaseAsset


class Artifact(DeclaredArtifact, frozen=True):
    """Name an output, and refer to it elsewhere by that name.

    `-> Annotated[pd.DataFrame, Artifact("features")]` names an output; `schedule=[Artifact("features").asset]` starts a
    DAG when its content changes; `train(Artifact("features").latest())` reads its newest version. `materializer` stores
    this output only; on a parameter it reads what an unregistered materializer wrote. `checks=[NotNull("delay")]`
    checks the output before it becomes visible; `on_failure` and `quarantine` say what happens where they fail. Raises
    `ArtifactNameError` for an invalid name.
    """

    @property
    def asset(self) -> Asset:
        """The Airflow asset that gets an event for each new content, from steps that declare no stack."""
        return self.asset_in("")

    def asset_in(self, stack: str) -> Asset:
        """Return the asset of steps that declare `stack=…`."""
        from airflow_zen.operators.assets import asset_of

        return asset_of(self._required_name(), stack)

    def latest(self) -> Any:
        """Select, as an argument of a step or of `airflow_zen.load`, the version that is the newest when it is read.

        The type is `Any`, because the argument stands for the value of the artifact.
        """
        return self.version(LATEST)

    def version(self, version: str) -> Any:
        """Select a version by its label, the start of its digest, its tag, or a date or time it is the newest at."""
        return VersionSelector(self._required_name(), version).to_wire()

    def tagged(self, tag: str) -> Any:
        """Select the version that has a tag, such as `champion`; raise `ArtifactNameError` for what is no tag."""
        return self.version(validate_tag(tag))

    def _required_name(self) -> str:
        if not self.name:
            raise ArtifactNameError('Artifact() has no name to refer to. Write Artifact("features").')
        return self.name


class Model(DeclaredModel, frozen=True):
    """Name a registered model in MLflow: what a step registers, or which version it reads.

    `@ml_step(model=Model("flight_delay", tags={"team": "ops"}))` registers what the step returns, one version for each
    content, with the alias `challenger`. `Model("flight_delay@champion")`, or `Model("flight_delay").champion()`, is an
    argument that stands for the model itself, and in `model: Annotated[Any, Model("flight_delay@champion")]` the
    default of a parameter. `schedule=[Model("flight_delay@champion").asset]` starts a DAG when a promotion moves the
    alias.

    `tags` are those of each version, `description` is that of the registered model. `signature` and `input_example` say
    whether MLflow gets the model's columns, and a few rows of them, from the inputs of the step. Raises
    `ModelNameError` for an invalid name.
    """

    @property
    def asset(self) -> Asset:
        """The Airflow asset that gets an event when a promotion moves the alias, from steps that declare no stack."""
        return self.asset_in("")

    def asset_in(self, stack: str) -> Asset:
        """Return the asset of promotions that declare `stack=…`."""
        from airflow_zen.operators.assets import asset_of_alias

        if "@" not in self.name:
            raise ModelNameError(
                f"Model({self.name!r}) has no alias whose moves are events. Write Model('{self.name}@champion').asset."
            )
        return asset_of_alias(self.selector, stack)

    def watched(self, stack: str = "", poll_interval: float = 60.0) -> BaseAsset:
        """Return what starts a DAG whenever the alias moves: a promotion, or somebody in MLflow's page or by a command.

        The latter has an asset of its own, which Airflow's triggerer watches, every `poll_interval` seconds: the same
        number in every DAG.
        """
        from airflow.sdk import Asset

        from airflow_zen.sensors.model_version import watcher_of

        asset = self.asset_in(stack)
        # The asset is an outlet too, and Airflow forgets the watchers of one that any DAG declares without them.
        watchers = [watcher_of(self, stack, poll_interval)]
        return asset | Asset(name=f"{asset.name}/by_hand", uri=f"{asset.uri}/by_hand", watchers=watchers)


def with_default_models(function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments with the models that `Annotated[T, Model("name@alias")]` declares and nobody passes."""
    found = dict(kwargs)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for position, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        is_given = name in found or (parameter.kind in positional and position < len(args))
        # Only what cannot be called without it is looked at: a DAG file is parsed often.
        if is_given or parameter.default is not parameter.empty or parameter.annotation is parameter.empty:
            continue
        if selector := selector_of_annotation(resolve_type(parameter.annotation, function, Imports.LIGHT)):
            found[name] = selector.to_wire()
    return found


def load_keyword_arguments(value: Any) -> Any:
    """Return what one task of `expand_kwargs` has as arguments: the dict in an artifact, or `value`.

    Raises `InputError` for an artifact of another type.
    """
    from airflow_zen import load
    from airflow_zen.config.settings import settings_of_uri

    if not ArtifactRef.is_wire(value):
        return value
    ref = ArtifactRef.from_wire(value)
    owner = settings_of_uri(ref.uri)
    arguments = load(ref, stack=owner.stack if owner else None)
    if not isinstance(arguments, Mapping):
        raise InputError(
            f"expand_kwargs maps over dicts of arguments, and {ref.name!r} is {ref.type}. Return a list of dicts, or map "
            "one parameter over the list: expand(name=…)."
        )
    return arguments
