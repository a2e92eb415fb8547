"""Promises of the large libraries' materializers: what their own files do not keep is kept, or refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.mlflow_model import MLflowModel
from airflow_zen.materializers.registry import default_registry
from tests.materializers.ml_values import ROWS
from tests.materializers.views.loading import load, open_stack

pytestmark = pytest.mark.ml

REGISTRY = default_registry()


def made(name: str, directory: Path) -> Any:
    ROWS[name].skip_if_absent()
    return ROWS[name].make(directory)


def again(value: Any, directory: Path) -> Any:
    directory.mkdir(exist_ok=True)
    return REGISTRY.load(directory, REGISTRY.save(value, directory).encoding)


def test_a_dataset_without_rows_comes_back(tmp_path: Path) -> None:
    """Alone or as a split, with its features."""
    data = made("hugging face dataset", tmp_path)
    import datasets

    for at, empty in enumerate((data.select([]), datasets.Dataset.from_dict({"a": []}), data.filter(lambda _: False))):
        loaded = again(empty, tmp_path / str(at))
        assert (loaded.num_rows, loaded.features, loaded.split) == (0, empty.features, empty.split)
    splits = again(datasets.DatasetDict({"train": data, "test": data.select([])}), tmp_path / "splits")
    assert {name: held.num_rows for name, held in splits.items()} == {"train": 3, "test": 0}


def test_what_a_library_writes_beside_a_dataset_stays_out_of_the_store(tmp_path: Path) -> None:
    """`map` keeps its result beside the files that it read, alone or in a dict; those are not the store's."""
    data = made("hugging face dataset", tmp_path)
    root = tmp_path / "root"
    stack = open_stack(str(root), {})
    for ref, of in ((stack.save(data).ref, lambda v: v), (stack.save({"d": data, "n": 1}).ref, lambda v: v["d"])):
        before = sorted(root.rglob("*"))
        loaded = of(load(stack, ref, None))
        assert loaded.map(lambda row: {"n": row["n"] + 1})["n"] == [2, 3, 4]
        assert sorted(root.rglob("*")) == before
    assert load(stack, ref, None)["d"]["n"] == [1, 2, 3]


def test_an_mlflow_model_is_passed_on(tmp_path: Path) -> None:
    """A step that returns the model it got makes the same artifact, and sees nothing of the store."""
    theirs = tmp_path / "model"
    theirs.mkdir()
    (theirs / "MLmodel").write_text("flavors: {}\n")
    stack = open_stack(str(tmp_path / "root"), {})
    ref = stack.save(MLflowModel(theirs)).ref
    within = stack.save({"model": MLflowModel(theirs)}).ref
    for loaded in (load(stack, ref, MLflowModel), load(stack, within, None)["model"]):
        assert [path.name for path in loaded.path.iterdir()] == ["MLmodel"]
        assert not loaded.path.is_relative_to(tmp_path / "root")
        assert stack.save(loaded).ref.digest == ref.digest


def test_attributes_of_tensors_are_refused(tmp_path: Path) -> None:
    """A parameter that somebody marked would come back unmarked."""
    module = made("trained module", tmp_path)
    module[0].weight.no_decay = True
    with pytest.raises(SaveRefused, match=r"attributes of its own \(no_decay\)"):
        REGISTRY.save(module, tmp_path)


def test_a_half_model_computes_what_it_computed(tmp_path: Path) -> None:
    """Buffers that are no weights, and were converted with the model, are kept as they were."""
    made("bert", tmp_path)
    import torch
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=30, hidden_size=16, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
    loaded = again(model, tmp_path / "model")
    tokens = torch.arange(30).repeat(1, 3)
    assert torch.equal(model(tokens).logits, loaded(tokens).logits)
    kept = {name: held.dtype for name, held in model.named_buffers()}
    assert {name: held.dtype for name, held in loaded.named_buffers()} == kept


def test_what_a_configuration_does_not_tell_is_refused(tmp_path: Path) -> None:
    """A layer that was exchanged, a rate that was set and a hook would be lost."""
    made("bert", tmp_path)
    import torch

    changes = {
        "exchanged": lambda m: setattr(m.encoder.layer[0].intermediate, "intermediate_act_fn", torch.nn.ReLU()),
        "rate": lambda m: setattr(m.embeddings.dropout, "p", 0.9),
        "hook": lambda m: m.pooler.register_forward_hook(lambda *_: None),
    }
    for name, change in changes.items():
        model = made("bert", tmp_path)
        change(model)
        (tmp_path / name).mkdir()
        with pytest.raises(SaveRefused, match=r"which comes back as|has hooks, in pooler"):
            REGISTRY.save(model, tmp_path / name)


