"""Modules as typed JSON."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from itertools import chain
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch.torch_version import TorchVersion

from airflow_zen.errors import ArtifactRefused, LocatedError, SaveRefused
from airflow_zen.materializers.torch.tensors import check_storable
from airflow_zen.materializers.typed_json.codec import TAG, Codec, Json, field_codec, path_codec
from airflow_zen.materializers.typed_json.encoding import Decoder, Encoder, NestedValues
from airflow_zen.materializers.user_defined import is_project_module
from airflow_zen.type_names import base_names, class_reference, module_name, record_definition, type_name

_TENSOR, _MODULE = "torch.tensor", "torch.module"
# Configurations and similar objects of libraries, whose state is their attributes.
_PLAIN_OBJECTS = frozenset(
    {
        "transformers.configuration_utils.PreTrainedConfig",
        "transformers.configuration_utils.PretrainedConfig",
        "transformers.generation.configuration_utils.GenerationConfig",
        "peft.config.PeftConfigMixin",
        "peft.tuners.lora.layer.LoraVariant",
        "sentence_transformers.base.modality.InputFormatter",
    }
)
# Dicts with access by attribute, whose state is their items.
_ATTRIBUTE_DICTS = frozenset(
    {"lightning.fabric.utilities.data.AttributeDict", "lightning_fabric.utilities.data.AttributeDict"}
)
_STATE_DICT = "Or return module.state_dict(), and build the module from its configuration in the step that uses it."
_OTHER_FORMS = {
    "ScriptModule": "Call torch.jit.save(module, 'module.pt') and return pathlib.Path('module.pt').",
    "GraphModule": "Return the module that it was traced from, or module.state_dict().",
    "OptimizedModule": "Return module._orig_mod, the module that was compiled.",
}
_CACHES = ("_forward_cache", "_computed")
_REGISTERED = re.compile(r"^\['_(?:modules|parameters|buffers)'\](?=\[')")
_FIRST_KEY = re.compile(r"^\['(\w+)'\]")


# Functions of torch itself that only compute with tensors; torch.load is not such a function.
_ACTIVATIONS = frozenset({"relu", "sigmoid", "softmax", "tanh", "selu", "celu", "erf", "sin", "cos", "exp"})
# Files of libraries whose functions and classes compute with tensors and configurations, and read no files.
_LIBRARY_FILES = re.compile(
    r"torch\.nn\.modules\.\w+|torch\.optim\.\w+|transformers\.(models\.(\w+\.)+modeling_\w+|modeling_rope_utils|activations)"
    r"|torchmetrics\.utilities\.(data|distributed)"
)
_LIBRARY_NAMES = frozenset({"torchmetrics.metric:jit_distributed_available"})


class ModuleParts(NestedValues):
    """Save what a module holds that is neither JSON nor part of it, such as a tokenizer or a table."""

    prefers_files = False


class ModuleEncoder(Encoder):
    """Write a module as typed JSON, with tensors and modules inside as numbers, so that what is shared stays shared.

    `states` are the modules by number, and objects such as their configurations; `tensors` the tensors.
    """

    def __init__(self, parts: NestedValues) -> None:
        super().__init__(parts)
        self.tensors: list[Any] = []
        self.states: list[Json] = []
        self.owners: list[type] = []
        self._numbers: dict[int, int] = {}
        self._kept_alive: list[Any] = []

    def encode(self, value: Any) -> Json:
        """Write one value of a module's state; raises `SaveRefused` for what would not come back."""
        write = self._writer_of(value)
        if write is None:
            return super().encode(value)
        try:
            return write(value)
        except LocatedError as error:
            self.add_place(error, value)
            raise

    def _writer_of(self, value: Any) -> Callable[[Any], Json] | None:
        cls = type(value)
        if isinstance(value, torch.Tensor):
            return self._encode_tensor
        if isinstance(value, torch.nn.Module) or is_plain_object(cls, self.owners):
            return lambda held: {TAG: _MODULE, "number": self._encode_object(held)}
        if codec := codec_of(cls):
            return lambda held: {TAG: codec.tag, **codec.encode(held, self)}
        return None

    def _encode_tensor(self, tensor: Any) -> Json:
        check_storable(tensor)
        return {TAG: _TENSOR, "number": self._register(tensor, self.tensors, tensor)}

    def _encode_object(self, value: Any) -> int:
        if id(value) in self._numbers:
            return self._numbers[id(value)]
        _check_kind(value)
        number, cls = self._register(value, self.states, None), type(value)
        is_module = isinstance(value, torch.nn.Module)
        state = _kept_state(value.__getstate__() if is_module else vars(value))
        record_definition(cls)
        if is_module:
            self.owners.append(cls)
        # An object inside is written as a number, so its state is not nested in that of the outer one.
        outer, self._ancestors = self._ancestors, {}
        try:
            self.states[number] = {"class": class_reference(cls), "state": self.encode(state)}
        except LocatedError as error:
            error.place = _FIRST_KEY.sub(r".\1", _REGISTERED.sub("", error.place))
            raise
        finally:
            self._ancestors = outer
        return number

    def _register(self, value: Any, into: list[Any], entry: Any) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(into)
            self._kept_alive.append(value)
            into.append(entry)
        return self._numbers[id(value)]


