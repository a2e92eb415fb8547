"""Promises of `airflow_zen.steps.outputs`."""

import decimal
import importlib
import importlib.util
import sys
from typing import Annotated, Literal, NamedTuple, Optional, TypedDict, Union

import pytest

from airflow_zen.errors import ArtifactNameError, OutputError, StepDefinitionError
from airflow_zen.materializers.annotations import Artifact
from airflow_zen.steps.conformance import unpack_result
from airflow_zen.steps.outputs import Each, Output, Outputs, declared_outputs, output_types
from tests.advice import advice_of


class Pair(NamedTuple):
    train: int
    test: str


class Parts(TypedDict):
    train: int
    test: str


class Named(NamedTuple):
    train: Annotated[int, Artifact("flights/train")]
    test: str


class NamedLater(TypedDict):
    train: "Annotated[Unknown, Artifact('flights/train')]"  # noqa: F821
    test: str


Features = Annotated[int, Artifact("features")]


def _define(annotation, future):
    """Define a function with the annotation as written, evaluated at once or kept as text."""
    names = {"Output": Output, "Annotated": Annotated, "Pair": Pair, "Parts": Parts, "tuple": tuple}
    names |= {"Artifact": Artifact, "Named": Named, "NamedLater": NamedLater, "Features": Features, "Each": Each}
    names |= {"Optional": Optional, "Union": Union, "Literal": Literal}
    head = "from __future__ import annotations\n" if future else ""
    exec(compile(f"{head}def step() -> {annotation}: ...", "<step>", "exec"), names)
    return names["step"]


TWO = Outputs(("train", "test"), is_multiple=True)
DECLARATIONS = [
    ("Output(train=int, test=str)", TWO),
    ('tuple[Annotated[int, "train"], Annotated[str, "test"]]', TWO),
    ("Pair", TWO),
    ("Parts", TWO),
    ("int", Outputs()),
    ("tuple[int, str]", Outputs()),
    ('Annotated[int, "score"]', Outputs(("score",))),
    ("None", Outputs(())),
    ("dict[str, float]", Outputs()),
    ("'int'", Outputs()),
    ("Output(only=int)", Outputs(("only",), is_multiple=True)),
    ('Literal["two words", "a"]', Outputs()),
    ('tuple[Literal["a"], int] | None', Outputs()),
]


@pytest.mark.parametrize("future", [False, True])
@pytest.mark.parametrize(("annotation", "expected"), DECLARATIONS)
def test_names_are_read_from_each_form(annotation, expected, future):
    """Every way to declare outputs gives its names, with and without `from __future__ import annotations`."""
    assert declared_outputs(_define(annotation, future)) == expected


@pytest.mark.parametrize("future", [False, True])
@pytest.mark.parametrize("annotation", [a for a, expected in DECLARATIONS if expected == TWO])
def test_types_are_read_from_each_form(annotation, future):
    """Every way to declare outputs gives their types at run time."""
    assert output_types(_define(annotation, future), TWO) == {"train": int, "test": str}


def test_no_annotation_is_one_output_of_any_type():
    """Without an annotation there is one output, typed by its value."""

    def step(): ...

    assert declared_outputs(step) == Outputs()
    assert output_types(step, Outputs()) == {"output": None}


def test_names_need_no_evaluation_of_types():
    """Output names are known even if the types are imported for type checkers only."""
    step = _define("Output(train=nowhere.DataFrame, test=nowhere.DataFrame)", future=True)
    assert declared_outputs(step) == TWO
    assert output_types(step, TWO) == {"train": None, "test": None}


@pytest.mark.parametrize(
    "annotation",
    ['tuple[Annotated[int, "a"], int]', 'tuple[Annotated[int, "a"], Annotated[int, "a"]]'],
)
@pytest.mark.parametrize("future", [False, True])
def test_half_named_outputs_are_refused(annotation, future):
    """Either all outputs have names of their own, or none has."""
    with pytest.raises(StepDefinitionError, match="different names"):
        declared_outputs(_define(annotation, future))


@pytest.mark.parametrize("result", [(1, "a"), [1, "a"], {"test": "a", "train": 1}, Pair(1, "a")])
def test_results_are_split_by_name(result):
    """A tuple in order and a dict by name give the same outputs."""
    assert unpack_result(result, TWO, {"train": int, "test": str}, "step") == {"train": 1, "test": "a"}


@pytest.mark.parametrize("result", [(1,), (1, "a", 2), {"train": 1}, {"train": 1, "test": "a", "more": 2}, 7, None])
def test_wrong_results_say_what_was_expected(result):
    """The error for a result that does not fit names the step and the declared outputs."""
    with pytest.raises(OutputError, match=r"Step 'step'.*train"):
        unpack_result(result, TWO, {"train": int, "test": str}, "step")


def test_wrong_type_names_output_expected_and_actual():
    """A value of another type is refused before anything is stored."""
    with pytest.raises(OutputError, match=r"'test' is declared str, but the function returned builtins\.int"):
        unpack_result((1, 2), TWO, {"train": int, "test": str}, "step")


TYPED = """
from __future__ import annotations
from typing import TYPE_CHECKING, NamedTuple, Required, TypedDict
from airflow_zen.steps.outputs import Output
if TYPE_CHECKING:
    from decimal import Decimal

class Base(TypedDict):
    train: Required[int]

class Parts(Base):
    test: str

class Pair(NamedTuple):
    train: int
    test: str

def parts() -> Parts: ...
def pair() -> Pair: ...
def quoted() -> Output(train="int", test="str"): ...
def checked() -> Decimal: ...
"""


