"""What the files of Keras and Hugging Face lose of a model is kept beside them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_zen.errors import SaveRefused
from airflow_zen.materializers.registry import default_registry
from tests.materializers.ml_values import ROWS
from tests.materializers.views.loading import open_stack

pytestmark = pytest.mark.ml

REGISTRY = default_registry()
X, Y = np.linspace(-2, 2, 24, dtype="f4").reshape(8, 3), np.ones((8, 1), "f4")


def round_trip(value: Any, directory: Path) -> Any:
    directory.mkdir(exist_ok=True)
    return REGISTRY.load(directory, REGISTRY.save(value, directory).encoding)


def keras_model(*inner: Any, **compiled: Any) -> Any:
    keras = pytest.importorskip("keras", reason="keras is not installed: make test-ml")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), *inner, keras.layers.Dense(1)], name="small")
    model.compile(**{"optimizer": "adam", "loss": "mse", **compiled})
    model.fit(X, Y, epochs=1, verbose=0)
    return model


LOSSES: dict[str, Callable[[Any], Any]] = {
    "huber": lambda keras: keras.losses.Huber(0.3),
    "huber in a list": lambda keras: [keras.losses.Huber(0.3)],
    "cosine": lambda keras: keras.losses.CosineSimilarity(axis=0),
    "crossentropy": lambda keras: keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
    "tversky": lambda keras: keras.losses.Tversky(alpha=0.3, beta=0.6),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_keeps_its_arguments(name: str, tmp_path: Path) -> None:
    """A loaded model computes the same loss, also where Keras forgets an argument of it."""
    keras = pytest.importorskip("keras", reason="keras is not installed: make test-ml")
    model = keras_model(loss=LOSSES[name](keras))
    loaded = round_trip(model, tmp_path / "model")
    assert loaded.evaluate(X, 5 * Y, verbose=0) == model.evaluate(X, 5 * Y, verbose=0)


def test_metrics_keep_their_arguments(tmp_path: Path) -> None:
    """A loaded model computes the same metrics."""
    keras = pytest.importorskip("keras", reason="keras is not installed: make test-ml")
    wrapped = keras.metrics.MeanMetricWrapper(keras.losses.huber, name="wrapped", delta=0.2)
    metrics = [keras.metrics.BinaryAccuracy(threshold=0.3), keras.metrics.AUC(num_thresholds=7), wrapped]
    model = keras_model(metrics=metrics, weighted_metrics=[keras.metrics.CosineSimilarity(axis=0)])
    loaded = round_trip(model, tmp_path / "model")
    assert loaded.evaluate(X, Y, verbose=0, return_dict=True) == model.evaluate(X, Y, verbose=0, return_dict=True)


def test_loss_whose_dtype_is_lost_is_refused(tmp_path: Path) -> None:
    """An argument that cannot be restored is named, with its loss."""
    keras = pytest.importorskip("keras", reason="keras is not installed: make test-ml")
    model = keras_model(loss=keras.losses.Huber(0.3, name="robust", dtype="float64"))
    with pytest.raises(SaveRefused, match=r"robust\.dtype.*save_weights"):
        round_trip(model, tmp_path / "model")


def test_loss_scale_and_its_steps_come_back(tmp_path: Path) -> None:
    """Under mixed precision the optimizer still scales the loss, by what it had reached; the process's policy stays."""
    keras = pytest.importorskip("keras", reason="keras is not installed: make test-ml")
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = keras_model(keras.layers.Dropout(0.5, seed=1))
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    loaded = round_trip(model, tmp_path / "model")
    assert type(loaded.optimizer) is keras.optimizers.LossScaleOptimizer
    own, theirs = (each.optimizer.variables for each in (model, loaded))
    assert any("dynamic_scale" in variable.path for variable in own)
    for one, other in zip(own, theirs, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert keras.config.dtype_policy().name == "float32"


def test_random_numbers_of_a_layer_go_on(tmp_path: Path) -> None:
    """A layer that draws random numbers goes on where the trained one was."""
    keras = pytest.importorskip("keras", reason="keras is not installed: make test-ml")
    layers = [keras.layers.Dropout(0.5, seed=1), keras.layers.GaussianNoise(0.1)]
    model = keras_model(*layers)
    loaded = round_trip(model, tmp_path / "model")
    for _ in range(2):
        np.testing.assert_array_equal(loaded(X, training=True).numpy(), model(X, training=True).numpy())


def _freeze(model: Any) -> None:
    model.layers[0].trainable = False


def _freeze_and_train(model: Any) -> None:
    _freeze(model)
    model.fit(X, Y, verbose=0)


def _freeze_bias(model: Any) -> None:
    model.layers[0].bias.trainable = False


def _freeze_bias_and_compile(model: Any) -> None:
    _freeze_bias(model)
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)


def _unfreeze(model: Any) -> None:
    _freeze(model)
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    model.layers[0].trainable, model.layers[1].trainable = True, False