class ModuleDecoder(Decoder):
    """Read what `ModuleEncoder` wrote; a module is built before its state, which may refer to it."""

    imports_libraries = True

    def __init__(
        self,
        states: list[Json],
        tensors: list[Any],
        load_part: Callable[[Mapping[str, Json], Any], Any],
        wanted: type | None,
    ) -> None:
        super().__init__(load_part, wanted)
        self.owners: list[type] = []
        self._states, self._tensors = states, tensors
        self._objects: dict[int, Any] = {}

    def decode(self, node: Json, declared: Any = None) -> Any:
        """Read one value of a module's state; raises `ArtifactRefused` for functions and dtypes that torch lacks."""
        tag = node.get(TAG) if isinstance(node, dict) else None
        if tag == _TENSOR:
            return self._tensors[node["number"]]
        if tag == _MODULE:
            return self._build_object(node["number"])
        codec = next((codec for codec in _ALL_CODECS if codec.tag == tag), None)
        return codec.decode(node, self) if codec else super().decode(node, declared)

    def _build_object(self, number: int) -> Any:
        if number not in self._objects:
            held = self._states[number]
            cls: Any = self.resolve_class(held["class"], "torch.nn.Module or its configuration", self._is_buildable)
            self._objects[number] = value = cls.__new__(cls)
            if issubclass(cls, torch.nn.Module):
                self.owners.append(cls)
                value.__setstate__(self.decode(held["state"]))
            else:
                vars(value).update(self.decode(held["state"]))
        return self._objects[number]

    def _is_buildable(self, cls: type) -> bool:
        return issubclass(cls, torch.nn.Module) or is_plain_object(cls, self.owners)


def _check_kind(value: Any) -> None:
    """Raise `SaveRefused` for a module that torch makes of another one, and that has no class of its own."""
    names = (base.__qualname__ for base in type(value).__mro__ if base.__module__.startswith("torch."))
    if advice := next(filter(None, map(_OTHER_FORMS.get, names)), None):
        raise SaveRefused(f"A {type_name(type(value))} is not stored. {advice}")


def _kept_state(state: Any) -> dict[str, Any]:
    """Return a state without the folder that a model was read from, which differs from run to run, and without graphs."""
    if not isinstance(state, dict):
        raise SaveRefused("The state that __getstate__ returns is no dict. Return module.state_dict().")
    # torchmetrics caches the value of the last batch, with the graph it was computed in.
    cached = {name: state[name].detach() for name in _CACHES if isinstance(state.get(name), torch.Tensor)}
    places = {name: "" for name in ("_name_or_path", "name_or_path") if PurePath(str(state.get(name))).is_absolute()}
    return {**state, **cached, **places}


def is_plain_object(cls: type, owners: list[type]) -> bool:
    """Whether instances of a class are kept by their attributes: a configuration, or what a module's own file defines."""
    if not _PLAIN_OBJECTS.isdisjoint(base_names(cls)):
        return True
    has_own_state = any(name in vars(base) for base in cls.__mro__[:-1] for name in _STATE_METHODS)
    return is_project_class(cls, owners) and not has_own_state and _has_only_attributes(cls)


