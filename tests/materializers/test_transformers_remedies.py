"""What a refusal of a Hugging Face model tells a user to do, done: the model is then stored, and computes the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.materializers.ml_values import ROWS
from tests.materializers.remedies import Remedy, library

pytestmark = [
    pytest.mark.ml,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]


def _bert(change: Callable[[Any], Any] = lambda _: None) -> Any:
    library("transformers")
    model = ROWS["bert"].make(Path()).eval()
    return change(model) or model


def _noted(note: Any) -> Any:
    return _bert(lambda model: setattr(model.config, "note", note))


def _with_note(note: Any) -> Callable[[Any], Any]:
    return lambda model: setattr(model.config, "note", note) or model


def _hooked(model: Any) -> None:
    model.pooler.register_forward_hook(lambda *_: None)


def _unhooked(model: Any) -> Any:
    model.pooler._forward_hooks.clear()
    return model


def _around(model: Any) -> Any:
    import torch

    module = torch.nn.Module()
    module.body = model
    return module


def _state_file(model: Any) -> Path:
    import torch

    torch.save(model.state_dict(), "weights.pt")
    return Path("weights.pt")


def _values(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.arange(4)[None])[0]


def _alike(loaded: Any, refused: Any) -> bool:
    return bool((_values(loaded) == _values(refused)).all())


def _alike_inside(loaded: Any, refused: Any) -> bool:
    return _alike(loaded.body, refused)


def _quantized_bert() -> Any:
    import torch

    return torch.ao.quantization.quantize_dynamic(_bert(), {torch.nn.Linear}, dtype=torch.qint8)


def _reads_weights(path: Path, refused: Any) -> bool:
    import torch

    model = _quantized_bert()
    model.load_state_dict(torch.load(path, weights_only=False))
    return _alike(model, refused)


def _with_a_rate(model: Any) -> Any:
    from transformers import BertConfig, BertModel

    made = BertModel(BertConfig(**{**model.config.to_dict(), "hidden_dropout_prob": 0.9})).eval()
    made.load_state_dict(model.state_dict())
    return made


def _with_weights(model: Any) -> Any:
    made = type(model)(model.config).eval()
    made.load_state_dict(_bert().state_dict())
    return made


def _sparse(model: Any) -> None:
    import torch

    model.pooler.dense.weight = torch.nn.Parameter(model.pooler.dense.weight.detach().to_sparse())


def _dense(model: Any) -> Any:
    import torch

    model.pooler.dense.weight = torch.nn.Parameter(model.pooler.dense.weight.detach().to_dense())
    return model


def _warm(model: Any) -> None:
    model.generation_config.do_sample, model.generation_config.temperature = False, 0.5


_AROUND = "Or put it into a module of your own, `self.body = model`"
_WEIGHTS = "Or call torch.save(model.state_dict(), 'weights.pt') and return pathlib.Path('weights.pt')"


def _llama(change: Callable[[Any], None]) -> Any:
    transformers = library("transformers")
    sizes = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, intermediate_size=8)).eval()
    change(model)
    return model


def _with_extra_layer(model: Any) -> None:
    import torch

    model.extra = torch.nn.Linear(1, 1)


def _with_relu(model: Any) -> None:
    import torch

    model.encoder.layer[0].intermediate.intermediate_act_fn = torch.nn.ReLU()


def _headed() -> Any:
    library("transformers")
    from tests.materializers.transformers_models import Headed

    return Headed(_bert().config, outputs=3).eval()


def _sampling(model: Any) -> Any:
    model.generation_config.do_sample = True
    return model


REMEDIES: dict[str, Remedy] = {
    "two dtypes, converted": Remedy(
        lambda: _bert(lambda model: model.pooler.half() and None),
        "has weights of torch.float16, torch.float32. Convert it with .to(dtype)",
        lambda model: model.to(library("torch").float32),
        _alike,
    ),
    "two dtypes": Remedy(
        lambda: _bert(lambda model: model.pooler.double() and None),
        _AROUND,
        _around,
        lambda loaded, refused: loaded.body.pooler.dense.weight.dtype == refused.pooler.dense.weight.dtype,
    ),
    "hook": Remedy(
        lambda: _bert(_hooked), "has hooks, in pooler, which are functions. Remove them first", _unhooked, _alike
    ),
    "layer that the configuration does not know": Remedy(
        lambda: _bert(_with_extra_layer), _AROUND, _around, _alike_inside
    ),
    "class with an argument of its own": Remedy(
        _headed, f"__init__() missing 1 required positional argument: 'outputs'. {_AROUND}", _around, _alike_inside
    ),
    "replaced layer": Remedy(lambda: _bert(_with_relu), _AROUND, _around, _alike_inside),
    "changed rate": Remedy(
        lambda: _bert(lambda model: setattr(model.embeddings.dropout, "p", 0.9)),
        "Set it in the configuration and make the model from that",
        _with_a_rate,
        _alike,
    ),
    "array in the configuration, changed": Remedy(
        lambda: _noted(np.arange(2)), "ndarray is not JSON serializable\nChange that", _with_note([0, 1]), _alike
    ),
    "array in the configuration": Remedy(lambda: _noted(np.arange(2)), _AROUND, _around, _alike_inside),
    "path in the configuration": Remedy(lambda: _noted(Path("x")), _AROUND, _around, _alike_inside),
    "set in the configuration": Remedy(lambda: _noted({1, 2}), _AROUND, _around, _alike_inside),
    "table in the configuration": Remedy(
        lambda: _noted(pd.DataFrame({"a": [1]})),
        "In config.note: A pandas.DataFrame in a configuration is not stored. Keep it as texts and numbers",
        lambda model: _with_note(model.config.note.to_dict())(model),
        lambda loaded, _: loaded.config.note == {"a": {0: 1}},
    ),
    "options of generation that contradict, changed": Remedy(
        lambda: _llama(_warm),
        "Change that",
        _sampling,
        lambda loaded, refused: _alike(loaded, refused) and loaded.generation_config.temperature == 0.5,
    ),
    "options of generation that contradict": Remedy(lambda: _llama(_warm), _AROUND, _around, _alike_inside),
    "without values": Remedy(
        lambda: _bert(lambda model: model.to("meta") and None),
        "In embeddings.word_embeddings.weight: A tensor on the device 'meta' has no values. Make its module on the device "
        "'cpu', and load its weights",
        _with_weights,
        lambda loaded, _: _alike(loaded, _bert()),
    ),
    "sparse weight": Remedy(
        lambda: _bert(_sparse), "In pooler.dense.weight: A tensor of layout torch.sparse_coo", _dense, _alike
    ),
    "quantized": Remedy(_quantized_bert, _WEIGHTS, _state_file, _reads_weights),
}


@pytest.mark.parametrize("name", REMEDIES)
def test_remedy_of_transformers_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused model of Hugging Face, changed as the refusal says or stored as it says, computes the same."""
    library("transformers")
    monkeypatch.chdir(tmp_path)
    REMEDIES[name].show(tmp_path)
