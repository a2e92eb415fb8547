"""Promises of the materializers of the large libraries, besides the round trip."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from airflow_zen.errors import ArtifactCorrupt, ArtifactRefused, MaterializerNotFound, SaveRefused
from airflow_zen.materializers.registry import default_registry
from tests.materializers.ml_values import ROWS
from tests.materializers.path_values import X
from tests.materializers.registered_model import flavors_of, save_registered

pytestmark = pytest.mark.ml

REGISTRY = default_registry()


def _make(name: str, directory: Path) -> Any:
    ROWS[name].skip_if_absent()
    return ROWS[name].make(directory)


@pytest.mark.parametrize(
    "name", ["catboost regressor", "catboost classifier", "catboost booster", "trained keras model"]
)
def test_mlflow_predicts_what_the_original_predicts(name: str, tmp_path: Path) -> None:
    """mlflow.pyfunc loads the directory unchanged and predicts the same."""
    model = _make(name, tmp_path)
    assert REGISTRY.save(model, tmp_path).encoding.endswith(".mlflow@2")
    predicted = mlflow.pyfunc.load_model(str(tmp_path)).predict(X.to_numpy())
    np.testing.assert_array_equal(predicted, model.predict(X.to_numpy()))


def test_mlflow_runs_an_onnx_model(tmp_path: Path) -> None:
    """mlflow.pyfunc runs the model with onnxruntime, and mlflow.onnx reads it."""
    model = _make("onnx model", tmp_path)
    REGISTRY.save(model, tmp_path)
    x = X.to_numpy(dtype="f4")
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(str(tmp_path)).predict(x)["y"], np.maximum(x, 0))
    assert mlflow.onnx.load_model(str(tmp_path)) == model


@pytest.mark.parametrize(
    ("name", "flavor"),
    [("catboost regressor", "catboost"), ("onnx model", "onnx"), ("trained keras model", "keras")],
)
def test_directory_has_the_layout_of_mlflow(name: str, flavor: str, tmp_path: Path) -> None:
    """The flavors are those of mlflow's own save_model."""
    model = _make(name, tmp_path)
    ours = save_registered(model, tmp_path)
    getattr(mlflow, flavor).save_model(model, str(tmp_path / "theirs"), pip_requirements=["mlflow"])
    assert ours == flavors_of(tmp_path / "theirs")


def test_hugging_face_reads_its_own_folders(tmp_path: Path) -> None:
    """`from_pretrained` and `load_from_disk` read the folders of an artifact as they are."""
    model, data = _make("bert", tmp_path), _make("hugging face dataset", tmp_path)
    import datasets
    import transformers

    for value, name in ((model, "model"), (data, "data")):
        (tmp_path / name).mkdir()
        REGISTRY.save(value, tmp_path / name)
    loaded = transformers.AutoModel.from_pretrained(tmp_path / "model" / "pretrained")
    assert type(loaded) is type(model)
    assert datasets.load_from_disk(str(tmp_path / "data" / "dataset")).to_list() == data.to_list()


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    """A folder whose weights are a pickle is refused: only safetensors are read."""
    model = _make("bert", tmp_path)
    import torch

    encoding = REGISTRY.save(model, tmp_path).encoding
    (tmp_path / "pretrained/model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pretrained/pytorch_model.bin")
    with pytest.raises(ArtifactCorrupt, match="safetensors"):
        REGISTRY.load(tmp_path, encoding)


def test_equal_datasets_have_equal_bytes(tmp_path: Path) -> None:
    """Two datasets of the same rows are one artifact, also where the library's own fingerprints differ."""
    for name in ("one", "two"):
        data = _make("hugging face dataset", tmp_path)
        data._fingerprint = name
        (tmp_path / name).mkdir()
        REGISTRY.save(data, tmp_path / name)
    assert (tmp_path / "one/dataset/state.json").read_bytes() == (tmp_path / "two/dataset/state.json").read_bytes()


