"""A saved estimator is a plain MLflow Model that mlflow loads, serves and registers."""

from __future__ import annotations

import functools
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from airflow_zen.artifacts.reader import ArtifactReader
from airflow_zen.artifacts.store import ArtifactStore
from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import installed_version
from airflow_zen.materializers.registry import default_registry
from airflow_zen.materializers.sklearn.trust import class_name, load_class, untrusted_names
from airflow_zen.transports import open_transport
from tests.materializers.path_values import MODELS, RNG, X, Y
from tests.materializers.registered_model import save_registered

ENCODING = "sklearn.mlflow@3"
STUB = ["airflow_zen.materializers.sklearn.decoding.StoredEstimator"]
PREDICTING = {
    name: MODELS[name]
    for name in (
        "ridge",
        "histogram boosting regressor",
        "histogram boosting classifier",
        "random forest",
        "pipeline",
        "grid search",
        "kmeans",
    )
}


class Doubler(BaseEstimator):
    def fit(self, x: Any, y: Any = None) -> Doubler:
        return self

    def transform(self, x: Any) -> Any:
        return x * 2


def _save(value: Any, directory: Path) -> Path:
    assert default_registry().save(value, directory).encoding == ENCODING
    return directory


@pytest.mark.parametrize("make", PREDICTING.values(), ids=PREDICTING.keys())
def test_mlflow_predicts_what_the_original_predicts(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """mlflow.sklearn and mlflow.pyfunc load the directory unchanged, and predict the same."""
    model = make(tmp_path)
    directory = str(_save(model, tmp_path))
    expected = model.predict(X)
    np.testing.assert_array_equal(mlflow.sklearn.load_model(directory).predict(X), expected)
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(directory).predict(X), expected)
    np.testing.assert_array_equal(default_registry().load(tmp_path, ENCODING).predict(X), expected)


def test_mlflow_predicts_on_integers(tmp_path: Path) -> None:
    """A model fitted on floats predicts on integers through pyfunc: no signature is enforced."""
    directory = str(_save(Ridge().fit(X, Y), tmp_path))
    whole = pd.DataFrame({"a": [1], "b": [2], "c": [3]})
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(directory).predict(whole), Ridge().fit(X, Y).predict(whole))


def test_registered_directory_has_the_layout_of_mlflow(tmp_path: Path) -> None:
    """The files and flavors are those of mlflow.sklearn.save_model with skops, without what differs between two saves."""
    # An import of setuptools since the first look lets its copies of other distributions be found.
    installed_version.cache_clear()
    model = make_pipeline(StandardScaler(), Ridge()).fit(X, Y)
    ours = tmp_path / "ours"
    ours.mkdir()
    save_registered(model, ours, ENCODING)
    theirs = tmp_path / "theirs"
    mlflow.sklearn.save_model(
        model, theirs, serialization_format="skops", skops_trusted_types=[], pip_requirements=["mlflow"]
    )
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    left_out = {key for key, value in _yaml(theirs / "MLmodel").items() if value is not None} - set(
        _yaml(ours / "MLmodel")
    )
    assert left_out == {"model_uuid", "utc_time_created"}
    flavors = _yaml(theirs / "MLmodel")["flavors"]
    flavors["sklearn"]["skops_trusted_types"] = STUB
    assert _yaml(ours / "MLmodel")["flavors"] == flavors
    assert _yaml(ours / "python_env.yaml") == _yaml(theirs / "python_env.yaml")
    assert set(_yaml(ours / "conda.yaml")) == set(_yaml(theirs / "conda.yaml"))


def test_stored_directory_has_no_versions(tmp_path: Path) -> None:
    """The files of an artifact name what the model needs without versions: its digest does not depend on them."""
    _save(Ridge().fit(X, Y), tmp_path)
    names = ("MLmodel", "requirements.txt", "python_env.yaml", "conda.yaml")
    assert not re.search(r"\d\.\d|_version", "".join((tmp_path / name).read_text() for name in names))
    assert (tmp_path / "requirements.txt").read_text().split() == [
        *("airflow-provider-zen", "mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops")
    ]
    with zipfile.ZipFile(tmp_path / "model.skops") as file:
        assert b"_sklearn_version" not in file.read("model.json")


