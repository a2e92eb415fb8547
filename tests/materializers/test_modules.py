"""Modules as they are written in practice come back, or are refused with the place and a way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_zen.errors import ArtifactRefused, MaterializerNotFound, SaveRefused
from airflow_zen.materializers.registry import default_registry
from tests.materializers.ml_values import ROWS

torch = pytest.importorskip("torch", reason="torch is not installed: make test-ml")

pytestmark = pytest.mark.ml

REGISTRY = default_registry()
TOKENS = torch.arange(6).reshape(1, 6)


def round_trip(value: Any, directory: Path) -> Any:
    directory.mkdir(exist_ok=True)
    return REGISTRY.load(directory, REGISTRY.save(value, directory).encoding)


def transformers_body(name: str) -> Any:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: make test-ml")
    torch.manual_seed(0)
    small = {
        "vocab_size": 30,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    options = {
        "Bert": {**small, "max_position_embeddings": 16},
        "Llama": small,
        "GPT2": {"vocab_size": 30, "n_embd": 8, "n_layer": 1, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2},
        "T5": {"vocab_size": 30, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2},
        "ViT": {**{key: small[key] for key in small if key != "vocab_size"}, "image_size": 8, "patch_size": 4},
    }
    return transformers.AutoModel.from_config(getattr(transformers, f"{name}Config")(**options[name]))


INPUTS = {
    "Bert": {"input_ids": TOKENS},
    "Llama": {"input_ids": TOKENS},
    "GPT2": {"input_ids": TOKENS},
    "T5": {"input_ids": TOKENS, "decoder_input_ids": TOKENS},
    "ViT": {"pixel_values": torch.ones(1, 3, 8, 8)},
}


@pytest.mark.parametrize("name", INPUTS)
def test_head_on_a_pretrained_model_computes_the_same(name: str, tmp_path: Path) -> None:
    """A module of one's own around a Hugging Face model comes back with the model's configuration."""
    from tests.materializers.torch_modules import Around

    model = Around(transformers_body(name)).eval()
    model.body.config.note = {"seen": (1, 2)}
    loaded = round_trip(model, tmp_path / "model")
    assert torch.equal(loaded(**INPUTS[name]), model(**INPUTS[name]))
    assert vars(loaded.body.config) == vars(model.body.config)
    assert not loaded.training


def test_folder_that_a_model_was_read_from_is_not_kept(tmp_path: Path) -> None:
    """A model that was read from two folders is one artifact, around it a module of one's own or not."""
    from tests.materializers.torch_modules import Around

    body, files = transformers_body("Bert"), []
    head = Around(body).head
    for name in ("one", "two"):
        body.save_pretrained(tmp_path / name)
        read = type(body).from_pretrained(tmp_path / name)
        model = Around(read)
        model.head = head
        for kind, value in (("alone", read), ("around", model)):
            round_trip(value, tmp_path / name / kind)
        texts = [
            tmp_path / name / file for file in ("alone/configurations.json", "alone/class.json", "around/module.json")
        ]
        files.append([text.read_text() for text in texts])
    assert files[0] == files[1]


def test_attributes_of_a_module_come_back(tmp_path: Path) -> None:
    """Partials, classes, functions and objects of the module's own file, methods, paths, tables and generators are kept."""
    from tests.materializers import torch_modules as own

    model = own.Configured()
    loaded = round_trip(model, tmp_path / "model")
    x = torch.randn(2, 3)
    assert torch.equal(loaded(x), model(x))
    assert (loaded.norm_layer.func, loaded.norm_layer.keywords) == (torch.nn.LayerNorm, {"eps": 1e-6})
    for name in (
        "block",
        "optimizer_class",
        "own_block",
        "function",
        "checkpoints",
        "relative",
        "logger",
        "memory_format",
    ):
        assert getattr(loaded, name) == getattr(model, name)
    assert type(loaded.checkpoints) is type(model.checkpoints)
    assert loaded.method.__self__ is loaded
    assert torch.equal(torch.rand(2, generator=loaded.generator), torch.rand(2, generator=model.generator))
    assert loaded.settings is loaded.same_settings
    assert vars(loaded.settings) == vars(model.settings)
    assert loaded.table.equals(model.table)
    np.testing.assert_array_equal(loaded.weights, model.weights)
    assert (loaded.layers[0].weight.no_decay, loaded.layers[0].bias._group) == (True, "norms")


