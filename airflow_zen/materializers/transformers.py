"""Hugging Face models and tokenizers, as `save_pretrained` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import PREVIEW_HTML, Markup, heading, html_page, preformatted
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import class_reference, resolve_class, type_name

if TYPE_CHECKING:
    pass


class PretrainedMaterializer(Materializer):
    """Save a model's configuration and weights, or a tokenizer, in a folder that `from_pretrained` reads.

    Kept of a model too: training or evaluation mode of each part, and which weights are frozen. Nothing is fetched from a hub,
    and no code of the folder is run. Refused: models whose weights have several dtypes, or do not come
    back all the same.
    """

    types = (
        "transformers.modeling_utils.PreTrainedModel",
        "transformers.tokenization_utils_base.PreTrainedTokenizerBase",
    )
    encoding = "transformers.pretrained@1"
    libraries = ("transformers", "tokenizers", "safetensors", "torch")
    extra = "transformers"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `pretrained/` and `class.json`."""
        return save_pretrained(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show configuration and layers."""
        return preview_pretrained(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the model, on the CPU, or the tokenizer."""
        return load_pretrained(self, directory, wanted)


PRETRAINED_FOLDER = "pretrained"
BUFFERS_FILE = "buffers.safetensors"
METADATA_FILE = "class.json"

# What save_pretrained writes into the configuration of the very model it saves.
_CONFIG_SET_BY_SAVING = ("architectures", "dtype")

# Other implementations of attention need a device or a package that the reader may not have.
_PORTABLE_ATTENTION = ("eager", "sdpa")

# What a tokenizer's configuration keeps only where it was given to its constructor.
_TOKENIZER_OPTIONS = ("padding_side", "truncation_side", "model_input_names")

# Where a tokenizer was read from says nothing about it.
_LOCATION_KEYS = ("is_local", "local_files_only", "name_or_path")


def save_pretrained(materializer: Materializer, value: Any, directory: Path) -> Mapping[str, Any]:
    """Write the folder; raises `SaveRefused` for a model that would not come back."""
    import transformers

    is_model = isinstance(value, transformers.PreTrainedModel)
    metadata: dict[str, Any] = {"class": class_reference(type(value))}
    if is_model:
        _check_one_dtype(value)
        frozen = [name for name, weight in value.named_parameters() if not weight.requires_grad]
        unset = [name for name in _CONFIG_SET_BY_SAVING if getattr(value.config, name, None) is None]
        metadata |= {"training": value.training, "frozen": frozen, "unset": unset, **_modules_in_other_mode(value)}
        attention = value.config._attn_implementation  # noqa: SLF001 - what from_pretrained takes, and does not keep
        metadata |= {"attention": attention} if attention in _PORTABLE_ATTENTION else {}
        _check_no_hooks(value)
    else:
        metadata["sides"] = {name: getattr(value, name) for name in _TOKENIZER_OPTIONS}
    with _without_progress_bars():
        value.save_pretrained(directory / PRETRAINED_FOLDER)
    write_typed_json(materializer, metadata, directory, METADATA_FILE)
    if not is_model:
        _remove_location_keys(directory / PRETRAINED_FOLDER / "tokenizer_config.json")
        return {"shape": f"{type(value).__qualname__} of {len(value)} tokens"}
    _unset_config(value, metadata["unset"])
    loaded = load_pretrained(materializer, directory, type(value))
    _save_buffers(value, loaded, directory)
    _check_round_trip(value, loaded)
    return {"shape": f"{type(value).__qualname__} of {value.num_parameters()} parameters"}


def load_pretrained(materializer: Materializer, directory: Path, wanted: type | None = None) -> Any:
    """Read what `save_pretrained` wrote."""
    import transformers
    from safetensors.torch import load_file

    metadata = read_typed_json(materializer, directory, METADATA_FILE)
    cls: Any = resolve_class(metadata["class"], wanted)
    if not issubclass(cls, transformers.PreTrainedModel | transformers.PreTrainedTokenizerBase):
        raise ArtifactRefused(f"{metadata['class']} is no model or tokenizer here, and the artifact says it is one.")
    if not issubclass(cls, transformers.PreTrainedModel):
        tokenizer = cls.from_pretrained(directory / PRETRAINED_FOLDER, local_files_only=True, trust_remote_code=False)
        for name in _LOCATION_KEYS:
            tokenizer.init_kwargs.pop(name, None)
        tokenizer.name_or_path = ""
        for name, side in metadata.get("sides", {}).items():
            setattr(tokenizer, name, side)
        return tokenizer
    with _without_progress_bars():
        model = cls.from_pretrained(
            directory / PRETRAINED_FOLDER,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype="auto",
            **({"attn_implementation": metadata["attention"]} if metadata.get("attention") else {}),
        )
    if (directory / PRETRAINED_FOLDER / BUFFERS_FILE).exists():
        _set_buffers(model, load_file(directory / PRETRAINED_FOLDER / BUFFERS_FILE))
    model.name_or_path = model.config._name_or_path = ""  # noqa: SLF001 - the folder of the moment
    _unset_config(model, metadata["unset"])
    for name, weight in model.named_parameters():
        weight.requires_grad_(name not in metadata["frozen"])
    model.train(metadata["training"])
    for name in metadata.get("otherwise", ()):
        model.get_submodule(name).training = not metadata["training"]
    return model


def _modules_in_other_mode(model: Any) -> dict[str, list[str]]:
    """Name the modules inside that are not in the mode of the model, such as a frozen part that only evaluates."""
    names = [name for name, module in model.named_modules() if module.training != model.training]
    return {"otherwise": names} if names else {}


def _unset_config(model: Any, names: list[str]) -> None:
    for name in names:
        setattr(model.config, name, None)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Show no progress bars meanwhile: a task's log is no terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _save_buffers(model: Any, loaded: Any, directory: Path) -> None:
    """Write the buffers that are made anew from the configuration, and were otherwise in this model; give them to the other."""
    from safetensors.torch import save_file

    made = dict(loaded.named_buffers())
    other = {
        name: held for name, held in model.named_buffers() if name in made and not _are_same_bits(held, made[name])
    }
    weights = model.state_dict().keys()
    other = {name: held.detach().cpu().clone().contiguous() for name, held in other.items() if name not in weights}
    if other:
        save_file(other, directory / PRETRAINED_FOLDER / BUFFERS_FILE)
        _set_buffers(loaded, other)


def _set_buffers(model: Any, buffers: Mapping[str, Any]) -> None:
    for name, held in buffers.items():
        module, _, own = name.rpartition(".")
        setattr(model.get_submodule(module), own, held)


def _are_same_bits(one: Any, other: Any) -> bool:
    """Compare bits, which are those of missing numbers too."""
    import torch

    alike = (one.dtype, one.shape) == (other.dtype, other.shape)
    one, other = (held.detach().cpu().contiguous().view(-1).view(torch.uint8) for held in (one, other))
    return alike and torch.equal(one, other)


def _check_no_hooks(model: Any) -> None:
    hooked = sorted(name or "the model" for name, module in model.named_modules() if _has_hooks(module))
    if hooked:
        raise SaveRefused(
            f"{type_name(type(model))} has hooks, in {', '.join(hooked[:3])}, which are functions. Remove them first."
        )


def _has_hooks(module: Any) -> bool:
    return any(
        getattr(module, name)
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    )


def _check_one_dtype(model: Any) -> None:
    dtypes = sorted({str(weight.dtype) for weight in model.parameters() if weight.is_floating_point()})
    if len(dtypes) > 1:
        raise SaveRefused(
            f"This {type_name(type(model))} has weights of {', '.join(dtypes)}. Convert it with .to(dtype)."
        )


def _check_round_trip(model: Any, loaded: Any) -> None:
    """See that every weight and layer is there: a model may hold some that its configuration does not tell of."""
    one, other = model.state_dict(), loaded.state_dict()
    if one.keys() != other.keys() or not all(_are_same_bits(one[name], other[name]) for name in one):
        raise SaveRefused(f"{type_name(type(model))} does not come back with all its weights from from_pretrained().")
    for was, now in zip(repr(model).splitlines(), repr(loaded).splitlines(), strict=False):
        if was != now:
            raise SaveRefused(
                f"{type_name(type(model))} was changed since it was made of its configuration: it has {was.strip()}, which comes "
                f"back as {now.strip()}. Set it in the configuration and make the model of that."
            )


def _remove_location_keys(file: Path) -> None:
    if not file.exists():
        return
    held = json.loads(file.read_text("utf-8"))
    kept = {key: item for key, item in held.items() if key not in _LOCATION_KEYS}
    file.write_text(json.dumps(kept, indent=2, ensure_ascii=False, sort_keys=True), encoding="utf-8")


def preview_pretrained(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a model or a tokenizer."""
    return {
        PREVIEW_HTML: html_page(type(value).__qualname__, str(summary.get("shape", "")), _pretrained_sections(value))
    }


def _pretrained_sections(value: Any) -> Iterator[Markup]:
    config = getattr(value, "config", None)
    if config is not None:
        yield heading("Configuration")
        yield preformatted(config.to_json_string(), 8_000)
    yield heading("Layers" if config is not None else "Tokenizer")
    yield preformatted(str(value), 8_000)