def test_estimator_of_another_release_is_read_with_a_warning(tmp_path: Path) -> None:
    """scikit-learn's own warning about an estimator of another release names that release, which only the manifest has."""
    root, registry = str(tmp_path / "root"), default_registry()
    store = ArtifactStore(root, open_transport(root, {}))
    with store.upload_directory() as directory:
        saved = registry.save(StandardScaler().fit(X), directory)
        facts = {"encoding": saved.encoding, "type_name": saved.type, "libraries": saved.libraries}
        ref = store.put(directory, **facts, summary=saved.summary)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.load(ArtifactReader(store, ref, tmp_path / "same"), ref.encoding)
    manifest = Path(ref.uri, "manifest.json")
    older = json.loads(manifest.read_bytes())
    older["libraries"]["scikit-learn"] = "1.4.2"
    manifest.unlink()
    manifest.write_text(json.dumps(older))
    with pytest.warns(InconsistentVersionWarning, match=r"StandardScaler from version 1\.4\.2"):
        registry.load(ArtifactReader(store, ref, tmp_path / "other"), ref.encoding)


def test_requirements_are_pinned_to_what_is_installed(tmp_path: Path) -> None:
    """requirements.txt names what loading and predicting need, each at the version that wrote the model."""
    save_registered(Ridge().fit(X, Y), tmp_path)
    lines = (tmp_path / "requirements.txt").read_text().splitlines()
    assert lines == sorted(lines)
    assert {"scikit-learn", "skops", "numpy", "mlflow"} <= {line.split("==")[0] for line in lines}
    assert all("==" in line for line in lines)
    assert _yaml(tmp_path / "conda.yaml")["dependencies"][-1] == {"pip": lines}


def test_losses_of_earlier_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of scikit-learn up to 1.7, which names a module `_loss`, is stored by the name under which it is found."""
    losses = pytest.importorskip("sklearn._loss._loss", reason="scikit-learn has no such module: install 1.1 or later")
    loss = type("CyOfRelease17", (), {"__module__": "_loss"})
    with pytest.raises(SaveRefused, match=r"_loss\.CyOfRelease17"):
        class_name(loss)
    monkeypatch.setattr(losses, "CyOfRelease17", loss, raising=False)
    assert class_name(loss) == "sklearn._loss._loss:CyOfRelease17"
    assert load_class(class_name(loss)) is loss


def test_transformer_has_no_pyfunc_flavor(tmp_path: Path) -> None:
    """An estimator without `predict` has the flavor mlflow.sklearn only, as in mlflow."""
    _save(StandardScaler().fit(X), tmp_path)
    assert set(_yaml(tmp_path / "MLmodel")["flavors"]) == {"sklearn"}


def test_model_file_has_no_addresses_or_times(tmp_path: Path) -> None:
    """Members of model.skops are dated 1980, and their text has no long numbers: arrays are files, objects are counted."""
    _save(make_pipeline(StandardScaler(), Ridge()).fit(X, Y), tmp_path)
    with zipfile.ZipFile(tmp_path / "model.skops") as file:
        assert all(member.date_time == (1980, 1, 1, 0, 0, 0) for member in file.infolist())
        text = file.read("model.json").decode()
    assert all(int(number) < 100 for number in re.findall(r'"number":(\d+)', text))


def test_nodes_of_all_trees_are_one_file(tmp_path: Path) -> None:
    """Arrays of one dtype and row shape are one member, so a forest has as many files as one tree, read by NumPy."""
    forest = RandomForestClassifier(20, random_state=0).fit(RNG.normal(size=(400, 3)), RNG.integers(0, 2, 400))
    _save(forest, tmp_path)
    with np.load(tmp_path / "model.skops") as file:
        arrays = [file[name] for name in file.files if name.endswith(("0", "1", "2", "3"))]
    nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
    assert [len(array) for array in arrays if array.dtype.fields] == [nodes]
    assert len(arrays) <= 3


def test_shared_parts_stay_shared(tmp_path: Path) -> None:
    """An array that two attributes share is stored once and shared again after loading."""
    model = Ridge().fit(X, Y)
    model.again_ = model.coef_
    _save(model, tmp_path)
    loaded = default_registry().load(tmp_path, ENCODING)
    assert loaded.again_ is loaded.coef_


def _dump_with_skops(model: Any, directory: Path) -> None:
    # Its import takes seconds, of every worker if it is that of the file.
    import skops.io

    skops.io.dump(model, directory / "model.skops")


def test_untrusted_file_is_not_loaded(tmp_path: Path) -> None:
    """The types in a model are checked when it is loaded, whatever its MLmodel trusts."""
    _save(Ridge().fit(X, Y), tmp_path)
    _dump_with_skops(make_pipeline(Doubler(), Ridge()), tmp_path)
    with pytest.raises(ArtifactRefused, match="Doubler"):
        default_registry().load(tmp_path, ENCODING)


def test_refused_estimator_is_pickled_where_that_is_allowed(tmp_path: Path) -> None:
    """With allow_pickle an estimator with a lambda is pickled, and no file of the refused attempt is left."""
    registry, model = default_registry(allow_pickle=True), make_pipeline(FunctionTransformer(lambda x: x * 2), Ridge())
    saved = registry.save(model.fit(X, Y), tmp_path)
    assert saved.encoding == "cloudpickle@1"
    assert {path.name for path in tmp_path.iterdir()} == {"value.pkl", "python.json"}
    np.testing.assert_array_equal(registry.load(tmp_path, saved.encoding).predict(X), model.predict(X))


def test_model_on_categories_is_kept(tmp_path: Path) -> None:
    """Gradient boosting on a categorical column, which holds a partial of scikit-learn's own, needs no pickle."""
    frame = X.assign(d=pd.Categorical(["u", "v"] * 40))
    model = HistGradientBoostingRegressor(max_iter=3, random_state=0).fit(frame, Y)
    _save(model, tmp_path)
    np.testing.assert_array_equal(default_registry().load(tmp_path, ENCODING).predict(frame), model.predict(frame))
    np.testing.assert_array_equal(mlflow.sklearn.load_model(str(tmp_path)).predict(frame), model.predict(frame))