def test_tokenizer_of_a_module_comes_back(tmp_path: Path) -> None:
    """What has a materializer of its own is stored beside the module."""
    model = torch.nn.Module()
    model.tokenizer = ROWS["tokenizer"].make(tmp_path)
    assert round_trip(model, tmp_path / "model").tokenizer("a cat").input_ids == [2, 3]


def test_fitted_lightning_module_comes_back(tmp_path: Path) -> None:
    """Hyperparameters and metrics of a Lightning module are kept, and it can be trained further."""
    pytest.importorskip("lightning", reason="lightning is not installed: make test-ml")
    from tests.materializers.lightning_modules import fitted

    model = fitted()
    loaded = round_trip(model, tmp_path / "model")
    assert loaded.hparams == model.hparams
    assert type(loaded.hparams) is type(model.hparams)
    assert loaded.hparams.rate == 0.1
    assert torch.equal(loaded.net(torch.ones(1, 3)), model.net(torch.ones(1, 3)))
    loaded.training_step((torch.ones(2, 3), torch.ones(2, 1)), 0).backward()
    loaded.configure_optimizers().step()


@pytest.mark.parametrize(
    "options", [{}, {"modules_to_save": ["pooler"]}, {"use_dora": True}], ids=["lora", "saved", "dora"]
)
def test_adapters_of_a_model_come_back(options: dict[str, Any], tmp_path: Path) -> None:
    """A model of PEFT comes back with its adapters, its configuration, and the same weights frozen."""
    peft = pytest.importorskip("peft", reason="peft is not installed: make test-ml")
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False, **options)
    model = peft.get_peft_model(transformers_body("Bert"), config).eval()
    loaded = round_trip(model, tmp_path / "model")
    assert torch.equal(loaded(TOKENS).last_hidden_state, model(TOKENS).last_hidden_state)
    assert loaded.peft_config["default"].to_dict() == model.peft_config["default"].to_dict()
    assert [weight.requires_grad for weight in loaded.parameters()] == [
        weight.requires_grad for weight in model.parameters()
    ]
    assert torch.equal(loaded.merge_and_unload()(TOKENS)[0], model.merge_and_unload()(TOKENS)[0])


def test_sentence_transformer_comes_back(tmp_path: Path) -> None:
    """A model of sentence-transformers comes back with its tokenizer, and gives the same embeddings."""
    sentences = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed: make test-ml"
    )
    transformers_body("Bert").save_pretrained(tmp_path / "bert")
    ROWS["tokenizer"].make(tmp_path).save_pretrained(tmp_path / "bert")
    from sentence_transformers.models import Pooling, Transformer

    body = Transformer(str(tmp_path / "bert"))
    model = sentences.SentenceTransformer(modules=[body, Pooling(8)], device="cpu")
    loaded = round_trip(model, tmp_path / "model")
    np.testing.assert_array_equal(loaded.encode(["a cat"]), model.encode(["a cat"]))
    assert loaded.similarity_fn_name == model.similarity_fn_name


