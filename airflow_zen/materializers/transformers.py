"""Hugging Face models and tokenizers, as `save_pretrained` writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_zen.errors import ArtifactRefused, LocatedError, SaveRefused, located
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import heading, preformatted, preview_page
from airflow_zen.materializers.typed_json import read_typed_json, write_typed_json
from airflow_zen.type_names import class_reference, resolve_class, type_name

if TYPE_CHECKING:
    from airflow_zen.materializers.registry import MaterializerRegistry

PRETRAINED_FOLDER = "pretrained"
BUFFERS_FILE = "buffers.safetensors"
METADATA_FILE = "class.json"
CONFIGURATIONS_FILE = "configurations.json"

# Other implementations of attention need a device or a package that the reader may not have.
_PORTABLE_ATTENTION = ("eager", "sdpa")

# Options that a tokenizer's configuration has only where they were arguments of its constructor.
_TOKENIZER_OPTIONS = ("padding_side", "truncation_side", "model_input_names")

# Facts about the place that a tokenizer was read from, not about the tokenizer.
_LOCATION_KEYS = ("is_local", "local_files_only", "name_or_path")

_AROUND = "Or put it into a module of your own, `self.body = model`, which is stored as it is."
_WAY_OUT = (
    "Or call model.save_pretrained('model') and return pathlib.Path('model'), which keeps what from_pretrained() reads."
)

_WEIGHTS = (
    "Or call torch.save(model.state_dict(), 'weights.pt') and return pathlib.Path('weights.pt'), and make the model again in "
    "the step that loads them."
)

_IN_CONFIGURATION = re.compile(r"^\['([^']*)'\]\['(\w+)'\]")

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class PretrainedMaterializer(Materializer):
    """Save a model's configuration and weights, or a tokenizer, in a folder that `from_pretrained` reads.

    Also kept of a model: training or evaluation mode of each part, and which weights are frozen. Nothing is fetched
    from a hub, and no code from the folder is run. Refused: models whose weights have several dtypes, or would not
    come back.
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
        save = self._save_model if hasattr(value, "config") else self._save_tokenizer
        return save(value, directory)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Read the model, on the CPU, or the tokenizer; raises `ArtifactRefused` for a class that is neither."""
        import transformers

        metadata = read_typed_json(self, directory, METADATA_FILE)
        cls: Any = resolve_class(metadata["class"], wanted)
        if issubclass(cls, transformers.PreTrainedModel):
            model = _load_model(cls, metadata, directory / PRETRAINED_FOLDER)
            _set_configurations(model, directory)
            return model
        if issubclass(cls, transformers.PreTrainedTokenizerBase):
            return _load_tokenizer(cls, metadata, directory / PRETRAINED_FOLDER)
        raise ArtifactRefused(f"{metadata['class']} is no model or tokenizer here, and the artifact says it is one.")

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show configuration and layers."""
        sections = [heading("Layers" if hasattr(value, "config") else "Tokenizer"), preformatted(str(value), 8_000)]
        if hasattr(value, "config"):
            sections = [heading("Configuration"), preformatted(value.config.to_json_string(), 8_000), *sections]
        return preview_page(value, summary, sections)

    def _save_model(self, model: Any, directory: Path) -> Mapping[str, Any]:
        """Write a model, and load it once; raises `SaveRefused` where that is not the same model."""
        _check_storable(model)
        _write_configurations(model, directory, self.registry)
        _save_pretrained(model, directory / PRETRAINED_FOLDER)
        write_typed_json(self, _model_metadata(model), directory, METADATA_FILE)
        loaded = self._load_back(model, directory)
        _save_buffers(model, loaded, directory / PRETRAINED_FOLDER)
        _check_round_trip(model, loaded)
        return {"shape": f"{type(model).__qualname__} of {model.num_parameters()} parameters"}

    def _load_back(self, model: Any, directory: Path) -> Any:
        try:
            return self.load(directory, self.encoding, type(model))
        except Exception as error:
            raise SaveRefused(
                f"{type_name(type(model))} does not come back from from_pretrained(): {error}. {_AROUND}"
            ) from error

    def _save_tokenizer(self, tokenizer: Any, directory: Path) -> Mapping[str, Any]:
        options = {name: getattr(tokenizer, name) for name in _TOKENIZER_OPTIONS}
        with _without_progress_bars():
            tokenizer.save_pretrained(directory / PRETRAINED_FOLDER)
        metadata = {"class": class_reference(type(tokenizer)), "sides": options}
        write_typed_json(self, metadata, directory, METADATA_FILE)
        config = directory / PRETRAINED_FOLDER / "tokenizer_config.json"
        if config.exists():
            held = json.loads(config.read_text("utf-8")).items()
            kept = {key: item for key, item in held if key not in _LOCATION_KEYS}
            config.write_text(json.dumps(kept, indent=2, ensure_ascii=False, sort_keys=True), encoding="utf-8")
        return {"shape": f"{type(tokenizer).__qualname__} of {len(tokenizer)} tokens"}