_STATE_METHODS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__slots__", "__getnewargs__")


def _has_only_attributes(cls: type) -> bool:
    """Whether a class is no record, which has its own form, and derives from no class of a library or Python's own."""
    from airflow_zen.materializers.typed_json.codec import record_codec

    is_derived = any(base.__module__ in ("builtins", "abc") for base in cls.__mro__[:-1])
    return record_codec(cls) is None and not is_derived and not issubclass(cls, type)


def codec_of(cls: type) -> Codec | None:
    """Return the codec of a type that only modules hold; None for any other."""
    if issubclass(cls, type):
        return _FUNCTION
    if not _ATTRIBUTE_DICTS.isdisjoint(base_names(cls)):
        return _ATTRIBUTE_DICT
    return _CODECS.get(cls)


def _encode_function(value: Any, encoder: Any) -> Mapping[str, Json]:
    record_definition(value)
    return {"name": callable_name(value, encoder.owners)}


def _decode_function(node: Mapping[str, Json], decoder: Any) -> Any:
    return require_callable(node["name"], decoder.owners)


def callable_name(found: Any, owners: Iterable[type]) -> str:
    """Return the name of a function or class; raise `SaveRefused` for one that `find_callable` would not find.

    `owners` are the classes of the modules around it.
    """
    name = f"{module_name(found)}:{found.__qualname__}" if getattr(found, "__module__", None) else ""
    for candidate in (f"torch.nn.functional.{found.__name__}", f"torch.{found.__name__}", name):
        if find_callable(candidate, owners) is found:
            return candidate
    raise SaveRefused(
        f"The {'class' if isinstance(found, type) else 'function'} {name.replace(':', '.') or found.__qualname__} in a "
        "module is not stored: loading it by name could run anything. Define it at the top level of the file that defines "
        "the module, make it a method, or use one of torch.nn.functional. Or return module.state_dict()."
    )


def find_callable(name: str, owners: Iterable[type]) -> Any:
    """Return a function or class that computes with tensors; None where there is none of that name.

    That is one of torch.nn, or one that a library's modeling file or a file of the project defines: the one that defines
    a class of `owners`, or a base of one.
    """
    module, _, qualname = name.partition(":")
    if not qualname:
        return _torch_function(name)
    files = [sys.modules[held] for held, known in _project_files(owners).items() if known == module]
    if not files and (_LIBRARY_FILES.fullmatch(module) or name in _LIBRARY_NAMES):
        files = [import_module(module)]
    found = (_member(file, qualname) for file in files)
    return next((it for it in found if it is not None), None)


def is_project_class(cls: type, owners: Iterable[type]) -> bool:
    """Whether a file of the project defines both a class and one of `owners`, or a base of one."""
    return cls.__module__ in _project_files(owners)


def require_callable(name: str, owners: Iterable[type]) -> Any:
    """Return what `find_callable` finds; raise `ArtifactRefused` where it finds nothing."""
    if (found := find_callable(name, owners)) is None:
        raise ArtifactRefused(
            f"torch.module@1 keeps functions and classes of torch.nn, of modeling files, and of the file that defines the "
            f"module, and {name!r} is none of them."
        )
    return found


def _project_files(owners: Iterable[type]) -> dict[str, str]:
    """Return the modules of the project that define classes and their bases, as loaded, with the names for an import."""
    bases = {base.__module__: module_name(base) for cls in owners for base in cls.__mro__}
    return {held: name for held, name in bases.items() if held in sys.modules and is_project_module(held)}


def _member(file: ModuleType, qualname: str) -> Any:
    """Return a function or class that a file defines, not one that it imports."""
    found: Any = file
    for part in qualname.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    is_own = callable(found) and getattr(found, "__module__", None) == file.__name__
    return found if is_own and getattr(found, "__qualname__", None) == qualname else None


