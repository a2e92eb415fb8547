"""Edits of values of libraries that code reads as constants, each with the answer that its cache key must give."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from airflow_zen.caching.code import fingerprint_code
from airflow_zen.fingerprint import combine_fingerprints
from tests.caching.code.project import DIFFERENT, SAME, Edit, Project, flow

READS_K = "\ndef step(x):\n    return K\n"


def constant(name: str, text: str, old: str, new: str, same: bool = DIFFERENT) -> Edit:
    """An edit of the text that makes the constant `K`."""
    return flow(name, text + READS_K, old, new, same)


STANDARD_LIBRARY = [
    constant("parsed options", "import argparse\np = argparse.ArgumentParser()\np.add_argument('--x', default=1)\nK = p.parse_args([])", "default=1", "default=2"),
    constant("parser of options", "import argparse\nK = argparse.ArgumentParser()\nK.add_argument('--x', default=1)", "default=1", "default=2"),
    constant("configuration", "import configparser\nK = configparser.ConfigParser()\nK.read_string('[a]\\nx=1')", "x=1", "x=2"),
    constant("configuration read before", "import configparser\nK = configparser.ConfigParser()\nK.read_string('[a]\\nx=1')", "K.read", "K.sections()\nK.read", SAME),
    constant("configuration without interpolation", "import configparser\nK = configparser.ConfigParser()\nK.read_string('[a]\\nx=1')", "ConfigParser()", "RawConfigParser()"),
    constant("decimal context", "import decimal\nK = decimal.Context(prec=3)", "prec=3", "prec=4"),
    constant("thread-local", "import threading\nK = threading.local()\nK.x = 1", "x = 1", "x = 2"),
    constant("empty thread-local", "import threading\nK = threading.local()", "local()", "local()  # empty", SAME),
    constant("context variable", "import contextvars\nK = contextvars.ContextVar('a', default={'x': 1})", "'x': 1", "'x': 2"),
    constant("condition", "import threading\nK = threading.Condition()", "Condition()", "Semaphore(2)", SAME),
    constant("lock between processes", "import multiprocessing\nK = multiprocessing.Lock()", "Lock()", "RLock()", SAME),
    constant("lock inside an instance", "import threading\nclass A:\n    def __init__(self, n):\n        self.n, self.lock = n, threading.Lock()\nK = A(1)", "A(1)", "A(2)"),
    constant("text template", "import string\nK = string.Template('a $x')", "'a $x'", "'b $x'"),
    constant("method of a text template", "import string\nK = string.Template('a $x').substitute", "'a $x'", "'b $x'"),
    constant("partial method", "import functools\ndef f(self, x):\n    return x\nK = [functools.partialmethod(f, 1)]", "return x", "return -x"),
    constant("argument of a partial method", "import functools\ndef f(self, x):\n    return x\nK = [functools.partialmethod(f, 1)]", "(f, 1)", "(f, 2)"),
    constant("chained mappings", "import collections\nK = collections.ChainMap({'a': 1}, {'a': 2})", "{'a': 1}, {'a': 2}", "{'a': 2}, {'a': 1}"),
    constant("normal distribution", "import statistics\nK = statistics.NormalDist(0, 1)", "0, 1", "0, 2"),
    constant("JSON encoder", "import json\nK = json.JSONEncoder(indent=1)", "indent=1", "indent=2"),
    constant("method of a pattern", "import re\nK = re.compile('a').sub", "'a'", "'b'"),
    constant("weak reference", "import weakref\nclass A:\n    n = 1\na = A()\nK = weakref.ref(a)", "n = 1", "n = 2"),
    constant("queue", "import queue\nK = queue.Queue(3)", "Queue(3)", "Queue(4)"),
]  # fmt: skip

OWN_INSTANCES = [
    constant("tree with links to its root", "class Node:\n    def __init__(self, n, up=None):\n        self.n, self.up, self.down = n, up, []\nK = Node(1)\nK.down.append(Node(2, K))", "Node(2, K)", "Node(3, K)"),
    constant("equal tree", "class Node:\n    def __init__(self, n, up=None):\n        self.n, self.up, self.down = n, up, []\nK = Node(1)\nK.down.append(Node(2, K))", "K = Node(1)", "K = Node(n=1)", SAME),
    constant("link to another node", "class Node:\n    def __init__(self):\n        self.to = self\nK = Node()\nK.to = Node()", "K.to = Node()", "K.to.to = K"),
    constant("attribute beside what pickle has", "import datetime\nclass Day(datetime.date):\n    pass\nK = Day(2026, 1, 1)\nK.note = 'a'", "'a'", "'b'"),
    constant("cached property of a library's class", "import decimal\nclass Money(decimal.Decimal):\n    unit = 'EUR'\nK = Money('1.0')", "'1.0'", "'1.00'"),
    constant("content that a pickle of an own class leaves out", "import decimal\nclass Money(decimal.Decimal):\n    def __reduce__(self):\n        return Money, ('1',)\nK = Money('2')", "Money('2')", "Money('3')"),
    constant("state that a pickle of an own class leaves out", "class A:\n    def __init__(self, n):\n        self.n = n\n    def __getstate__(self):\n        return {}\nK = A(2)", "A(2)", "A(3)"),
    constant("registry of functions", "class Registry:\n    def __init__(self):\n        self.found = {}\n    def add(self, f):\n        self.found[f.__name__] = f\n        return f\nK = Registry()\n@K.add\ndef clean(x):\n    return x", "return x", "return -x"),
    constant("class as a value", "class A:\n    n = 1\nK = {'a': A}", "n = 1", "n = 2"),
]  # fmt: skip

NUMERIC = [
    constant("legacy generator", "import numpy as np\nK = np.random.RandomState(1)", "State(1)", "State(2)"),
    constant("legacy generator that has drawn", "import numpy as np\nK = np.random.RandomState(1)\nK.rand()", "K.rand()", "K.rand(2)"),
    constant("generator's bits", "import numpy as np\nK = np.random.Generator(np.random.PCG64(1))", "PCG64(1)", "MT19937(1)"),
    constant("sequence of seeds", "import numpy as np\nK = np.random.SeedSequence(1)", "nce(1)", "nce(1).spawn(1)[0]"),
    constant("vectorized function", "import numpy as np\ndef f(x):\n    return x\nK = np.vectorize(f)", "return x", "return -x"),
    constant("option of a vectorized function", "import numpy as np\ndef f(x):\n    return x\nK = np.vectorize(f)", "(f)", "(f, otypes=[float])"),
    constant("universal function", "import numpy as np\nK = {'f': np.sin}", "np.sin", "np.cos"),
    constant("polynomial", "import numpy as np\nK = np.polynomial.Polynomial([1, 2])", "[1, 2]", "[2, 1]"),
    constant("frozen distribution", "import scipy.stats\nK = scipy.stats.norm(0, 1)", "(0, 1)", "(0, 2)"),
    constant("frozen distribution again", "import scipy.stats\nK = scipy.stats.norm(0, 1)", "K =", "import numpy as np\ndrawn = np.random.rand()\nK =", SAME),
    constant("interpolation", "from scipy.interpolate import interp1d\nK = interp1d([0, 1], [0, 1])", "[0, 1])", "[0, 2])"),
    constant("sparse matrix", "import scipy.sparse as s\nK = s.csr_array([[1, 0]])", "[[1, 0]]", "[[0, 1]]"),
]  # fmt: skip

TABLES = [
    constant("polars expression", "import polars as pl\nK = pl.col('a') > 1", "> 1", "> 2"),
    constant("polars expressions in order", "import polars as pl\nK = [pl.col('a').sum().over('b'), pl.lit(1)]", "over('b')", "over('c')"),
    constant("function in a polars expression", "import polars as pl\ndef f(x):\n    return x\nK = pl.col('a').map_elements(f, return_dtype=pl.Int64)", "return x", "return -x"),
    constant("polars time", "import polars as pl\nK = pl.Datetime('us')", "'us'", "'ms'"),
    constant("polars categories", "import polars as pl\nK = pl.Enum(['a', 'b'])", "'a', 'b'", "'b', 'a'"),
    constant("polars schema", "import polars as pl\nK = pl.Schema({'a': pl.List(pl.Int8)})", "Int8", "Int16"),
    constant("Arrow schema", "import pyarrow as pa\nK = pa.schema([('a', pa.int8())])", "int8", "int16"),
    constant("metadata of an Arrow schema", "import pyarrow as pa\nK = pa.schema([('a', pa.int8())], metadata={'a': 'b'})", "'b'", "'c'"),
    constant("Arrow types", "import pyarrow as pa\nK = {'a': pa.timestamp('us'), 'b': pa.decimal128(10, 2)}", "10, 2", "10, 3"),
    constant("pandas categories", "import pandas as pd\nK = pd.CategoricalDtype(['a', 'b'])", "['a', 'b']", "['a', 'b'], ordered=True"),
    constant("pandas types", "import pandas as pd\nK = {'a': pd.Int64Dtype(), 'b': pd.StringDtype()}", "Int64Dtype", "Int32Dtype"),
    constant("nanoseconds of a time", "import pandas as pd\nK = pd.Timestamp('2026-01-01 00:00:00.000000001')", "001')", "002')"),
    constant("nanoseconds of a duration", "import pandas as pd\nK = pd.Timedelta('1ns')", "1ns", "2ns"),
    constant("offset", "import pandas as pd\nK = pd.DateOffset(months=1)", "months=1", "months=2"),
    constant("business days", "import pandas as pd\nK = pd.offsets.CustomBusinessDay(holidays=['2026-01-01'])", "01-01", "01-02"),
    constant("grouping", "import pandas as pd\nK = pd.Grouper(key='a', freq='D')", "'D'", "'h'"),
    constant("aggregations", "import pandas as pd\ndef span(s):\n    return s.max() - s.min()\nK = {'span': pd.NamedAgg('a', span)}", "s.max() -", "s.max() +"),
]  # fmt: skip

ESTIMATORS = [
    constant("scorer", "from sklearn.metrics import make_scorer, f1_score\nK = make_scorer(f1_score, average='macro')", "macro", "micro"),
    constant("own scorer", "from sklearn.metrics import make_scorer\ndef cost(a, b):\n    return 1\nK = {'cost': make_scorer(cost)}", "return 1", "return 2"),
    constant("pipeline", "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import StandardScaler\nfrom sklearn.svm import SVC\nK = make_pipeline(StandardScaler(), SVC(C=1.0))", "C=1.0", "C=2.0"),
    constant("pipeline written otherwise", "from sklearn.pipeline import make_pipeline\nfrom sklearn.svm import SVC\nK = make_pipeline(SVC(C=1.0))", "C=1.0", "C=  1.0", SAME),
    constant("function in a pipeline", "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import FunctionTransformer\ndef f(x):\n    return x\nK = make_pipeline(FunctionTransformer(f))", "return x", "return -x"),
    constant("own transformer in a pipeline", "from sklearn.pipeline import make_pipeline\nfrom sklearn.base import BaseEstimator\nclass T(BaseEstimator):\n    def transform(self, x):\n        return x\nK = make_pipeline(T())", "return x", "return -x"),
    constant("helper of an own transformer in a column transformer", "from sklearn.compose import make_column_transformer\nfrom sklearn.base import BaseEstimator\ndef f(x):\n    return x\nclass T(BaseEstimator):\n    def transform(self, x):\n        return f(x)\nK = make_column_transformer((T(), ['a']))", "return x\n", "return -x\n"),
    constant("search over parameters", "from sklearn.model_selection import GridSearchCV\nfrom sklearn.svm import SVC\nK = GridSearchCV(SVC(), {'C': [1, 2]}, cv=3)", "[1, 2]", "[1, 3]"),
    constant("folds", "from sklearn.model_selection import KFold\nK = KFold(3, shuffle=True, random_state=0)", "state=0", "state=1"),
    constant("fitted trees", "from sklearn.ensemble import RandomForestRegressor\nK = RandomForestRegressor(2, random_state=0).fit([[1], [2]], [1, 2])", "[1, 2])", "[1, 3])"),
    constant("same fitted trees", "from sklearn.ensemble import RandomForestRegressor\nK = RandomForestRegressor(2, random_state=0).fit([[1], [2]], [1, 2])", "K =", "import numpy\nK =", SAME),
]  # fmt: skip

JINJA = "from jinja2 import DictLoader, Environment, Template\n"
TEMPLATES = [
    constant("template", JINJA + "K = Template('Summarize {{ text }}')", "Summarize", "Translate"),
    constant("template with a comment", JINJA + "K = Template('Hi {{ text }}')", "Hi {{ text }}", "Hi {# polite #}{{ text }}", SAME),
    constant("filter of a template", JINJA + "def short(x):\n    return x[:9]\ne = Environment()\ne.filters['short'] = short\nK = e.from_string('{{ x|short }}')", "[:9]", "[:8]"),
    constant("global of a template", JINJA + "e = Environment()\ne.globals['n'] = 1\nK = e.from_string('{{ n }}')", "= 1", "= 2"),
    constant("block of a template", JINJA + "K = Template('{% block a %}x{% endblock %}')", "%}x{%", "%}y{%"),
    constant("macro of a template", JINJA + "K = Template('{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(1) }}')", "[{{", "({{"),
    constant("environment of templates", JINJA + "K = Environment(loader=DictLoader({'a': 'x'}))", "'x'", "'y'"),
    constant("option of an environment", JINJA + "K = Environment(trim_blocks=True)", "True", "False"),
]  # fmt: skip


@pytest.mark.parametrize(
    "edit",
    [*STANDARD_LIBRARY, *OWN_INSTANCES, *NUMERIC, *TABLES, *ESTIMATORS, *TEMPLATES],
    ids=lambda edit: edit.name,
)
def test_edit(edit: Edit, tmp_path: Path) -> None:
    """The key changes with a value that the code reads, and the value does not switch the cache off."""
    edit.check(tmp_path)


ARGUMENTS = {
    "function": ("def make():\n    return clean\ndef clean(x):\n    return x\n", "return x\n", "return -x\n"),
    "lambda": ("def make():\n    return lambda x: x\n", "x: x", "x: -x"),
    "partial": ("import functools\ndef clean(x, n):\n    return x\ndef make():\n    return functools.partial(clean, n=1)\n", "n=1", "n=2"),
    "function of a partial": ("import functools\ndef clean(x, n):\n    return x\ndef make():\n    return functools.partial(clean, n=1)\n", "return x", "return n"),
    "plain instance": ("class A:\n    def __init__(self, n):\n        self.n = n\ndef make():\n    return A(1)\n", "A(1)", "A(2)"),
    "method of a plain instance": ("class A:\n    def go(self):\n        return 1\ndef make():\n    return [A()]\n", "return 1", "return 2"),
    "bound method": ("class A:\n    def __init__(self, n):\n        self.n = n\n    def go(self):\n        return self.n\ndef make():\n    return A(1).go\n", "A(1)", "A(2)"),
    "class": ("class A:\n    n = 1\ndef make():\n    return A\n", "n = 1", "n = 2"),
    "estimator": ("from sklearn.svm import SVC\ndef make():\n    return SVC(C=1)\n", "C=1", "C=2"),
    "expression": ("import polars as pl\ndef make():\n    return {'where': pl.col('a') > 1}\n", "> 1", "> 2"),
    "nested functions in a dictionary": ("def a(x):\n    return x\ndef make():\n    return {'steps': [('a', a)]}\n", "return x", "return -x"),
    "scorer of an own function": ("from sklearn.metrics import make_scorer\ndef cost(a, b):\n    return 1\ndef make():\n    return make_scorer(cost)\n", "return 1", "return 2"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "old", "new"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_argument(text: str, old: str, new: str, tmp_path: Path) -> None:
    """Functions, partials and instances that are passed to a step are known by their code and content."""
    keys = []
    for at, source in enumerate((text, text, text.replace(old, new))):
        step = "\ndef step(given):\n    return given\n"
        with Project(tmp_path / str(at), {"helpers.py": source, "flow.py": "import helpers" + step}).imported() as flow:
            code = fingerprint_code(flow.step, arguments={"given": flow.helpers.make()})
            keys.append(combine_fingerprints(code.ingredients))
    assert keys[0] == keys[1] != keys[2]


PL = "import polars as pl\n"
LAMBDAS = [
    constant("function that a lambda in a polars expression calls", "import polars as pl\ndef f(x):\n    return x\nK = pl.col('a').map_batches(lambda s: f(s), return_dtype=pl.Int64)", "return x", "return -x"),
    constant("lambda in a polars expression", "import polars as pl\nK = pl.col('a').map_batches(lambda s: s + 1, return_dtype=pl.Int64)", "s + 1", "s + 2"),
    constant("module that a lambda in a polars expression uses", "import math\nimport polars as pl\nK = pl.col('a').map_batches(lambda s: math.floor(s), return_dtype=pl.Int64)", "floor", "ceil"),
    constant("constant that a lambda in a polars expression reads", PL + "LIMIT = 1\nK = pl.col('a').map_batches(lambda s: s + LIMIT, return_dtype=pl.Int64)", "LIMIT = 1", "LIMIT = 2"),
    constant("default of a lambda in a polars expression", PL + "K = pl.col('a').map_batches(lambda s, n=1: s + n, return_dtype=pl.Int64)", "n=1", "n=2"),
    constant("variable around a lambda in a polars expression", PL + "def make(n):\n    return pl.col('a').map_batches(lambda s: s + n, return_dtype=pl.Int64)\nK = make(1)", "make(1)", "make(2)"),
    constant("lambda in a table of polars expressions", PL + "K = {'a': [pl.col('a').map_elements(lambda v: abs(v) + 1, return_dtype=pl.Int64)]}", "+ 1", "+ 2"),
    constant("class that a lambda in a polars expression uses", PL + "class A:\n    def go(self, x):\n        return x\nK = pl.col('a').map_batches(lambda s: A().go(s), return_dtype=pl.Int64)", "return x", "return -x"),
    constant("constant of a function that a lambda in a polars expression calls", PL + "LIMIT = 1\ndef g(x):\n    return x + LIMIT\ndef f(x):\n    return g(x)\nK = pl.col('a').map_batches(lambda s: f(s), return_dtype=pl.Int64)", "LIMIT = 1", "LIMIT = 2"),
    constant("table that a lambda in a polars expression reads", PL + "RATES = {'a': 1}\nK = pl.col('a').map_batches(lambda s: s * RATES['a'], return_dtype=pl.Int64)", "'a': 1", "'a': 2"),
    constant("function inside a function in a polars expression", PL + "def make():\n    def f(s):\n        try:\n            return s + 1\n        except ValueError:\n            return s\n    return pl.col('a').map_batches(f, return_dtype=pl.Int64)\nK = make()", "s + 1", "s + 2"),
    constant("exception that a function in a polars expression handles", PL + "def make():\n    def f(s):\n        try:\n            return s + 1\n        except ValueError:\n            return s\n    return pl.col('a').map_batches(f, return_dtype=pl.Int64)\nK = make()", "ValueError", "TypeError"),
    constant("type beside a lambda in a polars expression", PL + "K = pl.col('a').map_batches(lambda s: s, return_dtype=pl.Int64)", "Int64", "Int32"),
    constant("column beside a lambda in a polars expression", PL + "K = pl.col('a').map_batches(lambda s: s).over('b')", "'b'", "'c'"),
    constant("lambda that calls itself in a polars expression", PL + "def make():\n    f = lambda v: 1 if v < 2 else v * f(v - 1)\n    return pl.col('a').map_elements(f, return_dtype=pl.Int64)\nK = make()", "else v *", "else v +"),
    constant("second lambda in a polars expression", PL + "K = pl.col('a').map_batches(lambda s: s) + pl.col('b').map_batches(lambda s: s * 2)", "s * 2", "s * 3"),
    constant("partial in a polars expression", "from functools import partial\n" + PL + "K = pl.col('a').map_batches(partial(lambda s, n: s + n, n=2), return_dtype=pl.Int64)", "n=2", "n=3"),
    constant("lambda in a condition of polars", PL + "K = pl.when(pl.col('a').map_batches(lambda s: s > 1, return_dtype=pl.Boolean)).then(1)", "s > 1", "s > 2"),
]  # fmt: skip


@pytest.mark.parametrize("edit", LAMBDAS, ids=lambda edit: edit.name)
def test_lambda_in_an_expression(edit: Edit, tmp_path: Path) -> None:
    """A lambda in a polars expression counts by what it does and calls, wherever its file and line are."""
    text = edit.files["flow.py"]
    key = Project(tmp_path / "project", {"flow.py": text}).key()
    moved = Project(tmp_path / "elsewhere" / ("long" * 40), {"flow.py": f"# Moved.\n\n\n{text}"}).key()
    assert key == moved
    shutil.rmtree(tmp_path / "project")
    assert key != Project(tmp_path / "project", {"flow.py": text.replace(edit.old, edit.new)}).key()
