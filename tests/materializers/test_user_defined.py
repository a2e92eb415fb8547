"""How a project adds its own materializers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_zen import Artifact, Materializer, register_materializer
from airflow_zen.errors import AlreadyExists, MaterializerDefinitionError, MaterializerNotFound, SaveRefused
from airflow_zen.materializers import user_defined
from airflow_zen.materializers.registry import default_registry
from tests.materializers import records as r


class PlainMaterializer(Materializer):
    types = (r.Plain,)
    encoding = "plain.text@1"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        (directory / "a.txt").write_text(str(value.a))
        return {}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        return r.Plain(int((directory / "a.txt").read_text()))


class SubPlain(r.Plain):
    pass


class OtherMaterializer(PlainMaterializer):
    encoding = "plain.other@1"


class CsvMaterializer(Materializer):
    types = ("pandas.DataFrame",)
    encoding = "own.csv@1"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        value.to_csv(directory / "table.csv", index=False)
        return {}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        return pd.read_csv(directory / "table.csv")


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_defined, "_REGISTERED", {})


def test_decorated_materializer_is_known(tmp_path: Path) -> None:
    """A class under @register_materializer saves its types, given as classes, and reads its encoding."""
    assert register_materializer(PlainMaterializer) is PlainMaterializer
    saved = default_registry().save(r.Plain(3), tmp_path)
    assert saved.encoding == "plain.text@1"
    assert default_registry().load(tmp_path, "plain.text@1").a == 3


_WRITTEN = """
import tempfile
from dataclasses import dataclass
from pathlib import Path
import pandas as pd
from airflow_zen import Materializer, register_materializer
from airflow_zen.errors import MaterializerNotFound
from airflow_zen.materializers.registry import default_registry

class Plan:
    pass

@dataclass
class Record:
    a: int

class Base(Materializer):
    def save(self, value, directory):
        (directory / "plan").write_text("x")
        return {}

    def load(self, directory, encoding, wanted=None):
        return Plan()

class PlanMaterializer(Base):
    types = (Plan, Record, "pandas.DataFrame")
    encoding = "plan.text@1"

def try_save(value, **options):
    directory = Path(tempfile.mkdtemp())
    try:
        saved = default_registry(**options).save(value, directory)
        print(saved.encoding, type(default_registry().load(directory, saved.encoding)).__name__)
    except MaterializerNotFound as error:
        print(error)
"""
_HINT = (
    "__main__:PlanMaterializer is a Materializer for it, but is not registered. Decorate it with @register_materializer"
)


def _run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", _WRITTEN + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


_UNSAVED = ("Plan()", "type('Wide', (Plan,), {})()", "[Plan()]", "Record(1)", "iter([Plan()])", "{'a': Record(1)}")


def test_unregistered_materializer_is_an_error_that_says_so() -> None:
    """A subclass of Materializer that nobody registered is never used, and its types are not saved by anything else."""
    calls = [f"try_save({value}{options})" for value in _UNSAVED for options in ("", ", allow_pickle=True")]
    told = _run("\n".join(calls))
    assert len(told) == len(calls)
    for call, said in zip(calls, told, strict=True):
        assert _HINT in said, call
        assert "Annotated[T, Artifact(materializer=PlanMaterializer)]" in said, call


def test_unregistered_materializer_leaves_the_types_of_others_alone() -> None:
    """A type that a registered materializer saves is saved by that one, whatever an unregistered one declares."""
    assert _run("try_save(pd.DataFrame({'a': [1]}))") == ["pandas.parquet@1 DataFrame"]


def test_encoding_of_an_unregistered_materializer_is_an_error_that_says_so() -> None:
    """What an unregistered subclass wrote is not read by it, and the error names the class and the ways out."""
    (said,) = _run(
        "try:\n    default_registry().for_encoding('plan.text@1')\nexcept MaterializerNotFound as error:\n    print(error)\n"
    )
    assert said.startswith(f"No materializer reads 'plan.text@1'. {_HINT}")


def test_registering_is_the_way_out() -> None:
    """The same class saves its types once it is decorated."""
    decorated = "PlanMaterializer.types = (Plan, Record)\nregister_materializer(PlanMaterializer)\n"
    assert _run(f"{decorated}try_save(Plan())\ntry_save(Record(1))") == ["plan.text@1 Plan"] * 2


def test_materializer_that_a_step_imports_late_is_known(tmp_path: Path) -> None:
    """A class that is decorated after the registry was made, as a step imports its module, saves and loads as any other."""
    registry = default_registry()
    register_materializer(PlainMaterializer)
    saved = registry.save(SubPlain(3), tmp_path)
    assert saved.encoding == "plain.text@1"
    assert registry.load(tmp_path, "plain.text@1", r.Plain).a == 3


def test_older_encodings_in_reads_are_read(tmp_path: Path) -> None:
    """What an earlier version of a materializer wrote is read by the one that lists its encoding, whatever type is asked for."""
    (tmp_path / "a.txt").write_text("3")
    newer = type("NewerMaterializer", (PlainMaterializer,), {"encoding": "plain.text@3", "reads": ("plain.text@2",)})
    for registry in (default_registry().register(newer), default_registry().with_materializers([newer])):
        assert registry.load(tmp_path, "plain.text@2").a == 3
        with pytest.raises(MaterializerNotFound, match="plain.text@3, not 'plain.text@1'"):
            registry.load(tmp_path, "plain.text@1")


def test_module_that_is_imported_twice_registers_once() -> None:
    """A DAG file that Airflow imports a second time replaces its own materializer, and conflicts with nobody."""
    register_materializer(PlainMaterializer)
    again = type("PlainMaterializer", (PlainMaterializer,), {"__module__": __name__})
    register_materializer(again)
    assert type(default_registry().for_type(r.Plain)) is again


def test_two_for_one_type_are_an_error_with_the_remedies() -> None:
    """Two materializers of one type are refused by name, with the three ways out."""
    register_materializer(PlainMaterializer)
    register_materializer(OtherMaterializer)
    with pytest.raises(
        AlreadyExists, match=r"OtherMaterializer cannot.*Plain of .*PlainMaterializer.*replace=True.*Artifact"
    ):
        default_registry()


def test_replacement_is_asked_for(tmp_path: Path) -> None:
    """With replace=True a project's own materializer saves a type of ours; what ours wrote is still read."""
    register_materializer(replace=True)(CsvMaterializer)
    frame = pd.DataFrame({"a": [1]})
    assert default_registry().save(frame, tmp_path).encoding == "own.csv@1"
    assert default_registry().for_encoding("pandas.parquet@1").encoding == "pandas.parquet@1"


