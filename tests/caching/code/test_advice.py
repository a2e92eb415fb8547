"""Promises of refused code: rewritten as the refusal says, it has a key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from airflow_zen.errors import FingerprintError
from tests.caching.code.project import Project


class Advice(NamedTuple):
    """Code that is refused, some words of what to do, and the code that was changed so, in each way that is offered."""

    name: str
    refused: str
    words: str
    advised: Sequence[str]


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
    ),
    Advice(
        "names that cannot be seen",
        "class A:\n    pass\nclass B(A):\n    pass\ndef step(x):\n    return [kind() for kind in A.__subclasses__()]\n",
        "Name what it needs, for example in a dictionary",
        ["class A:\n    pass\nclass B(A):\n    pass\nKINDS = {'b': B}\ndef step(x):\n    return [kind() for kind in KINDS.values()]\n"],
    ),
    Advice(
        "code that makes code",
        "import types\ndef step(x):\n    return types.FunctionType(x, {})\n",
        "Write it as a function",
        ["def made():\n    return 1\ndef step(x):\n    return made()\n"],
    ),
    Advice(
        "values of the task run",
        "from airflow.sdk import get_current_context\nREADERS = {'c': get_current_context}\ndef step(x):\n    return READERS['c']()\n",
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
    ),
    Advice(
        "environment of the task run",
        "import os\ndef step(x):\n    return os.environ['AIRFLOW_CTX_DAG_RUN_ID']\n",
        "Take the value as a parameter",
        ["def step(x, run_id=None):\n    return run_id\n"],
    ),
    Advice(
        "name in a query",
        "def step(frame, n):\n    return frame.query(f'a > @{n}')\n",
        "Write the name",
        [
            "def step(frame, limit):\n    return frame.query('a > @limit')\n",
            "def step(frame, limit):\n    return frame.query(f'a > {limit}')\n",
        ],
    ),
    Advice(
        "class made by a call",
        "import pydantic\nM = pydantic.create_model('M', x=(int, 1))\ndef step(x):\n    return M()\n",
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
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_code_that_was_changed_as_the_refusal_says_has_a_key(case: Advice, tmp_path: Path) -> None:
    """The refused code has no key; in each way that the refusal offers it has one, which the next run finds again."""
    with pytest.raises(FingerprintError, match=case.words):
        Project(tmp_path / "refused", {"flow.py": case.refused}).code()
    for number, text in enumerate(case.advised):
        keys = [Project(tmp_path / f"{number}{copy}", {"flow.py": text}).key() for copy in "ab"]
        assert keys[0] == keys[1]
