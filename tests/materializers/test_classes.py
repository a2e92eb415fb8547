"""Users' classes are found again, wherever Airflow loaded them from."""

from __future__ import annotations

import importlib.util
import pstats
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from airflow_zen.errors import ArtifactRefused, MaterializerNotFound, SaveRefused
from airflow_zen.materializers.registry import default_registry
from airflow_zen.type_names import class_reference, resolve_class, type_name
from tests.materializers import records as r

SOURCE = """
from __future__ import annotations
import enum
from dataclasses import dataclass

class Color(enum.Enum):
    RED = 1

@dataclass
class Params:
    color: Color

class Outer:
    @dataclass
    class Inner:
        a: int
"""


@pytest.fixture(autouse=True)
def _forget_modules() -> Iterator[None]:
    yield
    for name in [
        name for name in sys.modules if name.endswith(("_flights", "_trains", "plain_records", "late_records"))
    ]:
        del sys.modules[name]


def test_class_of_a_dag_file_is_named_by_its_stem(tmp_path: Path) -> None:
    """What Airflow calls `unusual_prefix_<hash>_flights` is `flights` in an artifact."""
    module = _dag_module(tmp_path / "a" / "flights.py")
    assert "unusual_prefix_" in module.__name__
    assert type_name(module.Params) == "flights.Params"
    assert class_reference(module.Outer.Inner) == "flights:Outer.Inner"


def test_record_of_a_dag_file_is_found_under_another_path(tmp_path: Path) -> None:
    """A record saved from a DAG file is the class of the same file on another machine."""
    there = _dag_module(tmp_path / "there" / "flights.py")
    (tmp_path / "artifact").mkdir()
    saved = default_registry().save(there.Params(there.Color.RED), tmp_path / "artifact")
    del sys.modules[there.__name__]
    here = _dag_module(tmp_path / "here" / "flights.py")
    assert default_registry().load(tmp_path / "artifact", saved.encoding) == here.Params(here.Color.RED)


def test_two_dag_files_of_one_name_are_not_guessed_between(tmp_path: Path) -> None:
    """If two loaded DAG files define the class, the declared type decides, or it is an error, until one file is renamed."""
    one, two = (_dag_module(tmp_path / folder / "flights.py") for folder in ("one", "two"))
    with pytest.raises(
        ArtifactRefused, match="'flights'. Annotate the parameter with the one you mean, or rename a file"
    ):
        resolve_class("flights:Params")
    assert resolve_class("flights:Params", two.Params) is two.Params
    assert resolve_class("flights:Params", list[one.Params]) is one.Params
    assert resolve_class("flights:Color", two.Params) is two.Color
    del sys.modules[two.__name__]
    _dag_module(tmp_path / "renamed" / "trains.py")
    assert resolve_class("flights:Params") is one.Params


def test_plain_module_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class whose module is not loaded yet is imported."""
    (tmp_path / "plain_records.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_class("plain_records:Color").__name__ == "Color"


def test_missing_module_says_how_to_get_the_class() -> None:
    """A class that cannot be imported names itself and the two remedies."""
    with pytest.raises(MaterializerNotFound, match=r"no_such_module:Color.*sys.path.insert\(0, folder\), or declare"):
        resolve_class("no_such_module:Color")


def test_missing_class_is_named() -> None:
    """A class that its module no longer defines is named."""
    with pytest.raises(MaterializerNotFound, match="no longer defines it"):
        resolve_class("tests.materializers.records:Gone")


def test_class_is_never_another_kind_of_callable(tmp_path: Path) -> None:
    """An artifact cannot make the loader use a function, or a class that is no record, as one."""
    for text in (
        '{"$":"dataclass","class":"subprocess:Popen","fields":{"args":"true"}}',
        '{"$":"enum","class":"os:system","name":"true"}',
        '{"$":"namedtuple","class":"builtins:list","fields":{}}',
        '{"$":"pydantic","class":"builtins:dict","fields":{},"set":[],"extra":null,"private":null}',
    ):
        (tmp_path / "value.json").write_text(text)
        with pytest.raises((ArtifactRefused, MaterializerNotFound)):
            default_registry().load(tmp_path, "python.json@1")


@pytest.mark.parametrize("module", ["antigravity", "idlelib.idle", "this", "mypy.version"])
def test_no_library_is_imported_for_an_artifact(tmp_path: Path, module: str) -> None:
    """What an artifact names is imported from the project only: modules of Python and of libraries are not executed."""
    (tmp_path / "value.json").write_text(f'{{"$":"dataclass","class":"{module}:Version","fields":{{}}}}')
    already = module in sys.modules
    with pytest.raises(
        ArtifactRefused, match="is a library that this process has not imported. Import it in the DAG file"
    ):
        default_registry().load(tmp_path, "python.json@1")
    assert (module in sys.modules) is already


def test_class_of_a_library_is_loaded_after_its_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of a library that nobody has imported is refused; imported, and as the type of a parameter, it is loaded."""
    fields = ("1", 0.1, 0.1, 0.1, 0.1, "a.py", 3)
    saved = default_registry().save(pstats.FunctionProfile(*fields), tmp_path)
    monkeypatch.delitem(sys.modules, "pstats")
    with pytest.raises(ArtifactRefused, match="or annotate the parameter with the type"):
        default_registry().load(tmp_path, saved.encoding)
    cls = importlib.import_module("pstats").FunctionProfile
    for wanted in (None, cls):
        assert default_registry().load(tmp_path, saved.encoding, wanted) == cls(*fields)


