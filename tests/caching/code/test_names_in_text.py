"""Names inside texts, dunder constants, docstrings that code reads, and what a task run alone knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_zen.errors import FingerprintError
from tests.caching.code.project import DIFFERENT, SAME, Edit, Project, flow, pair

QUERY = "LIMIT = 3\ndef step(frame):\n    return frame.query('bill < @LIMIT and months > 2')\n"
PD = "import pandas as pd\nLIMIT = 3\n"
VERSION = "from helpers import __version__\ndef step(x):\n    return __version__\n"

TEXTS = [
    flow("query", QUERY, "LIMIT = 3", "LIMIT = 4", DIFFERENT),
    flow("column like a constant in a query", QUERY.replace("LIMIT = 3", "LIMIT = 3\nmonths = 1"), "months = 1", "months = 2", SAME),
    flow("query with a local variable", QUERY.replace("    return", "    LIMIT = 1\n    return"), "LIMIT = 3", "LIMIT = 4", SAME),
    flow("formatted query", QUERY.replace("'bill <", "f'{x} <").replace("(frame)", "(frame, x)"), "LIMIT = 3", "LIMIT = 4", DIFFERENT),
    flow("query of several lines", "LIMIT = 3\ndef step(frame):\n    return frame.query('''\n        bill < @LIMIT\n    ''')\n", "LIMIT = 3", "LIMIT = 4", DIFFERENT),
    flow("query in a constant", "LIMIT = 3\nQ = 'bill < @LIMIT'\ndef step(frame):\n    return frame.query(Q)\n", "LIMIT = 3", "LIMIT = 4", DIFFERENT),
    flow("function in a query", "def limit(x):\n    return 3\ndef step(frame):\n    return frame.query('bill < @limit(months)')\n", "return 3", "return 4", DIFFERENT),
    pair("attribute of a module in a query", "import helpers\ndef step(frame):\n    return frame.query('bill < @helpers.LIMIT')\n", "LIMIT = 3\nOTHER = 1\n", "LIMIT = 3", "LIMIT = 4", DIFFERENT),
    pair("other constant of a module in a query", "import helpers\ndef step(frame):\n    return frame.query('bill < @helpers.LIMIT')\n", "LIMIT = 3\nOTHER = 1\n", "OTHER = 1", "OTHER = 2", SAME),
    flow("assigned by eval of a frame", "RATE = 3\ndef step(frame):\n    return frame.eval('total = bill * @RATE')\n", "RATE = 3", "RATE = 4", DIFFERENT),
    flow("pandas.eval", PD + "def step(x):\n    return pd.eval('LIMIT * 2')\n", "LIMIT = 3", "LIMIT = 4", DIFFERENT),
    flow("selection by loc and eval", PD + "def step(frame):\n    return frame.loc[frame.eval('a > @LIMIT')]\n", "LIMIT = 3", "LIMIT = 4", DIFFERENT),
    flow("table in SQL of polars", "import polars as pl\nPRICES = pl.DataFrame({'a': [1]})\ndef step(x):\n    return pl.sql('SELECT a FROM PRICES').collect().height\n", "len" if False else "[1]", "[2]", DIFFERENT),
    flow("joined table in SQL", "import polars as pl\nA = [1]\nB = [1]\ndef step(x):\n    return pl.sql('select * from A join B using (k)')\n", "B = [1]", "B = [2]", DIFFERENT),
    flow("text with an address", "b = 1\ndef step(x):\n    return 'mail a@b.com'\n", "b = 1", "b = 2", SAME),
    pair("version of the project", VERSION, "__version__ = '1.0'\n", "1.0", "1.1", DIFFERENT),
    pair("version by the module", "import helpers\ndef step(x):\n    return helpers.__version__\n", "__version__ = '1.0'\n", "1.0", "1.1", DIFFERENT),
    pair("author, unread", VERSION, "__version__ = '1.0'\n__author__ = 'A'\n", "'A'", "'B'", SAME),
    flow("schema version of the file itself", "__schema__ = 3\ndef step(x):\n    return __schema__\n", "__schema__ = 3", "__schema__ = 4", DIFFERENT),
    flow("computed dunder", "PARTS = (1, 2)\n__version__ = '.'.join(map(str, PARTS))\ndef step(x):\n    return __version__\n", "(1, 2)", "(1, 3)", DIFFERENT),
    Edit("version of the package", {"flow.py": "from pkg import __version__\ndef step(x):\n    return __version__\n", "pkg/__init__.py": "from ._version import __version__\n", "pkg/_version.py": "__version__ = '1'\n"}, "pkg/_version.py", "'1'", "'2'", DIFFERENT),
    flow("docstring of the module that code reads", "'A'\ndef step(x):\n    return __doc__\n", "'A'", "'B'", DIFFERENT),
    flow("name of the module", "def step(x):\n    return __name__\n", "return", "# file\n    return", SAME),
]  # fmt: skip

TOOL = "def weather(city):\n    'Return the weather.'\n    return city\n"
SCHEMA = "import pydantic\nclass Answer(pydantic.BaseModel):\n    'An answer.'\n    text: str = pydantic.Field('', description='The text.')\n"

DOCSTRINGS = [
    flow("docstring read by its attribute", TOOL + "def step(x):\n    return weather.__doc__\n", "Return the", "Tell the", DIFFERENT),
    flow("docstring read by inspect", "import inspect\n" + TOOL + "def step(x):\n    return inspect.getdoc(weather)\n", "Return the", "Tell the", DIFFERENT),
    flow("docstring that a helper reads", TOOL + "def prompt(f):\n    return f.__doc__\ndef step(x):\n    return prompt(weather)\n", "Return the", "Tell the", DIFFERENT),
    flow("docstring of a tool", "from openai import chat\n".replace("from openai import chat", "import json") + TOOL + "def ask(text, tools):\n    return json.dumps(text)\ndef step(x):\n    return ask(x, tools=[weather])\n", "Return the", "Tell the", DIFFERENT),
    flow("docstring of a model with a schema", SCHEMA + "def step(x):\n    return Answer.model_json_schema()\n", "An answer.", "The answer.", DIFFERENT),
    flow("docstring of a model that is passed on", SCHEMA + "def step(x, ask):\n    return ask(Answer)\n", "An answer.", "The answer.", DIFFERENT),
    flow("description of a field", SCHEMA + "def step(x, ask):\n    return ask(Answer)\n", "The text.", "A text.", DIFFERENT),
    flow("docstring of what a library decorates", "import pydantic\n@pydantic.validate_call\n" + TOOL + "def step(x):\n    return weather(x)\n", "Return the", "Tell the", DIFFERENT),
    flow("docstring of a dataclass", "from dataclasses import dataclass\n@dataclass\nclass A:\n    'A.'\n    x: int = 1\ndef step(x):\n    return A()\n", "'A.'", "'B.'", SAME),
    flow("docstring of an estimator", "from sklearn.base import BaseEstimator\nclass A(BaseEstimator):\n    'A.'\ndef step(x):\n    return A()\n", "'A.'", "'B.'", SAME),
    flow("docstring of a cached helper", "import functools\n@functools.lru_cache\n" + TOOL + "def step(x):\n    return weather(x)\n", "Return the", "Tell the", SAME),
]  # fmt: skip


@pytest.mark.parametrize("edit", [*TEXTS, *DOCSTRINGS], ids=lambda edit: edit.name)
def test_edit(edit: Edit, tmp_path: Path) -> None:
    """The key changes with what a text names or documents, where code runs or reads the text."""
    edit.check(tmp_path)


CONTEXT = {
    "by the module": "import airflow.sdk as sdk\ndef step(x):\n    return sdk.get_current_context()\n",
    "in a method": "from airflow.sdk import get_current_context\nclass A:\n    def run(self):\n        return get_current_context()\ndef step(x):\n    return A().run()\n",
    "passed on": "from airflow.sdk import get_current_context\ndef call(f):\n    return f()\ndef step(x):\n    return call(get_current_context)\n",
    "in a constant": "from airflow.sdk import get_current_context\nREADERS = {'context': get_current_context}\ndef step(x):\n    return READERS['context']()\n",
    "value pushed by hand": "from airflow.sdk import get_current_context\ndef step(x):\n    get_current_context()['ti'].xcom_push('rows', 3)\n    return x\n",
    "value pulled by hand": "from airflow.models.xcom import XCom\ndef step(x):\n    return XCom.get_one(key='a')\n",
    "internals": "from airflow.sdk.execution_time import task_runner\ndef step(x):\n    return task_runner.SUPERVISOR_COMMS\n",
    "environment": "import os\ndef step(x):\n    return os.environ['AIRFLOW_CTX_DAG_RUN_ID']\n",
    "environment by getenv": "import os\ndef run():\n    return os.getenv('AIRFLOW_CTX_TRY_NUMBER')\ndef step(x):\n    return run()\n",
}  # fmt: skip


@pytest.mark.parametrize("text", CONTEXT.values(), ids=CONTEXT)
def test_what_only_a_task_run_knows_is_refused(text: str, tmp_path: Path) -> None:
    """Code that reads the task run's context is refused, and the reason says to take a parameter instead."""
    with pytest.raises(FingerprintError, match="parameter") as refusal:
        Project(tmp_path, {"flow.py": text}).code()
    assert "cache=False" in str(refusal.value)


@pytest.mark.parametrize(
    "call", ["query(f'a > @{n}')", 'query(f"a > @{n}_x")', "eval(rf'b = a + @{n}')", "query(expr=f'a > @{n}')"]
)
def test_computed_name_in_a_query_is_refused(call: str, tmp_path: Path) -> None:
    """A query whose text computes the name of a variable is not cached, and one with the value or the name is."""
    text = "def step(table, n='LIMIT', limit=3):\n    return table.{}\n"
    with pytest.raises(FingerprintError, match="computes the name of a variable in a query"):
        Project(tmp_path, {"flow.py": text.format(call)}).key()
    for written in ("query(f'a > {limit}')", "query('a > @limit')", "assign(mail=f'a@{n}')"):
        assert Project(tmp_path, {"flow.py": text.format(written)}).key()