def _torch_function(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    if module == "torch":
        return getattr(torch, attribute) if attribute in _ACTIVATIONS else None
    found = getattr(torch.nn.functional, attribute, None) if module == "torch.nn.functional" else None
    is_own = getattr(found, "__module__", None) in ("torch.nn.functional", "torch._jit_internal")
    return found if is_own or isinstance(found, BuiltinFunctionType) else None


def _encode_partial(value: partial[Any], encoder: Encoder) -> Mapping[str, Json]:
    if vars(value):
        raise encoder.unsupported_error(value, "it has attributes of its own. Make it a module, or a method.")
    return {name: encoder.encode(getattr(value, name)) for name in ("func", "args", "keywords")}


def _decode_partial(node: Mapping[str, Json], decoder: Decoder) -> partial[Any]:
    return partial(decoder.decode(node["func"]), *decoder.decode(node["args"]), **decoder.decode(node["keywords"]))


def _encode_method(value: MethodType, encoder: Encoder) -> Mapping[str, Json]:
    holder, name = value.__self__, getattr(value.__func__, "__name__", "")
    if not isinstance(holder, torch.nn.Module) or getattr(type(holder), name, None) is not value.__func__:
        raise encoder.unsupported_error(value, f"it is no method of a module's class. Make it one. {_STATE_DICT}")
    return {"of": encoder.encode(holder), "name": name}


def _decode_method(node: Mapping[str, Json], decoder: Decoder) -> Any:
    holder = decoder.decode(node["of"])
    if not isinstance(getattr(type(holder), node["name"], None), FunctionType):
        raise ArtifactRefused(
            f"{type_name(type(holder))} no longer has the saved method {node['name']!r}. Save it again."
        )
    return MethodType(getattr(type(holder), node["name"]), holder)


def _encode_attribute_dict(value: Any, encoder: Encoder) -> Mapping[str, Json]:
    return {
        "class": class_reference(type(value)),
        "pairs": [[key, encoder.encode(item)] for key, item in value.items()],
    }


def _decode_attribute_dict(node: Mapping[str, Json], decoder: Decoder) -> Any:
    def is_kind(cls: type) -> bool:
        return not _ATTRIBUTE_DICTS.isdisjoint(base_names(cls))

    cls = decoder.resolve_class(node["class"], "AttributeDict", is_kind)
    return cls({key: decoder.decode(item) for key, item in node["pairs"]})


def _decode_generator(node: Mapping[str, Json], decoder: Decoder) -> torch.Generator:
    generator = torch.Generator(node["device"])
    generator.set_state(decoder.decode(node["state"]))
    return generator


def _name_codec(tag: str, cls: Any) -> Codec:
    """Return the codec of constants that are attributes of torch, such as `torch.float16`."""

    def find(name: str) -> Any:
        if isinstance(found := getattr(torch, name, None), cls):
            return found
        raise ArtifactRefused(f"torch has no {tag.removeprefix('torch.')} {name!r}.")

    return field_codec(tag, "name", lambda value: str(value).removeprefix("torch."), find)


_PATHS: Mapping[str, type[PurePath]] = {
    cls.__name__: cls for cls in (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath)
}

_PATH = path_codec("torch.path", _PATHS)
_FUNCTION = Codec("torch.function", _encode_function, _decode_function)
_ATTRIBUTE_DICT = Codec("torch.attributedict", _encode_attribute_dict, _decode_attribute_dict)
_CODECS: dict[type, Codec] = {
    torch.Size: field_codec("torch.size", "of", list, torch.Size),
    torch.dtype: _name_codec("torch.dtype", torch.dtype),
    torch.memory_format: _name_codec("torch.memory_format", torch.memory_format),
    torch.device: field_codec("torch.device", "name", str, torch.device),
    torch.Generator: Codec(
        "torch.generator",
        lambda value, encoder: {"device": str(value.device), "state": encoder.encode(value.get_state())},
        _decode_generator,
    ),
    TorchVersion: field_codec("torch.version", "text", str, TorchVersion),
    logging.Logger: field_codec("torch.logger", "name", lambda logger: logger.name, logging.getLogger),
    FunctionType: _FUNCTION,
    BuiltinFunctionType: _FUNCTION,
    MethodType: Codec("torch.method", _encode_method, _decode_method),
    partial: Codec("torch.partial", _encode_partial, _decode_partial),
    **dict.fromkeys(_PATHS.values(), _PATH),
}
_ALL_CODECS = tuple(chain(dict.fromkeys(_CODECS.values()), (_ATTRIBUTE_DICT,)))