def test_a_class_of_the_project_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of the project that nothing has imported yet is found where the project's modules are."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "late_records.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    (tmp_path / "value.json").write_text('{"$":"enum","class":"late_records:Color","name":"RED"}')
    loaded = default_registry().load(tmp_path, "python.json@1")
    assert (type(loaded).__name__, type(loaded).__module__) == ("Color", "late_records")


def test_part_outside_the_artifact_is_refused(tmp_path: Path) -> None:
    """A reference to a part cannot leave the artifact."""
    (tmp_path / "value.json").write_text('{"$":"part","path":"../x","encoding":"python.path@1","type":"pathlib.Path"}')
    with pytest.raises(ArtifactRefused, match="inside its artifact"):
        default_registry().load(tmp_path, "python.json@1")


def test_path_outside_the_artifact_is_refused(tmp_path: Path) -> None:
    """A path artifact cannot name what lies outside of it."""
    (tmp_path / "files").mkdir()
    (tmp_path / "path.json").write_text('{"name": "../..", "empty": [], "executable": ["x"]}')
    with pytest.raises(ArtifactRefused, match="outside of it"):
        default_registry().load(tmp_path, "python.path@1")


def test_changed_record_is_refused(tmp_path: Path) -> None:
    """A record whose class has lost a saved field or member is refused."""
    changed = {
        '{"$":"dataclass","class":"tests.materializers.records:FrozenSlotted","fields":{"gone":1}}': "gone",
        '{"$":"enum","class":"tests.materializers.records:Color","name":"GREEN"}': "GREEN",
        '{"$":"namedtuple","class":"tests.materializers.records:Point","fields":{"x":1}}': "saved fields",
    }
    for text, reason in changed.items():
        (tmp_path / "value.json").write_text(text)
        with pytest.raises(ArtifactRefused, match=reason):
            default_registry().load(tmp_path, "python.json@1")


def test_local_class_is_refused() -> None:
    """A class inside a function has no name to find it by."""

    class Local:
        pass

    with pytest.raises(SaveRefused, match="top level of a module"):
        class_reference(Local)


def test_unknown_tag_names_itself(tmp_path: Path) -> None:
    """The error for a typed JSON of a newer release names the unknown tag."""
    (tmp_path / "value.json").write_text('{"$":"quaternion"}')
    with pytest.raises(MaterializerNotFound, match="'quaternion'.*Install a newer one"):
        default_registry().load(tmp_path, "python.json@1")


def test_validators_do_not_run_on_load(tmp_path: Path) -> None:
    """A record comes back as it was saved, even if its validators would refuse it."""
    saved = default_registry().save(r.Strict.model_construct(at_most_ten=11), tmp_path)
    assert default_registry().load(tmp_path, saved.encoding).at_most_ten == 11


def _dag_module(path: Path) -> ModuleType:
    from airflow.utils.file import get_unique_dag_module_name

    path.parent.mkdir()
    path.write_text(SOURCE)
    name = get_unique_dag_module_name(str(path))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