def _deep(attribute: Any) -> Any:
    from tests.materializers.torch_modules import Configured

    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ModuleDict({"encoder": Configured()}))
    model[1]["encoder"].layers[1].options = {"kept": [attribute]}
    return model


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "lambda": (lambda: _deep(lambda x: x), "The function tests.materializers.test_modules.<lambda>"),
    "function of another file": (lambda: _deep(json.dumps), "The function json.dumps in a module"),
    "class of another file": (lambda: _deep(json.JSONEncoder), "The class json.encoder.JSONEncoder in a module"),
    "object of another file": (lambda: _deep(json.JSONEncoder()), "No materializer saves json.encoder.JSONEncoder"),
    "tensor of a computation": (lambda: _deep(torch.ones(1, requires_grad=True) * 2), "detach"),
    "method of another object": (lambda: _deep(json.JSONEncoder().encode), "no method of a module's class"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refusal_says_where_in_the_module_it_was_met(make: Callable[[], Any], reason: str, tmp_path: Path) -> None:
    """The path of submodules, attributes, keys and positions to what is not stored is in the error."""
    with pytest.raises((SaveRefused, MaterializerNotFound)) as refusal:
        REGISTRY.save({"model": make()}, tmp_path)
    assert str(refusal.value).startswith("In ['model'].1.encoder.layers.1.options['kept'][0]: ")
    assert reason in str(refusal.value)


def _refused_module(name: str, directory: Path) -> Any:
    """Return what the refusal of a module that torch made says to return."""
    layer = torch.nn.Sequential(torch.nn.Linear(1, 1))
    made = {
        "ScriptModule": lambda: torch.jit.script(layer),
        "GraphModule": lambda: torch.fx.symbolic_trace(layer),
        "OptimizedModule": lambda: torch.compile(layer),
    }[name]()
    (directory / "refused").mkdir()
    with pytest.raises(SaveRefused) as refusal:
        REGISTRY.save(made, directory / "refused")
    if name == "ScriptModule":
        assert "torch.jit.save(module, 'module.pt')" in str(refusal.value)
        torch.jit.save(made, str(directory / "module.pt"))
        return directory / "module.pt"
    assert ("module._orig_mod" if name == "OptimizedModule" else "module.state_dict()") in str(refusal.value)
    return made._orig_mod if name == "OptimizedModule" else made.state_dict()


@pytest.mark.parametrize("name", ["ScriptModule", "GraphModule", "OptimizedModule"])
def test_module_that_torch_made_has_a_way_out(name: str, tmp_path: Path) -> None:
    """A scripted, traced or compiled module is refused, and what the error says to return is stored."""
    loaded = round_trip(_refused_module(name, tmp_path), tmp_path / "model")
    found = torch.jit.load(str(loaded)) if name == "ScriptModule" else loaded
    state = found if name == "GraphModule" else found.state_dict()
    assert list(state) == ["0.weight", "0.bias"]


@pytest.mark.parametrize(
    "name", ["os:system", "torch.hub:load", "json:dumps", "torch.fx.graph_module:_exec_with_source"]
)
def test_artifact_cannot_name_any_function(name: str, tmp_path: Path) -> None:
    """Only functions of the file that defines the module, and of torch, are looked up."""
    from tests.materializers.torch_modules import Configured

    REGISTRY.save(Configured(), tmp_path)
    text = (tmp_path / "module.json").read_text()
    assert "tests.materializers.torch_modules:double" in text
    (tmp_path / "module.json").write_text(text.replace("tests.materializers.torch_modules:double", name))
    with pytest.raises(ArtifactRefused, match="none of them"):
        REGISTRY.load(tmp_path, "torch.module@1")


def test_artifact_cannot_build_any_object(tmp_path: Path) -> None:
    """Only modules, configurations, and objects of the file that defines the module are built."""
    from tests.materializers.torch_modules import Configured

    REGISTRY.save(Configured(), tmp_path)
    held = json.loads((tmp_path / "module.json").read_text())
    for state in held["modules"]:
        state["class"] = state["class"].replace("tests.materializers.torch_modules:Settings", "subprocess:Popen")
    (tmp_path / "module.json").write_text(json.dumps(held))
    with pytest.raises(ArtifactRefused, match=r"not a torch\.nn\.Module or its configuration"):
        REGISTRY.load(tmp_path, "torch.module@1")