def test_loaded_module_computes_the_same(tmp_path: Path) -> None:
    """A loaded module returns what the original returns, and can be trained further."""
    module = _make("trained module", tmp_path)
    import torch

    REGISTRY.save(module, tmp_path)
    loaded = REGISTRY.load(tmp_path, "torch.module@1")
    x = torch.tensor(X.to_numpy(dtype="f4"))
    assert torch.equal(loaded(x), module(x))
    loaded.train()(x).sum().backward()
    assert loaded[0].weight.grad is not None


def test_state_dict_is_one_safetensors_file(tmp_path: Path) -> None:
    """A state dict inside a checkpoint is one safetensors file with the tensors' own names."""
    checkpoint = _make("checkpoint", tmp_path)
    from safetensors.torch import load_file

    saved = REGISTRY.save(checkpoint, tmp_path)
    assert saved.encoding == "python.json@1"
    assert [part["encoding"] for part in saved.summary["parts"]] == ["torch.state@1"]
    assert load_file(tmp_path / "parts/0/tensors.safetensors").keys() == checkpoint["model"].keys()


def test_module_of_an_unknown_class_is_not_built(tmp_path: Path) -> None:
    """An artifact cannot name just any class as a module."""
    REGISTRY.save(_make("linear module", tmp_path), tmp_path)
    held = json.loads((tmp_path / "module.json").read_text())
    held["modules"][0]["class"] = "subprocess:Popen"
    (tmp_path / "module.json").write_text(json.dumps(held))
    with pytest.raises(ArtifactRefused, match=r"not a torch\.nn\.Module"):
        REGISTRY.load(tmp_path, "torch.module@1")


@pytest.mark.parametrize(
    "name", ["torch.load", "os.system", "torch.nn.functional.os", "torch.nn.functional.torch.load"]
)
def test_function_of_a_module_only_computes(name: str, tmp_path: Path) -> None:
    """An artifact cannot name just any function."""
    REGISTRY.save(_make("own module with tied weights", tmp_path), tmp_path)
    text = (tmp_path / "module.json").read_text()
    assert '"torch.tanh"' in text
    (tmp_path / "module.json").write_text(text.replace("torch.tanh", name))
    with pytest.raises(ArtifactRefused, match="none of them"):
        REGISTRY.load(tmp_path, "torch.module@1")


def _module_with_hook(torch: Any) -> Any:
    module = torch.nn.Linear(1, 1)
    module.register_forward_hook(lambda *_: None)
    return module


def _local_module(torch: Any) -> Any:
    return type("Local", (torch.nn.Linear,), {})(1, 1)


def _infinite_dataset(_: Any) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(3).repeat()


def _ragged_dataset(_: Any) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(tf.ragged.constant([[1], [2, 3]]))


def _mixed_dtypes(torch: Any) -> Any:
    model = ROWS["bert"].make(Path())
    model.pooler.half()
    return model


def _lambda_layer(_: Any) -> Any:
    import keras

    return keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)])


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "tensor of a computation": (lambda torch: torch.ones(1, requires_grad=True) * 2, "detach"),
    "sparse tensor": (lambda torch: torch.eye(2).to_sparse(), "to_dense"),
    "module with a hook": (_module_with_hook, "function"),
    "local module": (_local_module, "cannot be found again"),
    "scripted module": (lambda torch: torch.jit.script(torch.nn.Linear(1, 1)), "ScriptModule"),
    "optimizer": (lambda torch: torch.optim.SGD([torch.ones(1, requires_grad=True)]), "state_dict"),
    "infinite tf dataset": (_infinite_dataset, "take"),
    "ragged tf dataset": (_ragged_dataset, "dense tensors"),
    "hugging face model of two dtypes": (_mixed_dtypes, "float16"),
    "keras lambda": (_lambda_layer, "Keras does not keep"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_value_is_refused_with_a_reason(make: Callable[[Any], Any], reason: str, tmp_path: Path) -> None:
    """A value that would come back changed is not saved, and the error names the reason."""
    torch = pytest.importorskip("torch", reason="torch is not installed: make test-ml")
    pytest.importorskip("tensorflow", reason="tensorflow is not installed: make test-ml")
    with pytest.raises((SaveRefused, MaterializerNotFound)) as refusal:
        REGISTRY.save(make(torch), tmp_path)
    assert reason in str(refusal.value)