def test_attention_and_sides_come_back(tmp_path: Path) -> None:
    """What a model and a tokenizer were set to after they were made."""
    model, tokenizer = made("bert", tmp_path), made("tokenizer", tmp_path)
    model.set_attn_implementation("eager")
    assert again(model, tmp_path / "model").config._attn_implementation == "eager"
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    loaded = again(tokenizer, tmp_path / "tokenizer")
    assert (loaded.padding_side, loaded.truncation_side) == ("left", "left")
    assert loaded(["a", "a cat"], padding=True).input_ids == tokenizer(["a", "a cat"], padding=True).input_ids


def test_frozen_parts_of_a_keras_model_stay_frozen(tmp_path: Path) -> None:
    """The model as a whole, and each layer, learn or not as they did."""
    model = made("functional keras model", tmp_path)
    model.layers[-1].trainable = False
    assert again(model, tmp_path / "layer").trainable_weights == []
    model = made("trained keras model", tmp_path)
    import keras

    model = keras.models.clone_model(model)
    model.trainable = False
    loaded = again(model, tmp_path / "whole")
    assert [layer.trainable for layer in loaded._flatten_layers()] == [
        layer.trainable for layer in model._flatten_layers()
    ]
    assert not loaded.trainable


def test_facts_of_own_keras_layers_are_kept_or_refused(tmp_path: Path) -> None:
    """A layer that does not tell what it was made with is refused by the name of that."""
    made("trained keras model", tmp_path)
    import keras

    @keras.saving.register_keras_serializable("zen_exact")
    class Scaled(keras.layers.Layer):
        def __init__(self, scale: float = 1.0, **options: Any) -> None:
            super().__init__(**options)
            self.scale = scale

        def call(self, x: Any) -> Any:
            return x * self.scale

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), **({"scale": self.scale} if self.tells else {})}

        tells = True

    for tells in (True, False):
        Scaled.tells = tells
        model = keras.Sequential([keras.Input((3,)), Scaled(5.0, name="times"), keras.layers.Dense(1)])
        (tmp_path / str(tells)).mkdir()
        if tells:
            loaded = again(model, tmp_path / str(tells))
            x = np.ones((2, 3), "f4")
            np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
        else:
            with pytest.raises(SaveRefused, match=r"times\.scale.*get_config"):
                REGISTRY.save(model, tmp_path / str(tells))


def test_a_keras_model_that_was_stopped_early_is_kept(tmp_path: Path) -> None:
    """What Keras notes of a training on a class of one's own is no setting that must come back."""
    made("trained keras model", tmp_path)
    import keras

    @keras.saving.register_keras_serializable("zen_exact")
    class Own(keras.Model):
        def __init__(self, width: int = 2, **options: Any) -> None:
            super().__init__(**options)
            self.width = width
            self.inner = keras.layers.Dense(width)

        def call(self, x: Any) -> Any:
            return self.inner(x)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "width": self.width}

    model, x = Own(3), np.ones((4, 3), "f4")
    model.compile("adam", "mse")
    stop = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=0)
    model.fit(x, x, epochs=3, verbose=0, callbacks=[stop])
    assert model.stop_training
    loaded = again(model, tmp_path / "own")
    assert loaded.width == 3
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


_KERAS = """
import sys
from pathlib import Path
import keras
from airflow_zen.materializers.registry import default_registry
keep = [object() for _ in range(int(sys.argv[2]))]
keras.utils.set_random_seed(1)
layers = [keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)]
default_registry().save(keras.Sequential(layers, name="m"), Path(sys.argv[1]))
"""


def test_a_keras_model_is_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Where its objects lay in memory is not among them."""
    made("trained keras model", tmp_path)
    files = []
    for count in ("1", "100000"):
        (tmp_path / count).mkdir()
        subprocess.run([sys.executable, "-c", _KERAS, str(tmp_path / count), count], check=True, capture_output=True)
        files.append((tmp_path / count / "data" / "model.keras").read_bytes())
    with ZipFile(tmp_path / "1" / "data" / "model.keras") as file:
        text = file.read("config.json").decode()
    assert json.loads(text)
    assert files[0] == files[1]