def _exclude_from_decay(model: Any) -> None:
    import keras

    optimizer = keras.optimizers.AdamW(weight_decay=0.3)
    optimizer.exclude_from_weight_decay([model.layers[0].bias], ["kernel"])
    model.compile(optimizer, "mse")
    model.fit(X, Y, verbose=0)


FREEZE: list[Callable[[Any], None]] = [
    _freeze,
    _freeze_and_train,
    _freeze_bias,
    _freeze_bias_and_compile,
    _unfreeze,
    _exclude_from_decay,
]


@pytest.mark.parametrize("change", FREEZE, ids=lambda change: change.__name__[1:])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_training_goes_on_after_a_change_of_what_is_trained(
    change: Callable[[Any], None], policy: str, tmp_path: Path
) -> None:
    """The optimizer of a model that was frozen after it was compiled is the same, and so are the next steps of both."""
    keras = pytest.importorskip("keras", reason="keras is not installed: make test-ml")
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        model = keras_model(keras.layers.Dense(4))
        change(model)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    loaded = round_trip(round_trip(model, tmp_path / "first"), tmp_path / "second")
    assert [weight.trainable for weight in loaded.weights] == [weight.trainable for weight in model.weights]
    for each in (model, loaded):
        if change is _unfreeze:
            # Keras' optimizers refuse variables that they were not built for.
            each.layers[0].trainable, each.layers[1].trainable = False, True
        each.make_train_function(force=True)
        each.fit(X, Y, verbose=0, shuffle=False, epochs=2)
    own, others = (each.weights + each.optimizer.variables for each in (model, loaded))
    for one, other in zip(own, others, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_stateful_layer_goes_on(tmp_path: Path) -> None:
    """A recurrent layer that keeps its state between batches goes on where it was."""
    keras = pytest.importorskip("keras", reason="keras is not installed: make test-ml")
    model = keras.Sequential([keras.Input(batch_shape=(8, 1, 3)), keras.layers.GRU(2, stateful=True)])
    model.predict(X.reshape(8, 1, 3), verbose=0)
    loaded = round_trip(model, tmp_path / "model")
    assert np.any(loaded.layers[0].states[0].numpy())
    first, second = (each.predict(X.reshape(8, 1, 3), verbose=0) for each in (model, loaded))
    np.testing.assert_array_equal(first, second)


def test_attributes_of_a_keras_model_come_back(tmp_path: Path) -> None:
    """What was set on a model or a layer comes back with its type; what is no plain value is refused by its name."""
    pytest.importorskip("keras", reason="keras is not installed: make test-ml")
    model = keras_model()
    model.threshold, model.classes, model.size, model.scale = 0.3, ["no", "yes"], (1, 2), {"mean": [0.5]}
    model.layers[0].mean = np.arange(3, dtype="f4")
    loaded = round_trip(model, tmp_path / "model")
    assert (loaded.threshold, loaded.classes, loaded.size, loaded.scale) == (
        0.3,
        ["no", "yes"],
        (1, 2),
        {"mean": [0.5]},
    )
    np.testing.assert_array_equal(loaded.layers[0].mean, model.layers[0].mean, strict=True)
    model.encoder = object()
    with pytest.raises(SaveRefused, match=r"attribute small\.encoder, of type builtins\.object.*another output"):
        round_trip(model, tmp_path / "refused")


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Return the attributes in which two configurations, and those inside, differ."""
    found, one, other = [], vars(one), vars(other)
    for name in one.keys() | other.keys():
        left, right = one.get(name, "absent"), other.get(name, "absent")
        if hasattr(left, "to_dict") and hasattr(right, "to_dict"):
            found += _differences(left, right, f"{path}.{name}")
        elif (type(left), repr(left)) != (type(right), repr(right)):
            found.append(f"{path}.{name}: {left!r} is {right!r}")
    return found


_TEXT = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
_IMAGE = {**{key: _TEXT[key] for key in _TEXT if key != "vocab_size"}, "image_size": 8, "patch_size": 4}


def _clip(transformers: Any) -> Any:
    text = {**_TEXT, "bos_token_id": 1, "eos_token_id": 2}
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=_IMAGE, projection_dim=4))
    model.config.text_config.note = {"seen": (1, 2)}
    model.config.vision_config.id2label = {0: "no", 1: "yes"}
    return model


def _pair(transformers: Any) -> Any:
    encoder, decoder = transformers.BertConfig(**_TEXT), transformers.BertConfig(**_TEXT, is_decoder=True)
    decoder.add_cross_attention = True
    return transformers.EncoderDecoderModel(
        transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    )


def _llava(transformers: Any) -> Any:
    parts = {"vision_config": transformers.CLIPVisionConfig(**_IMAGE), "text_config": transformers.LlamaConfig(**_TEXT)}
    return transformers.LlavaForConditionalGeneration(transformers.LlavaConfig(**parts, image_token_index=3))


def _eager_text(transformers: Any) -> Any:
    model = _clip(transformers)
    model.set_attn_implementation({"text_config": "eager"})
    return model


def _llama(transformers: Any) -> Any:
    scaling = {"rope_type": "linear", "factor": 2.0}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**_TEXT, rope_scaling=scaling))
    model.generation_config.max_new_tokens = 7
    model.config._name_or_path = "organization/name"
    return model


def _t5(transformers: Any) -> Any:
    sizes = {"vocab_size": 30, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    return transformers.T5Model(transformers.T5Config(**sizes))


@pytest.mark.parametrize("make", [_clip, _pair, _llava, _eager_text, _llama, _t5], ids=lambda make: make.__name__[1:])
def test_configurations_of_all_parts_come_back(make: Callable[[Any], Any], tmp_path: Path) -> None:
    """Each attribute of a configuration, and of those inside it and of the model's parts, is what it was."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: make test-ml")
    model = make(transformers)
    before = copy.deepcopy(model.config)
    loaded = round_trip(model, tmp_path / "model")
    assert _differences(before, model.config) == []
    assert _differences(before, loaded.config) == []
    for name, part in model.named_modules():
        if "config" in vars(part):
            assert _differences(part.config, loaded.get_submodule(name).config, name) == []
    if hasattr(model, "generation_config"):
        assert vars(loaded.generation_config) == vars(model.generation_config)


def test_changed_model_is_kept_inside_a_module(tmp_path: Path) -> None:
    """A model with a layer of its own, refused alone, comes back in a module around it, as the refusal says."""
    pytest.importorskip("transformers", reason="transformers is not installed: make test-ml")
    model = ROWS["bert"].make(tmp_path)
    import torch

    model.pooler.half()
    model.embeddings.dropout.p = 0.9
    model.encoder.layer[0].intermediate.intermediate_act_fn = torch.nn.ReLU()
    with pytest.raises(SaveRefused, match=r"self\.body = model"):
        round_trip(model, tmp_path / "alone")
    around = torch.nn.Module()
    around.body = model
    loaded = round_trip(around, tmp_path / "around")
    assert repr(loaded) == repr(around)
    assert loaded.body.pooler.dense.weight.dtype == torch.float16


def test_weights_of_a_keras_model_are_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that the refusal of a Keras model names is stored, and read into the model built again."""
    keras = pytest.importorskip("keras", reason="keras is not installed: make test-ml")
    monkeypatch.chdir(tmp_path)

    def build() -> Any:
        return keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(1)])

    model = build()
    with pytest.raises(SaveRefused, match=r"model\.save_weights\('model\.weights\.h5'\)"):
        round_trip(model, tmp_path / "refused")
    model.save_weights("model.weights.h5")
    loaded = build()
    loaded.load_weights(round_trip(Path("model.weights.h5"), tmp_path / "file"))
    np.testing.assert_array_equal(loaded(X).numpy(), model(X).numpy())


def test_folder_of_a_transformer_is_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that the refusal of a Hugging Face model names is stored, and read by from_pretrained()."""
    pytest.importorskip("transformers", reason="transformers is not installed: make test-ml")
    model = ROWS["bert"].make(tmp_path)
    monkeypatch.chdir(tmp_path)
    handle = model.pooler.register_forward_hook(lambda *_: None)
    with pytest.raises(SaveRefused, match=r"model\.save_pretrained\('model'\)"):
        round_trip(model, tmp_path / "refused")
    handle.remove()
    model.save_pretrained("model")
    assert type(model).from_pretrained(round_trip(Path("model"), tmp_path / "file")).config.vocab_size == 30


def test_folder_of_a_dataset_is_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that the refusal of a ragged dataset names is stored, and read by tf.data."""
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed: make test-ml")
    monkeypatch.chdir(tmp_path)
    dataset = tf.data.Dataset.from_tensor_slices(tf.ragged.constant([[1], [2, 3]]))
    with pytest.raises(SaveRefused, match=r"dataset\.save\('elements'\)"):
        round_trip(dataset, tmp_path / "refused")
    dataset.save("elements")
    loaded = tf.data.Dataset.load(str(round_trip(Path("elements"), tmp_path / "files")))
    assert [element.numpy().tolist() for element in loaded] == [[1], [2, 3]]


@pytest.mark.parametrize(
    "name", ["tf dataset", "batched tf dataset", "tf dataset from a generator", "empty tf dataset"]
)
def test_dataset_of_tensorflow_has_a_preview(name: str, tmp_path: Path) -> None:
    """The first stored elements are shown, each tensor in a column named by its place."""
    ROWS[name].skip_if_absent()
    stack, value = open_stack(str(tmp_path / "root"), {}), ROWS[name].make(tmp_path)
    saved = stack.save(value)
    assert stack.can_preview(value, saved)
    page = str(stack.preview(value, saved)["preview.html"])
    shown = {"tf dataset": "<td>z</td>", "batched tf dataset": "0.a: int64 (None,)", "empty tf dataset": "0 elements"}
    assert shown.get(name, "<td>[2, 3]</td>") in page