def test_partial_is_as_trusted_as_its_function(tmp_path: Path) -> None:
    """A partial of a function that reads files is refused, when it is saved and when it is loaded."""
    model = make_pipeline(FunctionTransformer(functools.partial(np.load, allow_pickle=True)))
    with pytest.raises(SaveRefused, match=r"numpy\.load"):
        default_registry().save(model, tmp_path)
    _dump_with_skops(model, tmp_path)
    with pytest.raises(ArtifactRefused, match=r"numpy\.load"):
        default_registry().load(tmp_path, ENCODING)


def test_numpy_function_in_a_pipeline_is_kept(tmp_path: Path) -> None:
    """A FunctionTransformer of a NumPy function needs no pickle."""
    model = make_pipeline(FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": 1}), Ridge()).fit(X, Y)
    _save(model, tmp_path)
    np.testing.assert_array_equal(default_registry().load(tmp_path, ENCODING).predict(X), model.predict(X))


@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval",
        "os.system",
        "subprocess.Popen",
        "numpy.save",
        "numpy.load",
        "numpy.fromfile",
        "numpy.memmap",
        "numpy.testing._private.utils.runstring",
        "numpy.f2py.run_main",
        "numpy.testing.assert_",
        "scipy.io._netcdf.netcdf_file",
        "scipy.stats._distn_infrastructure.rv_continuous",
        "scipy.stats._distn_infrastructure.rv_continuous_frozen",
        "scipy.sparse._matrix_io.load_npz",
        "sklearn.utils.validation.check_memory",
        "sklearn.utils.discovery.import_module",
        "sklearn.tree._export.export_graphviz",
        "sklearn.linear_model._logistic.LogisticRegression.fit",
        "sklearn.no_such_module.Thing",
        "sklearn.datasets._openml.fetch_openml",
        "sklearn.externals.anything",
        "sklearn_evil.Model",
        "numpyx.array",
        "scipy.stats.tests.test_x.Thing",
        "sklearn.tree.tests.test_tree.Thing",
        "operator.methodcaller",
    ],
)
def test_dangerous_name_is_not_trusted(name: str) -> None:
    """What runs code, or reads or writes files, is not trusted, whatever package it is from."""
    assert untrusted_names([name]) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "sklearn.tree._tree.Tree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.metrics._classification.accuracy_score",
        "numpy.clip",
        "numpy.dtype",
        "numpy.random._pcg64.PCG64",
        "scipy.sparse._csr.csr_matrix",
        "scipy.interpolate._bsplines.BSpline",
    ],
)
def test_part_of_a_model_is_trusted(name: str) -> None:
    """The parts of estimators are trusted."""
    assert untrusted_names([name]) == []


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())