def test_named_materializer_saves_this_value_alone(tmp_path: Path) -> None:
    """A materializer on an output is used whatever its types are, and saves no other value."""
    registry = default_registry()
    frame = pd.DataFrame({"a": [1, 2]})
    assert registry.save(frame, tmp_path, by=CsvMaterializer).encoding == "own.csv@1"
    assert registry.with_materializers([CsvMaterializer]).for_type(pd.DataFrame).encoding == "pandas.parquet@1"
    pd.testing.assert_frame_equal(registry.with_materializers([CsvMaterializer]).load(tmp_path, "own.csv@1"), frame)
    with pytest.raises(MaterializerNotFound, match=r"register_materializer.*Annotated"):
        registry.load(tmp_path, "own.csv@1")


@pytest.mark.parametrize("found", [r.Plain, lambda value: value, Materializer])
def test_other_classes_are_refused_in_the_definition(found: Any) -> None:
    """A class that is no materializer, or has no encoding, is refused by the decorator and by the marker."""
    with pytest.raises(MaterializerDefinitionError, match=r"subclass of airflow_zen\.Materializer"):
        register_materializer(found)
    with pytest.raises(MaterializerDefinitionError, match=r"subclass of airflow_zen\.Materializer"):
        Artifact(materializer=found)


@pytest.mark.parametrize(
    ("declared", "remedy"),
    [
        ({"types": "pandas.DataFrame", "encoding": "own.csv@1"}, r"\('pandas.DataFrame',\)"),
        ({"types": ("Frame",), "encoding": "own.csv@1"}, "dotted names such as 'pandas.DataFrame', got 'Frame'"),
        ({"encoding": "own.csv"}, "'library.format@1', got 'own.csv'"),
        ({"encoding": "own.csv@new"}, "'library.format@1', got 'own.csv@new'"),
    ],
)
def test_wrong_types_and_encodings_are_refused_in_the_definition(declared: dict[str, Any], remedy: str) -> None:
    """Types that are one text, and an encoding without a version, are refused when the class is made."""
    with pytest.raises(MaterializerDefinitionError, match=remedy):
        type("Wrong", (Materializer,), declared)


def test_materializer_without_a_method_is_refused_in_the_definition() -> None:
    """A materializer without `save` or without `load` is refused."""
    for missing in ("save", "load"):
        methods = {name: vars(CsvMaterializer)[name] for name in ("save", "load") if name != missing}
        half = type("Half", (Materializer,), {"encoding": "own.half@1", **methods})
        with pytest.raises(MaterializerDefinitionError, match=f"Half has no method {missing}"):
            register_materializer(half)


