"""A saved booster is a plain MLflow Model that mlflow loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import numpy as np
import pytest
import xgboost
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.registry import default_registry
from airflow_zen.materializers.typed_json import write_typed_json
from tests.materializers.library_values import BOOSTERS
from tests.materializers.path_values import X, Y
from tests.materializers.registered_model import flavors_of, save_registered

FITTED = {
    name: make
    for name, make in BOOSTERS.items()
    if not any(word in name for word in ("unfitted", "dict", "namedtuple"))
}


STUB = ["airflow_zen.materializers.sklearn.decoding.StoredEstimator"]


def _save(value: Any, directory: Path, encoding: str) -> str:
    assert default_registry().save(value, directory).encoding == encoding
    return str(directory)


@pytest.mark.parametrize("make", FITTED.values(), ids=FITTED.keys())
def test_mlflow_predicts_what_the_original_predicts(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """mlflow.pyfunc loads the directory unchanged, and predicts the same."""
    model = make(tmp_path)
    directory = tmp_path / "artifact"
    directory.mkdir()
    default_registry().save(model, directory)
    x = X.assign(d=["u", "v"] * 40).astype({"d": "category"}) if "d" in _feature_names(model) else X
    expected = model.predict(xgboost.DMatrix(x) if isinstance(model, xgboost.Booster) else x)
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(str(directory)).predict(x), expected)


def test_xgboost_directory_has_the_layout_of_mlflow(tmp_path: Path) -> None:
    """The flavors are those of mlflow.xgboost.save_model."""
    model = xgboost.XGBRegressor(n_estimators=2, n_jobs=1).fit(X, Y)
    ours = save_registered(model, tmp_path, "xgboost.mlflow@3")
    mlflow.xgboost.save_model(model, tmp_path / "theirs", pip_requirements=["mlflow"])
    assert ours == flavors_of(tmp_path / "theirs")
    files = [(folder / "model.ubj").read_bytes() for folder in (tmp_path, tmp_path / "theirs")]
    # The release that wrote it, in the last bytes, is left out of ours.
    assert files[0][:-7] == files[1][:-7]
    assert files[0][-7:] == b"i\2i\0i\0}"
    assert type(mlflow.xgboost.load_model(str(tmp_path))) is xgboost.XGBRegressor


@pytest.mark.parametrize("wrapped", [True, False])
def test_lightgbm_directory_has_the_layout_of_mlflow(wrapped: bool, tmp_path: Path) -> None:
    """The flavors are those of mlflow.lightgbm.save_model, for a booster and for a wrapper."""
    model = lightgbm.LGBMRegressor(n_estimators=2, n_jobs=1, verbose=-1).fit(X, Y)
    ours = save_registered(model if wrapped else model.booster_, tmp_path, "lightgbm.mlflow@3")
    mlflow.lightgbm.save_model(model if wrapped else model.booster_, tmp_path / "theirs", pip_requirements=["mlflow"])
    theirs = flavors_of(tmp_path / "theirs")
    trusted = theirs["lightgbm"].pop("skops_trusted_types") or []
    assert ours["lightgbm"].pop("skops_trusted_types") == (STUB if wrapped else None)
    assert trusted or not wrapped
    if not wrapped:
        assert theirs["lightgbm"].pop("serialization_format") == "skops"
        assert ours["lightgbm"].pop("serialization_format") is None
    assert ours == theirs


def test_mlflow_gets_the_best_iteration(tmp_path: Path) -> None:
    """Mlflow loads a booster that stopped early with its best iterations only; a step gets all trees."""
    booster = BOOSTERS["lightgbm booster stopped early"](tmp_path)
    assert 0 < booster.best_iteration < booster.num_trees()
    directory = _save(booster, tmp_path, "lightgbm.mlflow@3")
    assert mlflow.lightgbm.load_model(directory).num_trees() == booster.best_iteration
    assert default_registry().load(tmp_path, "lightgbm.mlflow@3").num_trees() == booster.num_trees()


def test_xgboost_model_of_another_release(tmp_path: Path) -> None:
    """A model that XGBoost 3.1 wrote comes back with its configuration, and is written as the same bytes."""
    written = Path(__file__).parent / "encodings" / "xgboost.mlflow@3" / "regressor"
    loaded = default_registry().load(written, "xgboost.mlflow@3")
    config = json.loads(loaded.get_booster().save_config())
    assert config["learner"]["gradient_booster"]["tree_train_param"]["max_depth"] == "1"
    _save(loaded, tmp_path, "xgboost.mlflow@3")
    for file in written.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize(
    "parameters",
    [
        {"booster": "dart", "rate_drop": 0.1, "tree_method": "approx"},
        {"booster": "gblinear", "feature_selector": "shuffle"},
        {"tree_method": "exact", "eval_metric": ["mae", "rmse"]},
        {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]},
    ],
    ids=str,
)
def test_xgboost_configuration_is_complete(parameters: dict[str, Any], tmp_path: Path) -> None:
    """A stored configuration is only what differs from the usual one, and all of it comes back."""
    model = xgboost.XGBRegressor(n_estimators=2, n_jobs=1, random_state=7, **parameters).fit(X, Y)
    _save(model, tmp_path, "xgboost.mlflow@3")
    config = json.loads((tmp_path / "config.json").read_text())
    assert "gbtree_model_param" not in str(config)
    loaded = default_registry().load(tmp_path, "xgboost.mlflow@3").get_booster()
    assert loaded.save_config() == model.get_booster().save_config()
    loaded.update(xgboost.DMatrix(X, Y), 2)
    model.get_booster().update(xgboost.DMatrix(X, Y), 2)
    assert loaded.save_raw("json") == model.get_booster().save_raw("json")


def test_unfitted_xgboost_has_no_model_file(tmp_path: Path) -> None:
    """A model that is not fitted is stored as its parameters; mlflow has nothing to load yet."""
    _save(xgboost.XGBRegressor(max_depth=3), tmp_path, "xgboost.mlflow@3")
    assert {path.name for path in tmp_path.iterdir()} == {"state.json"}


def half_square(truth: Any, predicted: Any) -> tuple[Any, Any]:
    """Return gradient and curvature of half the squared error."""
    return predicted - truth, np.ones_like(truth)


def mean_distance(truth: Any, predicted: Any) -> float:
    """Return a metric."""
    return float(np.abs(truth - predicted).mean())


@pytest.mark.parametrize("cls", [xgboost.XGBRegressor, lightgbm.LGBMRegressor])
def test_own_objective_is_kept_by_name(cls: Any, tmp_path: Path) -> None:
    """A model with an objective of the project comes back with it, and predicts the same."""
    own = {"eval_metric": mean_distance} if cls is xgboost.XGBRegressor else {"verbose": -1}
    model = cls(n_estimators=2, n_jobs=1, objective=half_square, **own).fit(X, Y)
    saved = default_registry().save(model, tmp_path)
    assert f"{__name__}:half_square" in saved.summary["code"]
    loaded = default_registry().load(tmp_path, saved.encoding)
    assert loaded.objective is half_square
    assert getattr(loaded, "eval_metric", None) is own.get("eval_metric")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_class_that_is_no_model_is_not_built(tmp_path: Path) -> None:
    """An artifact cannot name just any class as the wrapper."""
    registry = default_registry()
    _save(xgboost.XGBRegressor(max_depth=3), tmp_path, "xgboost.mlflow@3")
    metadata = {"class": "subprocess:Popen", "state": {}}
    write_typed_json(registry.for_encoding("xgboost.mlflow@3"), metadata, tmp_path, "state.json")
    with pytest.raises(ArtifactRefused, match="no XGBoost model"):
        registry.load(tmp_path, "xgboost.mlflow@3")


def test_pipeline_requires_the_library_of_its_booster(tmp_path: Path) -> None:
    """A scikit-learn pipeline around a booster names the booster's library among its requirements."""
    pipeline = make_pipeline(StandardScaler(), lightgbm.LGBMRegressor(n_estimators=2, n_jobs=1, verbose=-1)).fit(X, Y)
    _save(pipeline, tmp_path, "sklearn.mlflow@3")
    assert "lightgbm" in {line.split("==")[0] for line in (tmp_path / "requirements.txt").read_text().splitlines()}


def _feature_names(model: Any) -> list[str]:
    return list(getattr(model, "feature_names_in_", None) if hasattr(model, "feature_names_in_") else ())
