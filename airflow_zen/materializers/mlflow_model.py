"""Models as MLflow Model directories, written without importing mlflow.

https://mlflow.org/docs/latest/ml/model/#storage-format
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.base import Materializer, installed_version
from airflow_zen.materializers.files import copy_files
from airflow_zen.materializers.previews.html import Markup, bar_chart, heading, hidden_note, preformatted, preview_page
from airflow_zen.materializers.previews.tables import plain_table
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.model_files import MLMODEL_FILE, ModelEnvironment, yaml_text

STATE_FILE = "state.json"

_MAX_PARAMETERS = 60
_MAX_FEATURES = 20


@dataclass(frozen=True)
class MLflowModel:
    """An MLflow Model directory, for flavors that have no materializer here.

    A step that returns `MLflowModel(path)` makes a model like any other: with a logged model and, where the step
    asks for it, a version in the registry. `mlflow.pyfunc.load_model(model.path)` opens it.
    """

    path: Path


class MLflowModelMaterializer(Materializer):
    """Copy the directory unchanged; only mlflow reads its contents, including pickles."""

    types = (f"{__name__}.{MLflowModel.__qualname__}",)
    encoding = "directory.mlflow@1"
    gives_paths = True

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Copy `MLmodel` and everything beside it.

        Raises `SaveRefused` for a directory without `MLmodel`, and for links that leave the directory.
        """
        root = Path(value.path)
        if not (root / MLMODEL_FILE).is_file():
            raise SaveRefused(f"{str(root)!r} has no file {MLMODEL_FILE}. Write it with a save_model of mlflow's.")
        return {"shape": f"MLflow Model of {len(copy_files(root, directory))} files"}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Return the directory as an `MLflowModel`."""
        return MLflowModel(directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the file `MLmodel`."""
        text = (Path(value.path) / MLMODEL_FILE).read_text("utf-8", errors="replace")
        return preview_page(value, summary, [preformatted(text)])


class WrittenModel(msgspec.Struct, frozen=True):
    """The result of `ModelMaterializer.write`.

    `shape` is a short text for people. `flavor` and `pyfunc` are the options of MLflow's own flavor and of
    `python_function`; None if mlflow cannot load the model, or not predict with it. `state` is the state that the
    model's own files do not contain, if any. `requirements` are further distributions that the model needs. `made_with`
    are the options of the flavor that are not part of the model, such as the version of its library.
    """

    shape: str
    flavor: Mapping[str, Any] | None
    pyfunc: Mapping[str, Any] | None = None
    state: Mapping[str, Any] | None = None
    requirements: Sequence[str] = ()
    made_with: Mapping[str, str] = msgspec.field(default_factory=dict)


class ModelMaterializer(Materializer):
    """Save a model as an MLflow Model, in the layout of mlflow's own `save_model` for its flavor.

    mlflow loads, registers and serves the directory as it is. The encoding of a subclass is `<flavor>.mlflow@<version>`.
    A subclass defines `write` and `load`, and where it has them `parameters` and `feature_weights`, which the preview
    shows. `requirements` are the distributions that loading and predicting need. Their versions are in the summary, as
    `environment`, so that the digest does not depend on them.
    """

    requirements: ClassVar[tuple[str, ...]]

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write the model's own files, `MLmodel`, and the files that describe its environment."""
        written = self.write(value, directory)
        parts = {} if written.state is None else write_typed_json(self, written.state, directory, STATE_FILE)
        made = {} if written.flavor is None else {"environment": self._describe(written, directory)}
        return {"shape": written.shape, "estimator": self.model_name(value), **made, **parts}

    def _describe(self, written: WrittenModel, directory: Path) -> dict[str, Any]:
        """Write the description of the model without versions; return the versions."""
        flavor = self.encoding.partition(".")[0]
        flavors = {flavor: written.flavor}
        if written.pyfunc is not None:
            environment = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
            flavors["python_function"] = {"env": environment, "loader_module": f"mlflow.{flavor}", **written.pyfunc}
        # What differs between two saves of one model (`model_uuid`, `utc_time_created`) is left out, and mlflow reads the
        # file without. So is a signature: its enforcement would refuse integers where the model takes them.
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        names = sorted({"mlflow", *self.requirements, *written.requirements})
        files = {MLMODEL_FILE: yaml_text({"flavors": flavors, "model_size_bytes": size})}
        for name, text in {**files, **ModelEnvironment(names).files()}.items():
            (directory / name).write_text(text, encoding="utf-8")
        return dict(msgspec.to_builtins(_installed_environment(names, {flavor: written.made_with})))

    def write(self, model: Any, directory: Path) -> WrittenModel:
        """Write the model's own files; raise `SaveRefused` for a model that would not come back."""
        raise NotImplementedError

    def read_state(self, directory: Path) -> Any:
        """Return the state that `write` returned."""
        return read_typed_json(self, directory, STATE_FILE)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the sections of the model."""
        return preview_page(value, summary, self.sections(value), self.model_name(value))

    def sections(self, model: Any) -> Iterable[Markup]:
        """Return the sections of the preview: the features of greatest weight, and the parameters."""
        meaning, weights = self.feature_weights(model)
        if weights:
            yield heading(meaning)
            yield bar_chart(sorted(weights, key=lambda weight: -weight[1])[:_MAX_FEATURES])
            yield from hidden_note(len(weights) - _MAX_FEATURES, "feature of less weight", "features of less weight")
        if parameters := self.parameters(model):
            yield heading("Parameters")
            yield plain_table(["parameter", "value"], islice(parameters.items(), _MAX_PARAMETERS))
            yield from hidden_note(len(parameters) - _MAX_PARAMETERS, "parameter")

    def model_name(self, model: Any) -> str:
        """Return the name of a model for people."""
        return type(model).__qualname__

    def parameters(self, model: Any) -> Mapping[str, Any]:
        """Return the parameters that are set, by name; none for a booster, which does not store its own."""
        known = model.get_params() if hasattr(model, "get_params") else {}
        return {name: value for name, value in known.items() if value is not None}

    def feature_weights(self, model: Any) -> tuple[str, list[tuple[str, float]]]:
        """Return the meaning of the weights, and the weight of each feature by name; none by default."""
        return "", []


def _installed_environment(names: Iterable[str], flavors: Mapping[str, Mapping[str, str]]) -> ModelEnvironment:
    """Return the environment of this process, with the versions that are installed."""
    python = platform.python_version()
    return ModelEnvironment(
        requirements=[requirement for name in names if "==" in (requirement := _pinned_requirement(name))],
        python=python,
        tools=[*map(_pinned_requirement, ModelEnvironment(()).tools)],
        mlflow=installed_version("mlflow"),
        flavors={**flavors, "python_function": {"python_version": python}},
    )


def _pinned_requirement(name: str) -> str:
    """Return the installed version of a distribution, or of its build for machines without a GPU."""
    builds = ((each, installed_version(each)) for each in (name, f"{name}-cpu"))
    return next((f"{build}=={version}" for build, version in builds if version), name)