def test_summary_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    """A summary that is not a dict is an error that names the materializer; the dict that it asks for is kept."""
    counting = type("Counting", (PlainMaterializer,), {"save": lambda *_: 3})
    with pytest.raises(
        SaveRefused, match=r"Counting\.save returned 3, which is no summary\. Return a dict, or nothing"
    ):
        default_registry().save(r.Plain(3), tmp_path, by=counting)
    counted = type("Counted", (PlainMaterializer,), {"save": lambda *_: {"rows": 3}})
    assert default_registry().save(r.Plain(3), tmp_path, by=counted).summary["rows"] == 3


def test_summary_may_be_missing(tmp_path: Path) -> None:
    """A `save` that returns nothing has an empty summary."""
    silent = type("Silent", (PlainMaterializer,), {"save": lambda *_: None})
    assert default_registry().save(r.Plain(3), tmp_path, by=silent).summary == {
        "code": ["tests.materializers.records:Plain"]
    }


def test_summary_that_is_no_json_is_refused_by_name(tmp_path: Path) -> None:
    """A summary that is not JSON is refused by the materializer's name before anything is stored; Python's number is kept."""
    wordy = type("Wordy", (PlainMaterializer,), {"save": lambda *_: {"rows": np.int64(3)}})
    with pytest.raises(SaveRefused, match=r"Wordy\.save returned is not JSON: .*int64.*dicts of Python's own"):
        default_registry().save(r.Plain(3), tmp_path, by=wordy)
    plain = type("Plain", (PlainMaterializer,), {"save": lambda *_: {"rows": np.int64(3).item()}})
    assert default_registry().save(r.Plain(3), tmp_path, by=plain).summary["rows"] == 3


def test_artifact_is_a_record() -> None:
    """Markers are equal if their fields are."""
    assert Artifact(materializer=CsvMaterializer) == Artifact(materializer=CsvMaterializer)


_OFFERED = """
from airflow_zen import Materializer

class Thing:
    pass

class ThingMaterializer(Materializer):
    types = (Thing, {types})
    encoding = "thing.text@1"

    def save(self, value, directory):
        (directory / "thing").write_text("x")
        return {{}}

    def load(self, directory, encoding, wanted=None):
        return Thing()
"""
_USE = """
import sys, tempfile, pathlib
from airflow_zen.materializers.registry import default_registry
registry = default_registry()
registry.save({"a": (1, 2)}, pathlib.Path(tempfile.mkdtemp()))
assert "thing_library" not in sys.modules
from thing_library import Thing
directory = pathlib.Path(tempfile.mkdtemp())
print(registry.save(Thing(), directory).encoding, type(registry.load(directory, "thing.text@1")).__name__)
"""


def _offered(directory: Path, types: str = "", value: str = "thing_library:ThingMaterializer") -> str:
    """Install a distribution that offers a materializer, use it in another process, and return its output."""
    info = directory / "thing_library-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing-library\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[airflow_zen.materializers]\nthing = {value}\n")
    (directory / "thing_library.py").write_text(_OFFERED.format(types=types))
    code = f"import sys; sys.path.insert(0, {str(directory)!r})\n{_USE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout or done.stderr


def test_entry_point_offers_a_materializer(tmp_path: Path) -> None:
    """A distribution's materializer is used without any registration, and imported only for a type unknown to us."""
    assert _offered(tmp_path) == "thing.text@1 Thing\n"


def test_entry_point_that_wants_a_type_of_ours_is_an_error(tmp_path: Path) -> None:
    """An installed distribution cannot replace the materializer of a type."""
    said = _offered(tmp_path, types="'pandas.DataFrame'")
    assert "AlreadyExists" in said
    assert "thing_library:ThingMaterializer cannot be registered beside pandas.DataFrame" in said


def test_entry_point_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point that cannot be imported, or is none, names its distribution, until that is fixed or uninstalled."""
    monkeypatch.syspath_prepend(tmp_path)
    info = tmp_path / "thing_library-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing-library\nVersion: 1.0\n")
    written = "[airflow_zen.materializers]\nthing = {}\n"
    find = user_defined.entry_point_materializers.__wrapped__
    known = find()
    for value, reason in (("nowhere:Thing", "cannot be imported: .*"), ("pathlib:Path", "is no subclass .*")):
        (info / "entry_points.txt").write_text(written.format(value))
        with pytest.raises(MaterializerNotFound, match=f"thing = {value} of thing-library {reason}Fix or uninstall it"):
            find()
    (info / "entry_points.txt").write_text(written.format("airflow_zen.materializers.scipy:SparseMaterializer"))
    assert len(find()) == len(known) + 1
    shutil.rmtree(info)
    assert find() == known
