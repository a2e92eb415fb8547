"""Promises about the code that is sent: what a function needs of its file, and nothing of Airflow."""

import json
import sys
from importlib import import_module
from types import ModuleType

import pytest

from airflow_zen import load
from airflow_zen.errors import RuntimeUnavailable
from airflow_zen.runtimes.code_shipment import ship_code


def kept_lines(shipped, name):
    """Return the first lines of the statements that are sent of a module."""
    (module,) = (each for each in shipped.modules if each.name.endswith(name))
    lines = module.text.splitlines()
    return [lines[line - 1].strip() for line, _ in module.statements]


_FILE = """
import os
import random
import warnings
from airflow.sdk import Asset, dag, task
from airflow_zen import ml_step
from functools import lru_cache

warnings.filterwarnings("ignore")
random.seed(0)
LIMIT = 3
UNUSED = Asset("unused")
options = dict(cache=False)

@lru_cache
def helper(value):
    return value * LIMIT

@task
def other(): ...

@ml_step(**options)
def step(model: int, frame: "list[int]") -> int:
    UNUSED = random.random()
    return helper(model)

@dag(schedule=None)
def pipeline():
    frame = other()
    model = step(1, [2])

if os.environ.get("CI"):
    random.seed(1)

made = pipeline()
"""


def test_only_what_a_function_needs_is_sent(load_dag_file):
    """Statements that bind needed names, and calls on what they import; neither DAGs, tasks nor unused imports."""
    shipped = ship_code(load_dag_file(_FILE).step.function, [], json.dumps)
    assert kept_lines(shipped, "pipeline") == [
        "import random",
        "from functools import lru_cache",
        "random.seed(0)",
        "LIMIT = 3",
        "def helper(value):",
        'def step(model: int, frame: "list[int]") -> int:',
    ]


_NESTED = """
from airflow.sdk import dag
from airflow_zen import ml_step

BASE = 10

@dag(schedule=None)
def pipeline():
    import math
    offset = 5
    def helper(value):
        return math.floor(value) + offset
    @ml_step
    def inner(value: float) -> int:
        return helper(value) + BASE
    inner(2.5)
"""


def test_a_step_inside_a_dag_function(run_small):
    """A step that is defined in the function of its DAG has that function's helpers, imports and values."""
    run = run_small(_NESTED)
    assert run.states == {"inner": "success"}, run.tasks[-1].error
    assert load(run.xcom("inner")) == 17


_PROJECT = {
    "shared_steps/__init__.py": "",
    "shared_steps/plain.py": "from .constants import TEN\n\ndef ten():\n    return TEN\n",
    "shared_steps/constants.py": "TEN = 10\n",
    "shared_steps/tasks.py": (
        "from airflow.sdk import Variable, task\nfrom airflow_zen import ml_step\n\n"
        "def two():\n    return 2\n\n@task\ndef reads():\n    return Variable.get('x')\n"
    ),
}
_IMPORTS = """
from airflow.sdk import dag
from airflow_zen import ml_step
from shared_steps.tasks import reads, two

@ml_step
def adds(value: int) -> int:
    from shared_steps import plain
    return plain.ten() + two() + value

@dag(schedule=None)
def pipeline():
    adds(1)
"""


def test_modules_of_the_project(run_small, tmp_path, monkeypatch):
    """Modules that are imported, inside functions too, are sent; of one that imports Airflow only what is needed."""
    for name, text in _PROJECT.items():
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "project"))
    try:
        run = run_small(_IMPORTS)
        assert run.states == {"adds": "success"}, run.tasks[-1].error
        assert load(run.xcom("adds")) == 13
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "shared_steps"]:
            del sys.modules[name]


def test_functions_of_distributions_are_imported_there():
    """Of an installed library nothing is sent."""
    shipped = ship_code(json.dumps, [], json.dumps)
    assert (shipped.module, shipped.qualname, shipped.modules) == ("json", "dumps", ())


def test_a_lambda_is_refused():
    """A function without a name of its own cannot be found on the other side; a `def` in a file is."""
    with pytest.raises(RuntimeUnavailable, match="Write the step as a def in a file"):
        ship_code(lambda value: value, [], json.dumps)
    assert ship_code(_as_it_is, [], json.dumps).qualname == "_as_it_is"


def _as_it_is(value):
    return value


def test_code_without_a_text_is_refused(import_folder, monkeypatch):
    """A function of a module that was made without a file has no text to send; in a file it has."""
    code = "def double(value):\n    return value * 2\n"
    made = ModuleType("zen_made")
    exec(code, vars(made))
    monkeypatch.setitem(sys.modules, "zen_made", made)
    with pytest.raises(RuntimeUnavailable, match="'zen_made' has no source text. Put its code into a file"):
        ship_code(made.double, [], json.dumps)
    (import_folder / "zen_written.py").write_text(code)
    shipped = ship_code(import_module("zen_written").double, [], json.dumps)
    assert [module.name for module in shipped.modules] == ["zen_written"]


_CONTEXT = """
from airflow.sdk import dag
from airflow_zen import ml_step

@ml_step
def takes(value: int, ti=None) -> int:
    return value

@ml_step
def reads(value: int) -> int:
    from airflow.sdk import Variable
    return value

@ml_step
def day(value: str) -> str:
    return value

@dag(schedule=None)
def pipeline():
    CALL
"""


def test_objects_of_airflow_are_refused(run_small):
    """An argument that Airflow's context fills in with an object, and an import of Airflow there, say what works."""
    taken = run_small(_CONTEXT.replace("CALL", "takes(1)")).tasks[-1].error
    assert isinstance(taken, RuntimeUnavailable)
    assert "Argument 'ti', which Airflow's context fills in, is an object of Airflow" in str(taken)
    assert "a value of its own, such as '{{ ds }}'" in str(taken)
    advised = run_small(_CONTEXT.replace("CALL", "day('{{ ds }}')"), run_id="manual__3")
    assert load(advised.xcom("day")).count("-") == 2
    imported = run_small(_CONTEXT.replace("CALL", "reads(1)"), run_id="manual__2").tasks[-1].error
    assert isinstance(imported, ImportError)
    assert "Airflow is not in Python(path=" in imported.__notes__[0]


@pytest.mark.parametrize("has_init", [True, False])
def test_a_step_of_a_package(run_small, import_folder, has_init):
    """A step that the DAG file imports from a package, with `__init__.py` or without, is sent with its packages."""
    steps = import_folder / "shop_pipeline/steps"
    steps.mkdir(parents=True)
    if has_init:
        (steps.parent / "__init__.py").write_text("RATE = 2\n")
        (steps / "__init__.py").write_text("")
    rate = "from shop_pipeline import RATE" if has_init else "RATE = 2"
    (steps / "prices.py").write_text(
        f"from airflow_zen import ml_step\n{rate}\n\n@ml_step\ndef price(value: int) -> int:\n    return value * RATE\n"
    )
    run = run_small(
        "from airflow.sdk import dag\nfrom shop_pipeline.steps.prices import price\n\n"
        "@dag(schedule=None)\ndef pipeline():\n    price(3)\n"
    )
    assert run.states == {"price": "success"}, run.tasks[-1].error
    assert load(run.xcom("price")) == 6
