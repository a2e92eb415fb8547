"""Edits of real projects, each with the answer that its cache key must give."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.caching.code.project import DIFFERENT, SAME, Edit, flow, pair

TEXT = [
    flow("comment", "def step(x):\n    return x\n", "return x", "return x  # why", SAME),
    flow("comment above", "def step(x):\n    return x\n", "def", "# what\ndef", SAME),
    flow("type comment", "def step(x):\n    y = x\n    return y\n", "y = x", "y = x  # type: int", SAME),
    flow("docstring added", "def step(x):\n    return x\n", "    return", '    """Say."""\n    return', SAME),
    flow("docstring edited", 'def step(x):\n    """A."""\n    return x\n', "A.", "B.", SAME),
    flow("docstring of a helper", 'def h(x):\n    "A"\n    return x\ndef step(x):\n    return h(x)\n', "A", "B", SAME),
    flow("blank lines", "def step(x):\n    return x\n", "    return", "\n\n    return", SAME),
    flow("line breaks", "def step(x):\n    return x + 1\n", "x + 1", "(\n        x +\n        1\n    )", SAME),
    flow("quotes", "def step(x):\n    return 'a'\n", "'a'", '"a"', SAME),
    flow("argument annotation", "def step(x):\n    return x\n", "(x)", "(x: int)", SAME),
    flow("return annotation", "def step(x):\n    return x\n", "(x):", "(x) -> float:", SAME),
    flow("variable annotation", "def step(x):\n    y = x\n    return y\n", "y = x", "y: int = x", SAME),
    flow(
        "variable annotation in a block",
        "def step(x):\n    if x:\n        y = x\n    return y\n", "y = x", "y: int = x", SAME,
    ),
    flow("bare annotation", "def step(x):\n    y = x\n    return y\n", "    y", "    y: int\n    y", SAME),
    flow("annotation of a helper", "def h(x):\n    return x\ndef step(x):\n    return h(x)\n", "h(x):", "h(x: int) -> int:", SAME),
    flow("body", "def step(x):\n    return x + 1\n", "1", "2", DIFFERENT),
    flow("type of a literal", "def step(x):\n    return x + 1\n", "1", "1.0", DIFFERENT),
    flow("renamed step", "def step(x):\n    return x\n", "x)", "x, y=1)", DIFFERENT),
    flow("conditional", "def step(x):\n    return 1 if x else 2\n", "if x", "if not x", DIFFERENT),
    flow("sync to async", "async def step(x):\n    return x\n", "return x", "return -x", DIFFERENT),
    flow("generator step", "def step(x):\n    yield x\n", "yield x", "yield -x", DIFFERENT),
    flow("string that looks like a docstring", "def step(x):\n    y = 'A'\n    return y\n", "A", "B", DIFFERENT),
    flow("f-string", "def step(x):\n    return f'{x:>3}'\n", ">3", ">4", DIFFERENT),
    flow("none in keyword defaults", "def step(*, x, y=1):\n    return {**x, 'a': y}\n", "x, y=1", "x=1, y", DIFFERENT),
    flow("order of statements", "def step(x):\n    x += 1\n    x *= 2\n    return x\n", "x += 1\n    x *= 2", "x *= 2\n    x += 1", DIFFERENT),
]  # fmt: skip

UNRELATED = "def h(x):\n    return x\nLIMIT = 1\ndef other():\n    return LIMIT\ndef step(x):\n    return h(x)\n"
HELPERS = "from helpers import clean\ndef step(x):\n    return clean(x)\n"
CLEAN = (
    "LIMIT = 1\ndef inner(x):\n    return x\ndef clean(x):\n    return inner(x) + LIMIT\ndef other():\n    return 0\n"
)
BY_MODULE = "import helpers\ndef step(x):\n    return helpers.clean(x)\n"
RECURSION = "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)\ndef step(n):\n    return even(n)\n"

FUNCTIONS = [
    flow("unrelated function", UNRELATED, "return LIMIT", "return 7", SAME),
    flow("unrelated constant", UNRELATED, "LIMIT = 1", "LIMIT = 2", SAME),
    flow("unrelated function added", UNRELATED, "def step", "def new():\n    pass\n\ndef step", SAME),
    flow("order of definitions", UNRELATED, UNRELATED, "def step(x):\n    return h(x)\ndef h(x):\n    return x\n", SAME),
    flow("helper in the same file", UNRELATED, "return x\nLIMIT", "return -x\nLIMIT", DIFFERENT),
    flow("comment in a helper", UNRELATED, "return x\nLIMIT", "return x  # so\nLIMIT", SAME),
    flow("helper renamed alike", UNRELATED, "h(x)", "k(x)", DIFFERENT),
    pair("helper in another module", HELPERS, CLEAN, "inner(x) + LIMIT", "inner(x) - LIMIT", DIFFERENT),
    pair("helper of a helper", HELPERS, CLEAN, "return x", "return -x", DIFFERENT),
    pair("constant of a helper", HELPERS, CLEAN, "LIMIT = 1", "LIMIT = 2", DIFFERENT),
    pair("unrelated in another module", HELPERS, CLEAN, "return 0", "return 1", SAME),
    pair("comment in another module", HELPERS, CLEAN, "LIMIT = 1", "LIMIT = 1  # one", SAME),
    pair("helper by its module", BY_MODULE, CLEAN, "inner(x) + LIMIT", "inner(x) - LIMIT", DIFFERENT),
    pair("unrelated beside a helper by its module", BY_MODULE, CLEAN, "return 0", "return 1", SAME),
    pair("helper by getattr", BY_MODULE.replace("helpers.clean", "getattr(helpers, 'clean')"), CLEAN, "return x", "return -x", DIFFERENT),
    pair("unrelated by getattr", BY_MODULE.replace("helpers.clean", "getattr(helpers, 'clean')"), CLEAN, "return 0", "return 1", SAME),
    pair("module passed around", "import helpers\ndef use(m, x):\n    return m.clean(x)\ndef step(x):\n    return use(helpers, x)\n", CLEAN, "return x", "return -x", DIFFERENT),
    pair("module passed around, comment", "import helpers\ndef use(m, x):\n    return m.clean(x)\ndef step(x):\n    return use(helpers, x)\n", CLEAN, "return x", "return x  # x", SAME),
    pair("module renamed locally", "import helpers\ndef step(x):\n    h = helpers\n    return h.clean(x)\n", CLEAN, "LIMIT = 1", "LIMIT = 2", DIFFERENT),
    pair("import inside the function", "def step(x):\n    from helpers import clean\n    return clean(x)\n", CLEAN, "return x", "return -x", DIFFERENT),
    pair("import inside a branch", "def step(x):\n    try:\n        import helpers as h\n    except ImportError:\n        h = None\n    return h.clean(x)\n", CLEAN, "return x", "return -x", DIFFERENT),
    pair("import inside a nested function", "def step(x):\n    def go():\n        from helpers import clean\n        return clean(x)\n    return go()\n", CLEAN, "return x", "return -x", DIFFERENT),
    pair("import by name", "import importlib\ndef step(x):\n    return importlib.import_module('helpers').clean(x)\n", CLEAN, "return x", "return -x", DIFFERENT),
    pair("star import", "from helpers import *\ndef step(x):\n    return clean(x)\n", CLEAN, "return x", "return -x", DIFFERENT),
    pair("star import, unrelated", "from helpers import *\ndef step(x):\n    return clean(x)\n", CLEAN, "return 0", "return 1", SAME),
    pair("import renamed", "from helpers import clean as tidy\ndef step(x):\n    return tidy(x)\n", CLEAN, "return x", "return -x", DIFFERENT),
    Edit("import moved into the function", {"flow.py": HELPERS, "helpers.py": CLEAN}, "flow.py", HELPERS, "def step(x):\n    from helpers import clean\n    return clean(x)\n", SAME),
    flow("library import moved into the function", "import numpy as np\ndef step(x):\n    return np.abs(x)\n", "import numpy as np\ndef step(x):\n", "def step(x):\n    import numpy as np\n", SAME),
    flow("another import of the same name", "from math import floor as f\ndef step(x):\n    return f(x)\n", "floor", "ceil", DIFFERENT),
    flow("another class of the same library", "from numpy import int8 as T\ndef step(x):\n    return T(x)\n", "int8", "int16", DIFFERENT),
    Edit("two helpers swapped", {"flow.py": "from a import f\nfrom b import f as g\ndef step(x):\n    return f(x) + 2 * g(x)\n", "a.py": "def f(x):\n    return 1\n", "b.py": "def f(x):\n    return 2\n"}, "flow.py", "from a import f\nfrom b import f as g", "from b import f\nfrom a import f as g", DIFFERENT),
    Edit("package re-export", {"flow.py": "from pkg import clean\ndef step(x):\n    return clean(x)\n", "pkg/__init__.py": "from .impl import clean\n", "pkg/impl.py": "def clean(x):\n    return x\n"}, "pkg/impl.py", "return x", "return -x", DIFFERENT),
    Edit("relative import", {"flow.py": "from pkg.a import clean\ndef step(x):\n    return clean(x)\n", "pkg/__init__.py": "", "pkg/a.py": "from .b import inner\ndef clean(x):\n    return inner(x)\n", "pkg/b.py": "def inner(x):\n    return x\n"}, "pkg/b.py", "return x", "return -x", DIFFERENT),
    Edit("relative import inside the function", {"flow.py": "from pkg.a import clean\ndef step(x):\n    return clean(x)\n", "pkg/__init__.py": "", "pkg/a.py": "def clean(x):\n    from .b import inner\n    return inner(x)\n", "pkg/b.py": "def inner(x):\n    return x\n"}, "pkg/b.py", "return x", "return -x", DIFFERENT),
    Edit("submodule by attribute", {"flow.py": "import pkg.b\ndef step(x):\n    return pkg.b.inner(x)\n", "pkg/__init__.py": "", "pkg/b.py": "def inner(x):\n    return x\n"}, "pkg/b.py", "return x", "return -x", DIFFERENT),
    Edit("type-checking import", {"flow.py": "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from helpers import A\ndef step(x: A):\n    return x\n", "helpers.py": "A = 1\nB = 2\n"}, "flow.py", "import A", "import B as A", SAME),
    Edit("type-checking import inside the function", {"flow.py": "from typing import TYPE_CHECKING\ndef step(x):\n    if TYPE_CHECKING:\n        from helpers import A\n    return x\n", "helpers.py": "A = 1\nB = 2\n"}, "flow.py", "import A", "import B as A", SAME),
    flow("recursion", RECURSION, "n != 0", "n > 0", DIFFERENT),
    flow("recursion, comment", RECURSION, "def odd", "# odd\ndef odd", SAME),
    flow("nested function", "def step(x):\n    def go(y):\n        return y\n    return go(x)\n", "return y", "return -y", DIFFERENT),
    flow("name in a nested function", "K = 1\ndef step(x):\n    def go(y):\n        return y + K\n    return go(x)\n", "K = 1", "K = 2", DIFFERENT),
    flow("name in a comprehension", "K = 1\ndef step(x):\n    return [y + K for y in x]\n", "K = 1", "K = 2", DIFFERENT),
    flow("local name like a global", "K = 1\ndef step(x):\n    K = 3\n    return K\n", "K = 1", "K = 2", SAME),
    flow("argument like a global", "K = 1\ndef step(K):\n    return K\n", "K = 1", "K = 2", SAME),
    flow("lambda", "go = lambda x: x + 1\ndef step(x):\n    return go(x)\n", "x + 1", "x + 2", DIFFERENT),
    flow("one of two lambdas on a line", "a, b = (lambda x: x + 1), (lambda x: x + 2)\ndef step(x):\n    return a(x)\n", "x + 1", "x + 5", DIFFERENT),
    flow("the other lambda on the line", "a, b = (lambda x: x + 1), (lambda x: x + 2)\ndef step(x):\n    return a(x)\n", "x + 2", "x + 5", SAME),
    flow("the second of two lambdas on a line", "a, b = (lambda x: x + 1), (lambda x: x + 2)\ndef step(x):\n    return b(x)\n", "x + 2", "x + 5", DIFFERENT),
    flow("imported name bound again", "from numpy import sin\nsin = lambda x: x\ndef step(x):\n    return sin(x)\n", "lambda x: x", "lambda x: -x", DIFFERENT),
    flow("lambdas swapped", "a = lambda x: x + 1\nb = lambda x: x + 2\ndef step(x):\n    return a(x) * 3 + b(x)\n", "a = lambda x: x + 1\nb = lambda x: x + 2", "b = lambda x: x + 1\na = lambda x: x + 2", DIFFERENT),
    flow("partial's argument", "from functools import partial\ndef h(x, y):\n    return x\ng = partial(h, y=1)\ndef step(x):\n    return g(x)\n", "y=1", "y=2", DIFFERENT),
    flow("partial's function", "from functools import partial\ndef h(x, y):\n    return x\ng = partial(h, y=1)\ndef step(x):\n    return g(x)\n", "return x\ng", "return y\ng", DIFFERENT),
    flow("cached helper", "from functools import lru_cache\n@lru_cache(maxsize=None)\ndef h(x):\n    return x\ndef step(x):\n    return h(x)\n", "return x\ndef", "return -x\ndef", DIFFERENT),
    flow("async helper", "async def h(x):\n    return x\nasync def step(x):\n    return await h(x)\n", "return x\nasync", "return -x\nasync", DIFFERENT),
    flow("generator helper", "def h(x):\n    yield x\ndef step(x):\n    return list(h(x))\n", "yield x", "yield -x", DIFFERENT),
    flow("functions in a dictionary", "def h(x):\n    return x\nTABLE = {'h': h}\ndef step(x):\n    return TABLE['h'](x)\n", "return x\nT", "return -x\nT", DIFFERENT),
    flow("function attribute", "def h(x):\n    return x * h.factor\nh.factor = 1\ndef step(x):\n    return h(x)\n", "factor = 1", "factor = 2", DIFFERENT),
    flow("name by globals()", "K = 1\ndef step(x):\n    return globals()['K']\n", "K = 1", "K = 2", DIFFERENT),
    flow("single dispatch", "from functools import singledispatch\n@singledispatch\ndef h(x):\n    return x\n@h.register(int)\ndef _(x):\n    return 1\ndef step(x):\n    return h(x)\n", "return 1", "return 2", DIFFERENT),
]  # fmt: skip

RETRY = "import functools\ndef retry(times):\n    def wrap(fn):\n        @functools.wraps(fn)\n        def inner(*a):\n            return [fn(*a) for _ in range(times)]\n        return inner\n    return wrap\n@retry(2)\ndef h(x):\n    return x\ndef step(x):\n    return h(x)\n"
OPAQUE = RETRY.replace("        @functools.wraps(fn)\n", "")
ROOT = "import functools\ndef twice(fn):\n    @functools.wraps(fn)\n    def inner(*a):\n        return [fn(*a)] * 2\n    return inner\n@twice\ndef step(x):\n    return x\n"
TASK = "from airflow.sdk import task\n@task(retries=1)\ndef step(x):\n    return x\n"
TENACITY = "import tenacity\n@tenacity.retry(stop=tenacity.stop_after_attempt(2))\ndef h(x):\n    return x\ndef step(x):\n    return h(x)\n"
CLOSURE = "def make(n):\n    table = {'a': n}\n    def step(x):\n        return table['a'] + n\n    return step\nstep = make(1)\n"

WRAPPED = [
    flow("argument of a helper's decorator", RETRY, "retry(2)", "retry(3)", DIFFERENT),
    flow("body of a helper's decorator", RETRY, "[fn(*a)", "[-fn(*a)", DIFFERENT),
    flow("helper under a decorator", RETRY, "return x", "return -x", DIFFERENT),
    flow("comment in a decorator", RETRY, "def inner", "# inner\n        def inner", SAME),
    flow("helper under a decorator that does not say so", OPAQUE, "return x", "return -x", DIFFERENT),
    flow("decorator removed from a helper", RETRY, "@retry(2)\n", "", DIFFERENT),
    flow("option of a library's decorator", TENACITY, "attempt(2)", "attempt(3)", DIFFERENT),
    flow("option of a library's decorator, from a constant", TENACITY.replace("attempt(2)", "attempt(N)").replace("@", "N = 2\n@"), "N = 2", "N = 3", DIFFERENT),
    flow("helper under a library's decorator", TENACITY, "return x", "return -x", DIFFERENT),
    flow("body of the step's own decorator", ROOT, "* 2", "* 3", DIFFERENT),
    flow("step under its own decorator", ROOT, "return x", "return -x", DIFFERENT),
    flow("scheduling option", TASK, "retries=1", "retries=5, pool='x'", SAME),
    flow("scheduling option from a constant", TASK.replace("@", "N = 1\n@").replace("s=1", "s=N"), "N = 1", "N = 2", SAME),
    flow("bare task decorator", TASK, "@task(retries=1)", "@task", SAME),
    flow("scheduling decorator by module", TASK, "from airflow.sdk import task\n@task", "import airflow.sdk as a\n@a.task", SAME),
    flow("body of a task", TASK, "return x", "return -x", DIFFERENT),
    flow("another task's function", TASK.replace("step", "h") + "def step(x):\n    return h.function(x)\n", "return x", "return -x", DIFFERENT),
    flow("closure value", CLOSURE, "make(1)", "make(2)", DIFFERENT),
    flow("same closure", CLOSURE, "make(1)", "make(  1)", SAME),
    flow("closure function", "def make(fn):\n    def step(x):\n        return fn(x)\n    return step\ndef h(x):\n    return x\nstep = make(h)\n", "return x", "return -x", DIFFERENT),
    flow("default argument", "def step(x=1):\n    return x\n", "x=1", "x=2", DIFFERENT),
    flow("default from a constant", "K = 1\ndef step(x=K):\n    return x\n", "K = 1", "K = 2", DIFFERENT),
    flow("keyword default", "def step(*, x=1):\n    return x\n", "x=1", "x=True", DIFFERENT),
    flow("default function", "def h(x):\n    return x\ndef step(x, f=h):\n    return f(x)\n", "return x\n", "return -x\n", DIFFERENT),
    flow("default of a loop", "fs = []\nfor i in range(2):\n    def step(x=i):\n        return x\n    fs.append(step)\nstep = fs[0]\n", "fs[0]", "fs[1]", DIFFERENT),
]  # fmt: skip

SETTINGS = "from dataclasses import dataclass\n@dataclass\nclass Settings:\n    depth: int = 1\n    def go(self):\n        return self.depth\ndef step(x):\n    return Settings().go()\n"
INHERITED = "from helpers import Base\nclass Model(Base):\n    pass\ndef step(x):\n    return Model().go(x)\n"
BASE = "class Meta(type):\n    def __call__(cls):\n        return super().__call__()\nclass Mixin:\n    def m(self, x):\n        return x\nclass Base(Mixin, metaclass=Meta):\n    RATE = 1\n    def go(self, x):\n        return self.m(x)\n    def unused(self):\n        return 0\n"
KINDS = "class A:\n    @staticmethod\n    def s(x):\n        return x\n    @classmethod\n    def c(cls, x):\n        return x + 1\n    @property\n    def p(self):\n        return 2\ndef step(x):\n    return A.s(x), A.c(x), A().p\n"
INSTANCE = "class A:\n    def __init__(self, n):\n        self.n = n\n    def go(self):\n        return self.n\nA0 = A(1)\ndef step(x):\n    return A0.go()\n"
BOUND = INSTANCE.replace("return A0.go()", "return go()").replace("A0 = A(1)", "go = A(1).go")

CLASSES = [
    flow("method body", SETTINGS, "return self.depth", "return -self.depth", DIFFERENT),
    flow("class docstring", SETTINGS, "    depth", "    'D'\n    depth", SAME),
    flow("method annotation", SETTINGS, "go(self)", "go(self) -> int", SAME),
    flow("field default", SETTINGS, "= 1", "= 2", DIFFERENT),
    flow("field type", SETTINGS, "depth: int", "depth: float", DIFFERENT),
    flow("field added", SETTINGS, "    def", "    width: int = 1\n    def", DIFFERENT),
    flow("class decorator option", SETTINGS, "@dataclass", "@dataclass(frozen=True)", DIFFERENT),
    flow("class annotation without effect", "class A:\n    x = 1\ndef step(x):\n    return A.x\n", "x = 1", "x: int = 1", SAME),
    pair("inherited method", INHERITED, BASE, "self.m(x)", "-self.m(x)", DIFFERENT),
    pair("inherited class attribute", INHERITED, BASE, "RATE = 1", "RATE = 2", DIFFERENT),
    pair("base of a base", INHERITED, BASE, "return x\n", "return -x\n", DIFFERENT),
    pair("metaclass", INHERITED, BASE, "return super().__call__()", "return None", DIFFERENT),
    pair("comment in a base", INHERITED, BASE, "RATE = 1", "RATE = 1  # r", SAME),
    flow("static method", KINDS, "return x\n", "return -x\n", DIFFERENT),
    flow("class method", KINDS, "x + 1", "x + 2", DIFFERENT),
    flow("property", KINDS, "return 2", "return 3", DIFFERENT),
    flow("helper of a method", "def h():\n    return 1\nclass A:\n    def go(self):\n        return h()\ndef step(x):\n    return A().go()\n", "return 1", "return 2", DIFFERENT),
    flow("computed class attribute", "K = 1\nclass A:\n    R = K + 1\ndef step(x):\n    return A.R\n", "K = 1", "K = 2", DIFFERENT),
    flow("class attribute set later", "class A:\n    R = 1\nA.R = 2\ndef step(x):\n    return A.R\n", "A.R = 2", "A.R = 3", DIFFERENT),
    flow("method attached later", "class A:\n    pass\ndef go(self):\n    return 1\nA.go = go\ndef step(x):\n    return A().go()\n", "return 1", "return 2", DIFFERENT),
    flow("class by isinstance only", "class A:\n    x = 1\ndef step(x):\n    return isinstance(x, A)\n", "x = 1", "x = 2", DIFFERENT),
    flow("instance state", INSTANCE, "A(1)", "A(2)", DIFFERENT),
    flow("instance's class", INSTANCE, "return self.n", "return -self.n", DIFFERENT),
    flow("bound method's state", BOUND, "A(1)", "A(2)", DIFFERENT),
    flow("bound method's body", BOUND, "return self.n", "return -self.n", DIFFERENT),
    flow("enum value", "import enum\nclass E(enum.Enum):\n    A = 1\ndef step(x):\n    return E.A\n", "A = 1", "A = 2", DIFFERENT),
    flow("class of a constant's element", SETTINGS.replace("def step", "S = [Settings()]\ndef step").replace("Settings().go", "S[0].go"), "return self.depth", "return -self.depth", DIFFERENT),
    flow("class of a parameter", SETTINGS.replace("step(x)", "step(x: Settings)").replace("Settings().go", "x.go"), "return self.depth", "return -self.depth", DIFFERENT),
    flow("class of a quoted parameter", SETTINGS.replace("step(x)", "step(x: 'list[Settings]')").replace("Settings().go", "x[0].go"), "return self.depth", "return -self.depth", DIFFERENT),
    flow("namedtuple fields", "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef step(x):\n    return P(1, 2)\n", "x y", "y x", DIFFERENT),
    flow("name made private by its class", "_A__k = 1\nclass A:\n    def go(self):\n        return __k\ndef step(x):\n    return A().go()\n", "_A__k = 1", "_A__k = 2", DIFFERENT),
    flow("typing names", "from typing import Generic, NewType, TypeVar\nT = TypeVar('T')\nU = NewType('U', int)\nclass A(Generic[T]):\n    def go(self):\n        return U(1)\ndef step(x):\n    return A[int]().go()\n", "U(1)", "U(2)", DIFFERENT),
    flow("default factory", "from dataclasses import dataclass, field\ndef mk():\n    return [1]\n@dataclass\nclass A:\n    x: list = field(default_factory=mk)\ndef step(x):\n    return A()\n", "[1]", "[2]", DIFFERENT),
    flow("decorated method", "def deco(f):\n    def inner(*a):\n        return f(*a) + 1\n    return inner\nclass A:\n    @deco\n    def go(self):\n        return 1\ndef step(x):\n    return A().go()\n", "+ 1", "+ 2", DIFFERENT),
    flow("library's base class", "from sklearn.base import BaseEstimator\nclass T(BaseEstimator):\n    def __init__(self, k=1):\n        self.k = k\nP = T(2)\ndef step(x):\n    return P.k\n", "T(2)", "T(3)", DIFFERENT),
    flow("base given to a function", "class B:\n    def go(self):\n        return 1\ndef make(base):\n    class A(base):\n        pass\n    return A\nA = make(B)\ndef step(x):\n    return A().go()\n", "return 1", "return 2", DIFFERENT),
    flow("class inside a function", "def make(n):\n    class A:\n        def go(self):\n            return n\n    return A\nA = make(1)\ndef step(x):\n    return A().go()\n", "make(1)", "make(2)", DIFFERENT),
    flow("pydantic field", "from pydantic import BaseModel, Field\nclass M(BaseModel):\n    x: int = Field(default=1)\ndef step(x):\n    return M().x\n", "default=1", "default=2", DIFFERENT),
    flow("pydantic validator", "from pydantic import BaseModel, field_validator\nclass M(BaseModel):\n    x: int = 1\n    @field_validator('x')\n    @classmethod\n    def check(cls, v):\n        return v\ndef step(x):\n    return M().x\n", "return v", "return -v", DIFFERENT),
]  # fmt: skip

READS_K = "def step(x):\n    return K\n"

CONSTANTS = [
    flow("constant", "K = 1\n" + READS_K, "K = 1", "K = 2", DIFFERENT),
    flow("constant's type", "K = 1\n" + READS_K, "K = 1", "K = True", DIFFERENT),
    flow("constant rewritten", "K = 2\n" + READS_K, "K = 2", "K = 1 + 1", SAME),
    flow("list for tuple", "K = (1,)\n" + READS_K, "(1,)", "[1]", DIFFERENT),
    flow("dictionary order", "K = {'a': 1, 'b': 2}\n" + READS_K, "{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}", SAME),
    flow("set order", "K = {'a', 'b', 'c'}\n" + READS_K, "{'a', 'b', 'c'}", "{'c', 'b', 'a'}", SAME),
    flow("nested constant", "K = {'a': [1, (2, 3)]}\n" + READS_K, "(2, 3)", "(2, 4)", DIFFERENT),
    flow("global changed after it was made", "K = []\nK.append(1)\n" + READS_K, "append(1)", "append(2)", DIFFERENT),
    flow("global the step counts in", "K = 1\ndef step(x):\n    global K\n    K += 1\n    return K\n", "K = 1", "K = 2", DIFFERENT),
    flow("array constant", "import numpy as np\nK = np.arange(4)\n" + READS_K, "arange(4)", "arange(4).reshape(2, 2)", DIFFERENT),
    flow("pattern constant", "import re\nK = re.compile('a')\n" + READS_K, "compile('a')", "compile('a', re.I)", DIFFERENT),
    flow("attrgetter constant", "from operator import attrgetter\nK = attrgetter('a')\n" + READS_K, "'a'", "'b'", DIFFERENT),
    flow("path beside the code", "from pathlib import Path\nHERE = Path(__file__).parent\ndef step(x):\n    return HERE\n", "HERE\n", "HERE  # path\n", SAME),
    flow("path below the code", "from pathlib import Path\nHERE = Path(__file__).parent / 'a'\ndef step(x):\n    return HERE\n", "'a'", "'b'", DIFFERENT),
    flow("generator's seed", "import numpy as np\nrng = np.random.default_rng(1)\ndef step(x):\n    return rng.random()\n", "rng(1)", "rng(2)", DIFFERENT),
    flow("sentinel", "K = object()\n" + READS_K, "K = object()", "K = object()  # none", SAME),
    pair("constant by its module", "import helpers\ndef step(x):\n    return helpers.K\n", "K = 1\n", "K = 1", "K = 2", DIFFERENT),
    pair("imported constant", "from helpers import K\n" + READS_K, "K = 1\n", "K = 1", "K = 2", DIFFERENT),
    flow("logger", "import logging\nlog = logging.getLogger('a')\ndef step(x):\n    log.info(x)\n    return x\n", "'a'", "'b'", SAME),
    flow("lock", "import threading\nlock = threading.Lock()\ndef step(x):\n    with lock:\n        return x\n", "Lock", "RLock", SAME),
    flow("module's name", "def step(x):\n    print(__name__)\n    return x\n", "def", "# x\ndef", SAME),
]  # fmt: skip


@pytest.mark.parametrize("edit", [*TEXT, *FUNCTIONS, *WRAPPED, *CLASSES, *CONSTANTS], ids=lambda edit: edit.name)
def test_edit(edit: Edit, tmp_path: Path) -> None:
    """The key changes with an edit that can change the result, and with no other."""
    edit.check(tmp_path)