def test_types_are_read_where_they_were_written(tmp_path):
    """Fields of records, quoted types and names imported for type checkers are all evaluated at run time."""
    path = tmp_path / "typed.py"
    path.write_text(TYPED)
    spec = importlib.util.spec_from_file_location("typed_outputs", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["typed_outputs"] = module
    spec.loader.exec_module(module)
    for name in ("parts", "pair", "quoted"):
        assert output_types(getattr(module, name), TWO) == {"train": int, "test": str}
    assert output_types(module.checked, Outputs()) == {"output": decimal.Decimal}


def test_inherited_fields_are_read_in_their_own_module(tmp_path, monkeypatch):
    """The type of a field that a TypedDict inherits is evaluated with the names of the module that declares it."""
    monkeypatch.syspath_prepend(tmp_path)
    head = "from __future__ import annotations\nfrom typing import TypedDict\n"
    base = "from decimal import Decimal as Exact\nclass Base(TypedDict):\n    train: Exact\n"
    (tmp_path / "base_outputs.py").write_text(head + base)
    derived = "import base_outputs\nclass Parts(base_outputs.Base):\n    test: str\ndef step() -> Parts: ...\n"
    (tmp_path / "derived_outputs.py").write_text(head + derived)
    step = importlib.import_module("derived_outputs").step
    assert output_types(step, declared_outputs(step)) == {"train": decimal.Decimal, "test": str}


TRAIN = Outputs(("train", "test"), is_multiple=True, artifact_names={"train": "flights/train"})
ONE = Outputs(artifact_names={"output": "features"})


@pytest.mark.parametrize("future", [False, True])
@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ('Annotated[int, Artifact("features")]', ONE),
        ('Annotated[int, "score", Artifact("features")]', Outputs(("score",), artifact_names={"score": "features"})),
        ('Annotated[int, Artifact(name="features")] | None', ONE),
        ('Optional[Annotated[int, Artifact("features")]]', ONE),
        ('Union[None, Annotated[int, Artifact("features")]]', ONE),
        ("Features", ONE),
        ("Features | None", ONE),
        (
            "Output(a=Features, b=int)",
            Outputs(("a", "b"), is_multiple=True, artifact_names={"a": "features"}),
        ),
        ('Output(train=Annotated[int, Artifact("flights/train")], test=str)', TRAIN),
        ('tuple[Annotated[int, "train", Artifact("flights/train")], Annotated[str, "test"]]', TRAIN),
        ("Named", TRAIN),
        ("NamedLater", TRAIN),
    ],
)
def test_names_of_artifacts_are_read_from_each_form(annotation, expected, future):
    """Wherever `Artifact("name")` is written, the name is known when the DAG is parsed."""
    assert declared_outputs(_define(annotation, future)) == expected


def test_text_that_is_no_type_is_one_output():
    """Text inside an annotation that cannot be read as a type leaves one output without a name."""
    for annotation in (
        'Float[Array, "batch time"]',
        "Annotated[int]",
        "Annotated[Float['a b'], 3]",
        "lambda: 1",
        "'not a type'",
    ):
        assert declared_outputs(_define(annotation, future=True)) == Outputs()


def test_a_name_is_known_without_the_type():
    """The name is read beside a type that does not exist at run time."""
    for annotation in ('Annotated[Unknown, Artifact("features")]', 'Annotated[Unknown, Artifact("features")] | None'):
        assert declared_outputs(_define(annotation, future=True)) == ONE


def test_a_name_is_known_when_only_type_checkers_import_it(tmp_path):
    """`Artifact` under `if TYPE_CHECKING:`, where linters move it, names the output all the same."""
    path = tmp_path / "moved.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING, Annotated\n"
        "if TYPE_CHECKING:\n"
        "    from antigravity_of_no_such_name import Frame\n"
        "    from airflow_zen import Artifact\n"
        "def step() -> Annotated[Frame, Artifact('features')]: ...\n"
        "def other() -> Annotated[Frame, Frame]: ...\n"
    )
    spec = importlib.util.spec_from_file_location("moved", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert declared_outputs(module.step) == ONE
    assert declared_outputs(module.other) == Outputs()


def test_checks_are_known_in_the_module():
    """Checks of a function that has ended are refused as text; at the top of the file, and not as text, they are found."""
    future, check = "from __future__ import annotations\n", "def low(table): ...\n"
    step = "def step() -> Annotated[Unknown, Artifact('features', checks=[low])]: ...\n"
    inner = "".join(f"    {line}\n" for line in (check + step).splitlines())
    inside = f"def make():\n{inner}    return step\nstep = make()\n"

    def names(code):
        space = {"Annotated": Annotated, "Artifact": Artifact, "Unknown": int}
        exec(compile(code, "<step>", "exec"), space)
        return declared_outputs(space["step"]).artifact_names

    advice_of(
        lambda: names(future + inside),
        r"Define the checks at the top of the file, or write the annotation without `from __future__ import annotations`",
    )
    assert names(future + check + step) == names(inside) == {"output": "features"}


@pytest.mark.parametrize("future", [False, True])
@pytest.mark.parametrize(
    ("annotation", "error", "message"),
    [
        ('Annotated[int, Artifact("/a")]', ArtifactNameError, "cannot be named '/a'"),
        ('Annotated[list[int], Each, Artifact("a")]', StepDefinitionError, "Leave the name out"),
        ('tuple[Annotated[int, Artifact("a")], Annotated[int, Artifact("b")]]', StepDefinitionError, '"first"'),
        ('Output(a=Annotated[int, Artifact("x")], b=Annotated[int, Artifact("x")])', StepDefinitionError, "Rename one"),
    ],
)
def test_invalid_names_are_refused(annotation, error, message, future):
    """An invalid name, a name used twice, and a name of several artifacts is an error when the DAG is parsed."""
    with pytest.raises(error, match=message):
        declared_outputs(_define(annotation, future))