def _model_metadata(model: Any) -> dict[str, Any]:
    """Return what the folder of a model does not contain, but for its buffers."""
    metadata = {
        "class": class_reference(type(model)),
        "training": model.training,
        "frozen": [name for name, weight in model.named_parameters() if not weight.requires_grad],
    }
    otherwise = [name for name, module in model.named_modules() if module.training != model.training]
    attention = model.config._attn_implementation  # noqa: SLF001 - what from_pretrained takes, and does not keep
    metadata |= {"otherwise": otherwise} if otherwise else {}
    # A folder on this machine is no part of the model.
    metadata |= {"name": "" if Path(model.name_or_path).is_absolute() else model.name_or_path}
    return metadata | ({"attention": attention} if attention in _PORTABLE_ATTENTION else {})


def _load_model(cls: Any, metadata: Mapping[str, Any], folder: Path) -> Any:
    from safetensors.torch import load_file

    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    attention = {"attn_implementation": metadata["attention"]} if "attention" in metadata else {}
    with _without_progress_bars():
        model = cls.from_pretrained(folder, dtype="auto", **safe, **attention)
    if (folder / BUFFERS_FILE).exists():
        _set_buffers(model, load_file(folder / BUFFERS_FILE))
    model.name_or_path = metadata.get("name", "")
    for name, weight in model.named_parameters():
        weight.requires_grad_(name not in metadata["frozen"])
    model.train(metadata["training"])
    for name in metadata.get("otherwise", ()):
        model.get_submodule(name).training = not metadata["training"]
    return model


def _load_tokenizer(cls: Any, metadata: Mapping[str, Any], folder: Path) -> Any:
    tokenizer = cls.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    for name in _LOCATION_KEYS:
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.name_or_path = ""
    for name, option in metadata.get("sides", {}).items():
        setattr(tokenizer, name, option)
    return tokenizer


def _save_pretrained(model: Any, folder: Path) -> None:
    """Write the folder, and leave the model's configuration as it is, which save_pretrained() changes."""
    before = dict(vars(model.config))
    try:
        with _without_progress_bars():
            model.save_pretrained(folder)
    except Exception as error:
        raise SaveRefused(
            f"save_pretrained() refuses this {type_name(type(model))}: {error}\nChange that. {_AROUND} {_WEIGHTS}"
        ) from error
    finally:
        vars(model.config).clear()
        vars(model.config).update(before)


def _write_configurations(model: Any, directory: Path, registry: MaterializerRegistry) -> None:
    """Write the configurations that the modules hold, with all attributes: `config.json` has some of the outermost."""
    from airflow_zen.materializers.torch.modules import ModuleEncoder, is_plain_object
    from airflow_zen.materializers.typed_json.encoding import InlineOnly, canonical_json

    encoder = ModuleEncoder(InlineOnly(registry, "a configuration", "Keep it as texts and numbers."))
    held = {
        name: {attribute: item for attribute, item in vars(module).items() if is_plain_object(type(item), [])}
        for name, module in model.named_modules()
    }
    try:
        root = encoder.encode({name: found for name, found in held.items() if found})
    except LocatedError as error:
        error.place = _IN_CONFIGURATION.sub(lambda place: ".".join(filter(None, place.groups())), error.place)
        raise
    text = canonical_json({"root": root, "objects": encoder.states})
    (directory / CONFIGURATIONS_FILE).write_text(text, encoding="utf-8")


