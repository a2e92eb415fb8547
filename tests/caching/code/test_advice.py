"""Promises of refused code: rewritten as the refusal says, it has a key."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflow_zen.caching.code import fingerprint_code
from airflow_zen.errors import FingerprintError
from tests.caching.code.project import Project


class Advice(NamedTuple):
    """Code that is refused, some words of what to do, and the code that was changed so, in each way that is offered.

    `argument` is one with which the refused code runs.
    """

    name: str
    refused: str
    words: str
    advised: Sequence[str] = ()
    argument: Any = 1


CASES = [
    Advice(
        "code that cannot be seen",
        "def step(x):\n    return eval(x)\n",
        r"Import what it needs, or name it by a literal or in a dictionary",
        [
            "from math import sqrt\ndef step(x):\n    return sqrt(x)\n",
            "import importlib\ndef step(x):\n    return importlib.import_module('math').sqrt(x)\n",
            "import math\nFUNCTIONS = {'sqrt': math.sqrt}\ndef step(x, name):\n    return FUNCTIONS[name](x)\n",
        ],
        "1 + 1",
    ),
    Advice(
        "names that cannot be seen",
        "class A:\n    pass\nclass B(A):\n    pass\ndef step(x):\n    return len(A.__subclasses__())\n",
        "Name what it needs, for example in a dictionary",
        ["class A:\n    pass\nclass B(A):\n    pass\nKINDS = {'b': B}\ndef step(x):\n    return [kind() for kind in KINDS.values()]\n"],
    ),
    Advice(
        "code that makes code",
        "import types\ndef made():\n    return 1\ndef step(x):\n    return types.FunctionType(made.__code__, {})()\n",
        "Write it as a function",
        ["def made():\n    return 1\ndef step(x):\n    return made()\n"],
    ),
    Advice(
        "values of the task run",
        "from airflow.sdk import get_current_context\nREADERS = {'c': get_current_context}\ndef step(x):\n    return READERS['c']()['run_id']\n",
        "Take them as parameters",
        ["def step(x, ds=None, params=None):\n    return x, ds, params['depth']\n"],
    ),
    Advice(
        "value pushed to XCom",
        "from airflow.sdk import get_current_context\ndef step(x):\n    get_current_context()['ti'].xcom_push('rows', 3)\n    return x\n",
        "Return values instead of pushing them|Read its members by constant names",
        ["def step(x):\n    return x, 3\n"],
    ),
    Advice(
        "members of the context",
        "from airflow.sdk import get_current_context\ndef step(x):\n    context = get_current_context()\n    return context[x]\n",
        "Read its members by constant names",
        [
            "from airflow.sdk import get_current_context\ndef step(x):\n    context = get_current_context()\n    return context['params']['depth']\n",
            "def step(x, params=None):\n    return params[x]\n",
        ],
        "run_id",
    ),
    Advice(
        "environment of the task run",
        "import os\ndef step(x):\n    return os.environ['AIRFLOW_CTX_DAG_RUN_ID']\n",
        "Take the value as a parameter",
        ["def step(x, run_id=None):\n    return run_id\n"],
    ),
    Advice(
        "name in a query",
        "import pandas as pd\ndef step(n):\n    limit = 0\n    return pd.DataFrame({'a': [1]}).query(f'a > @{n}')\n",
        "Write the name",
        [
            "def step(frame, limit):\n    return frame.query('a > @limit')\n",
            "def step(frame, limit):\n    return frame.query(f'a > {limit}')\n",
        ],
        "limit",
    ),
    Advice(
        "class made by a call",
        "import pydantic\nM = pydantic.create_model('M', x=(int, 1))\ndef step(x):\n    return M().x\n",
        "Write it as a class",
        ["import pydantic\nclass M(pydantic.BaseModel):\n    x: int = 1\ndef step(x):\n    return M()\n"],
    ),
    Advice(
        "made by exec",
        "space = {'__name__': __name__}\nexec('def step(x): return x', space)\nstep = space['step']\n",
        "Define it in a file",
        ["def step(x):\n    return x\n"],
    ),
    Advice(
        "option of a decorator",
        "import tenacity\nN = 2\nN = 3\n@tenacity.retry(stop=tenacity.stop_after_attempt(N))\ndef step(x):\n    return x\n",
        "Give it a constant of the module",
        ["import tenacity\nN = 2\n@tenacity.retry(stop=tenacity.stop_after_attempt(N))\ndef step(x):\n    return x\n"],
    ),
    Advice(
        "decorator of a function that ended",
        "import tenacity\ndef make(n):\n    @tenacity.retry(stop=tenacity.stop_after_attempt(n))\n    def step(x):\n        return x\n    return step\nstep = make(2)\n",
        "Decorate a function of the module",
        ["import tenacity\n@tenacity.retry(stop=tenacity.stop_after_attempt(2))\ndef step(x):\n    return x\n"],
    ),
    Advice(
        "wrapped by a call",
        "import joblib\ndef double(x):\n    return 2 * x\ndoubled = joblib.Memory('memory', verbose=0).cache(double)\ndef step(x):\n    return doubled(x)\n",
        "Wrap it with a decorator",
        ["import joblib\nmemory = joblib.Memory('memory', verbose=0)\n@memory.cache\ndef double(x):\n    return 2 * x\ndef step(x):\n    return double(x)\n"],
    ),
    Advice(
        "value that is used up",
        "numbers = iter([1, 2])\ndef step(x):\n    return next(numbers)\n",
        "Make it inside the function, pass an artifact or a plain value",
        ["def step(x):\n    return next(iter([1, 2]))\n", "def step(x, numbers=(1, 2)):\n    return numbers[0]\n"],
    ),
    Advice(
        "wrapped too often",
        "from functools import lru_cache\ndef step(x):\n    return x\nfor _ in range(400):\n    step = lru_cache(step)\n",
        "nested too deeply",
    ),
    Advice(
        "file that cannot be parsed",
        "import pathlib\npathlib.Path(__file__).write_text('def step(x:')\ndef step(x):\n    return x\n",
        r"flow\.py cannot be parsed",
    ),
    Advice(
        "class that a pickle names",
        "import pickle\nimport polars as pl\nclass Gone:\n    pass\nTEXT = pickle.dumps(Gone())\ndel Gone\nK = pl.col('a').map_elements(lambda value: len(TEXT), return_dtype=pl.Int64)\ndef step(x):\n    return pl.DataFrame({'a': [x]}).select(K)\n",
        r"A pickle names flow\.Gone, which is not found",
    ),
    Advice(
        "module without source",
        "import importlib, pathlib, py_compile\nbare = pathlib.Path(__file__).with_name('bare.py')\nbare.write_text('A = 1')\npy_compile.compile(bare, cfile=bare.with_suffix('.pyc'))\nbare.unlink()\nimportlib.invalidate_caches()\nimport bare\ndef step(x):\n    return getattr(bare, x)\n",
        r"bare has no source",
        argument="A",
    ),
    Advice(
        "compiled function under another name",
        "from importlib.util import find_spec, module_from_spec\nspec = find_spec('_heapq')\ncompiled = module_from_spec(spec)\nspec.loader.exec_module(compiled)\nheappop = compiled.heappop\nheappop.__module__ = __name__\ndef step(x):\n    return heappop([x])\n",
        r"flow\.heappop is compiled into a file that is not found",
    ),
]  # fmt: skip

# Python 3.13 knows the line of the class statement that made a class.
if sys.version_info < (3, 13):
    CASES.append(
        Advice(
            "several classes of one name",
            "import dataclasses\nif dataclasses:\n    @dataclasses.dataclass(order=True)\n    class A:\n        a: int = 1\nelse:\n    @dataclasses.dataclass\n    class A:\n        a: int = 2\ndef step(x):\n    return A().a\n",
            "Give each class its own name, and assign the one to use",
            ["import dataclasses\nif dataclasses:\n    @dataclasses.dataclass(order=True)\n    class B:\n        a: int = 1\n    A = B\nelse:\n    @dataclasses.dataclass\n    class C:\n        a: int = 2\n    A = C\ndef step(x):\n    return A().a\n"],
        )
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_code_that_was_changed_as_the_refusal_says_has_a_key(
    case: Advice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refused code has no key; in each way that the refusal offers it has one, which the next run finds again."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FingerprintError, match=rf"(?:{case.words}).*[Ss]et cache=False"):
        Project(tmp_path / "refused", {"flow.py": case.refused}).code()
    for number, text in enumerate(case.advised):
        keys = [Project(tmp_path / f"{number}{copy}", {"flow.py": text}).key() for copy in "ab"]
        assert keys[0] == keys[1]


def test_a_reloaded_module_has_a_key(tmp_path: Path) -> None:
    """A function whose file was edited is refused; once the module is reloaded it has the key of the new text."""
    project = Project(tmp_path, {"flow.py": "def step(x):\n    return x\n"})
    with project.imported() as flow:
        (tmp_path / "flow.py").write_text(text := "def step(x):\n    return x + 10\n")
        with pytest.raises(FingerprintError, match=r"flow\.py holds now\. Restart the process or reload the module"):
            fingerprint_code(flow.step)
        reloaded = fingerprint_code(importlib.reload(flow).step)
    assert reloaded == Project(tmp_path / "restarted", {"flow.py": text}).code()