def _set_configurations(model: Any, directory: Path) -> None:
    from airflow_zen.materializers.torch.modules import ModuleDecoder

    held = json.loads((directory / CONFIGURATIONS_FILE).read_text("utf-8"))
    decoder, here = ModuleDecoder(held["objects"], [], _refuse_part, type(model)), model.config._attn_implementation  # noqa: SLF001
    for name, found in decoder.decode(held["root"]).items():
        for attribute, item in found.items():
            vars(model.get_submodule(name))[attribute] = item
            if getattr(item, "_attn_implementation_internal", None) not in (None, *_PORTABLE_ATTENTION):
                item._attn_implementation_internal = here  # noqa: SLF001


def _refuse_part(part: Mapping[str, Any], declared: Any) -> Any:
    raise ArtifactRefused(f"A configuration has no parts, got {part!r}.")


def _save_buffers(model: Any, loaded: Any, folder: Path) -> None:
    """Write the buffers that are no weights and differ from what the configuration makes; set them in `loaded` too."""
    from safetensors.torch import save_file

    made, weights = dict(loaded.named_buffers()), model.state_dict().keys()
    other = {
        name: held.detach().cpu().clone().contiguous()
        for name, held in model.named_buffers()
        if name in made and name not in weights and not _are_same_bits(held, made[name])
    }
    if other:
        save_file(other, folder / BUFFERS_FILE)
        _set_buffers(loaded, other)


def _set_buffers(model: Any, buffers: Mapping[str, Any]) -> None:
    for name, held in buffers.items():
        module, _, own = name.rpartition(".")
        setattr(model.get_submodule(module), own, held)


def _are_same_bits(one: Any, other: Any) -> bool:
    """Whether tensors are equal in type, shape and bits, also where they are not a number."""
    import torch

    alike = (one.dtype, one.shape) == (other.dtype, other.shape)
    one, other = (held.detach().cpu().contiguous().view(-1).view(torch.uint8) for held in (one, other))
    return alike and torch.equal(one, other)


def _check_storable(model: Any) -> None:
    """Raise `SaveRefused` for weights of several dtypes or without values, and for hooks."""
    from airflow_zen.materializers.torch.tensors import check_storable

    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        with located(name):
            check_storable(weight)
    dtypes = sorted({str(weight.dtype) for weight in model.parameters() if weight.is_floating_point()})
    if len(dtypes) > 1:
        raise SaveRefused(
            f"This {type_name(type(model))} has weights of {', '.join(dtypes)}. Convert it with .to(dtype). {_AROUND}"
        )
    modules = ((name or "the model", module) for name, module in model.named_modules())
    if hooked := sorted(name for name, module in modules if any(getattr(module, hooks) for hooks in _HOOKS)):
        raise SaveRefused(
            f"{type_name(type(model))} has hooks, in {', '.join(hooked[:3])}, which are functions. Remove them first. {_WAY_OUT}"
        )


def _check_round_trip(model: Any, loaded: Any) -> None:
    """Raise `SaveRefused` where a weight or layer was lost: the configuration may not know of it."""
    one, other = model.state_dict(), loaded.state_dict()
    if one.keys() != other.keys() or not all(_are_same_bits(one[name], other[name]) for name in one):
        raise SaveRefused(
            f"{type_name(type(model))} does not come back with all its weights from from_pretrained(). {_AROUND}"
        )
    for was, now in zip(repr(model).splitlines(), repr(loaded).splitlines(), strict=False):
        if was != now:
            raise SaveRefused(
                f"{type_name(type(model))} was changed after it was made from its configuration: it has {was.strip()}, "
                f"which comes back as {now.strip()}. Set it in the configuration and make the model from that. "
                f"{_AROUND}"
            )


def _without_progress_bars() -> ExitStack:
    """Disable progress bars until the end of a block: a task's log is no terminal."""
    from transformers.utils import logging

    block = ExitStack()
    if logging.is_progress_bar_enabled():
        logging.disable_progress_bar()
        block.callback(logging.enable_progress_bar)
    return block
