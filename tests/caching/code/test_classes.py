"""Edits of classes whose text does not show what they are when the step runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from airflow_zen.errors import FingerprintError
from tests.caching.code.project import DIFFERENT, SAME, Edit, Project, flow


def config(name: str, text: str, old: str = "1", new: str = "2", same: bool = DIFFERENT) -> Edit:
    """An edit of the file of settings that the module reads while it is imported."""
    read = "import json\nfrom pathlib import Path\ndef cfg(name):\n    return json.loads(Path(__file__).with_name('conf.json').read_text())[name]\n"
    values = '{"n": 1, "flag": true, "day": "2024-01-01", "pair": [1, 5]}'
    return Edit(
        name,
        {"flow.py": f"from settings import cfg\n{text}", "settings.py": read, "conf.json": values},
        "conf.json",
        old,
        new,
        same,
    )


RUN = "def step(x):\n    return A.v\n"
CLASS = "class A:\n    v = 0\n"
SET_LATER = [
    flow("date", f"from datetime import date\n{CLASS}A.v = date(2024, 1, 1)\n{RUN}", "2024", "2025", DIFFERENT),
    flow("array", f"import numpy as np\n{CLASS}A.v = np.arange(3)\n{RUN}", "3", "4", DIFFERENT),
    flow("decimal", f"from decimal import Decimal\n{CLASS}A.v = Decimal('0.1')\n{RUN}", "0.1", "0.2", DIFFERENT),
    flow("path", f"from pathlib import Path\n{CLASS}A.v = Path('/data/a')\n{RUN}", "/a", "/b", DIFFERENT),
    flow("estimator", f"from sklearn.tree import DecisionTreeClassifier as T\n{CLASS}A.v = T(max_depth=2)\n{RUN}", "=2", "=3", DIFFERENT),
    flow("enum member", f"import enum\nclass E(enum.Enum):\n    P = 1\n    Q = 2\n{CLASS}A.v = E.P\n{RUN}", "E.P", "E.Q", DIFFERENT),
    flow("frame", f"import pandas as pd\n{CLASS}A.v = pd.DataFrame({{'a': [1]}})\n{RUN}", "[1]", "[2]", DIFFERENT),
    flow("timedelta, not in the text", f"from datetime import timedelta\nclass A:\n    pass\nA.v = timedelta(days=1)\n{RUN}", "=1", "=2", DIFFERENT),
    flow("instance of the project", f"class P:\n    def __init__(self, n):\n        self.n = n\n{CLASS}A.v = P(1)\n{RUN}", "P(1)", "P(2)", DIFFERENT),
    flow("class", f"class P:\n    pass\nclass Q:\n    pass\n{CLASS}A.v = P\n{RUN}", "A.v = P", "A.v = Q", DIFFERENT),
    flow("module", f"import math, cmath\n{CLASS}A.v = math\n{RUN}", "A.v = math", "A.v = cmath", DIFFERENT),
    flow("partial", f"from functools import partial\n{CLASS}A.v = partial(int, base=2)\n{RUN}", "=2", "=3", DIFFERENT),
    flow("pattern", f"import re\n{CLASS}A.v = re.compile('a')\n{RUN}", "'a'", "'b'", DIFFERENT),
    flow("setattr in a loop", f"from datetime import date\n{CLASS}for k, d in {{'v': date(2024, 1, 1)}}.items():\n    setattr(A, k, d)\n{RUN}", "2024", "2025", DIFFERENT),
    flow("setattr in a function", f"from decimal import Decimal\n{CLASS}def tune(c, **kw):\n    for k in kw:\n        setattr(c, k, kw[k])\ntune(A, v=Decimal(1))\n{RUN}", "Decimal(1)", "Decimal(2)", DIFFERENT),
    flow("in another module's class", "import base\nfrom datetime import date\nbase.A.v = date(2024, 1, 1)\ndef step(x):\n    return base.A.v\n", "2024", "2025", DIFFERENT)._replace(files={"flow.py": "import base\nfrom datetime import date\nbase.A.v = date(2024, 1, 1)\ndef step(x):\n    return base.A.v\n", "base.py": CLASS}),
    flow("by a decorator of the project", f"from datetime import date\ndef start(c):\n    c.v = date(2024, 1, 1)\n    return c\n@start\n{CLASS}{RUN}", "2024", "2025", DIFFERENT),
    flow("by a base's hook", f"from datetime import date\nclass B:\n    def __init_subclass__(cls, year):\n        cls.v = date(year, 1, 1)\nclass A(B, year=2024):\n    pass\n{RUN}", "2024", "2025", DIFFERENT),
    flow("counter", f"from collections import Counter\n{CLASS}A.v = Counter('aab')\n{RUN}", "aab", "abb", DIFFERENT),
    flow("written value, set to itself", f"{CLASS}{RUN}", "v = 0\n", "v = 0\nA.v = 0\n", SAME),
    flow("logger", f"import logging\n{CLASS}A.log = logging.getLogger('a')\n{RUN}", "'a'", "'b'", SAME),
    flow("comment beside it", f"from datetime import date\n{CLASS}A.v = date(2024, 1, 1)\n{RUN}", "1, 1)", "1, 1)  # start", SAME),
]  # fmt: skip

CALL = "def step(x):\n    return A().go()\n"
RETRY = "import tenacity\n"
WHILE_MADE = [
    config("default of a method", f"class A:\n    def __init__(self, depth=cfg('n')):\n        self.depth = depth\n    def go(self):\n        return self.depth\n{CALL}"),
    config("keyword default of a method", f"class A:\n    def go(self, *, depth=cfg('n')):\n        return depth\n{CALL}"),
    config("default of a static method", "class A:\n    @staticmethod\n    def go(depth=cfg('n')):\n        return depth\ndef step(x):\n    return A.go()\n"),
    config("default of a class method", "class A:\n    @classmethod\n    def go(cls, depth=cfg('n')):\n        return depth\ndef step(x):\n    return A.go()\n"),
    config("default of a property's function", f"class A:\n    def _get(self, depth=cfg('n')):\n        return depth\n    v = property(_get)\n    def go(self):\n        return self.v\n{CALL}"),
    config("class attribute", f"class A:\n    n = cfg('n')\n    def go(self):\n        return self.n\n{CALL}"),
    config("class attribute of another type", f"from datetime import date\nclass A:\n    day = date.fromisoformat(cfg('day'))\n    def go(self):\n        return self.day\n{CALL}", "2024", "2025"),
    config("unpacked tuple", f"class A:\n    low, high = cfg('pair')\n    def go(self):\n        return self.low\n{CALL}", "[1", "[2"),
    config("unpacked tuple of dates", f"from datetime import date\nclass A:\n    first, last = date.fromisoformat(cfg('day')), None\n    def go(self):\n        return self.first\n{CALL}", "2024", "2025"),
    config("attribute of a loop", f"class A:\n    table = {{}}\n    for k in ('a', 'b'):\n        table[k] = cfg('n')\n    def go(self):\n        return self.table\n{CALL}"),
    config("dataclass field", f"from dataclasses import dataclass\n@dataclass\nclass A:\n    n: int = cfg('n')\n    def go(self):\n        return self.n\n{CALL}"),
    config("slotted dataclass", f"from dataclasses import dataclass\n@dataclass(slots=True)\nclass A:\n    n: int = cfg('n')\n    def go(self):\n        return self.n\n{CALL}"),
    config("dataclass factory", f"from dataclasses import dataclass, field\nfrom functools import partial\n@dataclass(slots=True)\nclass A:\n    n: list = field(default_factory=partial(range, cfg('n')))\n    def go(self):\n        return self.n\n{CALL}"),
    config("dataclass metadata", f"from dataclasses import dataclass, field, fields\n@dataclass\nclass A:\n    n: int = field(default=0, metadata={{'top': cfg('n')}})\n    def go(self):\n        return fields(self)[0].metadata\n{CALL}"),
    config("dataclass option", f"from dataclasses import dataclass\n@dataclass(frozen=cfg('flag'))\nclass A:\n    n: int = 1\n    def go(self):\n        return hash(self)\n{CALL}", "true", "false"),
    config("pydantic default", f"from pydantic import BaseModel\nclass A(BaseModel):\n    n: int = cfg('n')\n    def go(self):\n        return self.n\n{CALL}"),
    config("pydantic constraint", f"from pydantic import BaseModel, Field\nclass A(BaseModel):\n    n: int = Field(default=9, ge=cfg('n'))\n    def go(self):\n        return self.n\n{CALL}"),
    config("pydantic annotation", f"from typing import Annotated\nfrom pydantic import BaseModel, Field\nclass A(BaseModel):\n    n: Annotated[int, Field(le=cfg('n'))] = 1\n    def go(self):\n        return self.n\n{CALL}"),
    config("pydantic private attribute", f"from pydantic import BaseModel, PrivateAttr\nclass A(BaseModel):\n    _n: int = PrivateAttr(default=cfg('n'))\n    def go(self):\n        return self._n\n{CALL}"),
    config("pydantic configuration", f"from pydantic import BaseModel\nclass A(BaseModel):\n    model_config = {{'frozen': cfg('flag')}}\n    n: int = 1\n    def go(self):\n        return self.n\n{CALL}", "true", "false"),
    config("attrs default", f"import attrs\n@attrs.define\nclass A:\n    n: int = cfg('n')\n    def go(self):\n        return self.n\n{CALL}"),
    config("attrs factory", f"import attrs\nfrom functools import partial\n@attrs.define\nclass A:\n    n: range = attrs.field(factory=partial(range, cfg('n')))\n    def go(self):\n        return self.n\n{CALL}"),
    config("attrs validator", f"import attrs\n@attrs.define\nclass A:\n    n: int = attrs.field(default=9, validator=attrs.validators.ge(cfg('n')))\n    def go(self):\n        return self.n\n{CALL}"),
    config("msgspec default", f"import msgspec\nclass A(msgspec.Struct):\n    n: int = cfg('n')\n    def go(self):\n        return self.n\n{CALL}"),
    config("named tuple default", f"from typing import NamedTuple\nclass A(NamedTuple):\n    n: int = cfg('n')\n    def go(self):\n        return self.n\n{CALL}"),
    config("enum value", "import enum\nclass A(enum.Enum):\n    P = cfg('n')\ndef step(x):\n    return A.P.value\n"),
    config("argument of the project's decorator", f"def times(n):\n    def wrap(f):\n        def inner(self):\n            return [f(self)] * n\n        return inner\n    return wrap\nclass A:\n    @times(cfg('n'))\n    def go(self):\n        return 1\n{CALL}"),
    config("argument of the project's decorator that says what it wraps", f"import functools\ndef times(n):\n    def wrap(f):\n        @functools.wraps(f)\n        def inner(self):\n            return [f(self)] * n\n        return inner\n    return wrap\nclass A:\n    @times(cfg('n'))\n    def go(self):\n        return 1\n{CALL}"),
    config("attribute that a decorator sets on a method", f"def level(n):\n    def mark(f):\n        f.level = n\n        return f\n    return mark\nclass A:\n    @level(cfg('n'))\n    def go(self):\n        return self.go.level\n{CALL}"),
    config("argument of the project's decorator of a function", "import functools\ndef times(n):\n    def wrap(f):\n        @functools.wraps(f)\n        def inner():\n            return [f()] * n\n        return inner\n    return wrap\n@times(cfg('n'))\ndef h():\n    return 1\ndef step(x):\n    return h()\n"),
    config("descriptor", f"class Limit:\n    def __init__(self, n):\n        self.n = n\n    def __get__(self, owner, kind=None):\n        return self.n\n    def __set__(self, owner, value):\n        pass\nclass A:\n    n = Limit(cfg('n'))\n    def go(self):\n        return self.n\n{CALL}"),
    flow("default bound before a rebinding", f"N = 1\nclass A:\n    def go(self, n=N):\n        return n\nN = 3\n{CALL}", "N = 1", "N = 2", DIFFERENT),
    flow("attribute bound before a rebinding", f"N = 1\nclass A:\n    n = N\n    def go(self):\n        return self.n\nN = 3\n{CALL}", "N = 1", "N = 2", DIFFERENT),
    flow("field bound before a rebinding", f"from dataclasses import dataclass\nN = 1\n@dataclass(slots=True)\nclass A:\n    n: int = N\n    def go(self):\n        return self.n\nN = 3\n{CALL}", "N = 1", "N = 2", DIFFERENT),
    flow("base bound before a rebinding", f"class P:\n    def go(self):\n        return 1\nclass Q:\n    def go(self):\n        return 2\nB = P\nclass A(B):\n    pass\nB = None\n{CALL}", "B = P", "B = Q", DIFFERENT),
    config("setting that is not read", f"class A:\n    n = cfg('n')\n    def go(self):\n        return self.n\n{CALL}", "2024", "2025", SAME),
    flow("formatting of fields", f"from dataclasses import dataclass, field\n@dataclass(slots=True)\nclass A:\n    n: int = field(default=1)\n    def go(self):\n        return self.n\n{CALL}", "field(default=1)", "field(\n        default=1,\n    )", SAME),
    flow("order of methods' keywords", f"class A:\n    def go(self, *, a=1, b=None):\n        return a\n{CALL}", "a=1, b=None", "a=1,  b=None", SAME),
]  # fmt: skip

EITHER = "try:\n    import {module}\n    class A:\n        def go(self):\n            return 1\nexcept ImportError:\n    class A:\n        def go(self):\n            return 2\n"
FLAG = "FLAG = True\n"
IN_FORCE = [
    flow("class, by an import", EITHER.format(module="json") + CALL, "import json", "import absent_library", DIFFERENT),
    flow("class, by a flag", f"{FLAG}if FLAG:\n    class A:\n        def go(self):\n            return 1\nelse:\n    class A:\n        def go(self):\n            return 2\n{CALL}", "True", "False", DIFFERENT),
    flow("class of attributes", f"{FLAG}if FLAG:\n    class A:\n        v = 1\nelse:\n    class A:\n        v = 2\n{RUN}", "True", "False", DIFFERENT),
    flow("class of computed attributes", f"from datetime import date\n{FLAG}if FLAG:\n    class A:\n        v = date(2024, 1, 1)\nelse:\n    class A:\n        v = date(2025, 1, 1)\n{RUN}", "True", "False", DIFFERENT),
    flow("class defined twice", "class A:\n    v = 1\nFIRST = A\nclass A:\n    v = 2\nB = A\ndef step(x):\n    return B.v\n", "B = A", "B = FIRST", DIFFERENT),
    flow("base class, by a flag", f"{FLAG}class P:\n    def go(self):\n        return 1\nclass Q:\n    def go(self):\n        return 2\nclass A(P if FLAG else Q):\n    pass\n{CALL}", "True", "False", DIFFERENT),
    flow("method, by a flag", f"{FLAG}class A:\n    if FLAG:\n        def go(self):\n            return 1\n    else:\n        def go(self):\n            return 2\n{CALL}", "True", "False", DIFFERENT),
    flow("property, by a flag", f"{FLAG}class A:\n    if FLAG:\n        @property\n        def v(self):\n            return 1\n    else:\n        @property\n        def v(self):\n            return 2\ndef step(x):\n    return A().v\n", "True", "False", DIFFERENT),
    flow("attribute, by a flag", f"{FLAG}class A:\n    if FLAG:\n        v = 1\n    else:\n        v = 2\n{RUN}", "True", "False", DIFFERENT),
    flow("method that a loop may replace", f"{FLAG}class A:\n    def go(self):\n        return 1\n    if not FLAG:\n        def go(self):\n            return 2\n{CALL}", "True", "False", DIFFERENT),
    flow("function, by an import", "try:\n    import json\n    def h():\n        return 1\nexcept ImportError:\n    def h():\n        return 2\ndef step(x):\n    return h()\n", "import json", "import absent_library", DIFFERENT),
    flow("function, by a flag", f"{FLAG}if FLAG:\n    def h():\n        return 1\nelse:\n    def h():\n        return 2\ndef step(x):\n    return h()\n", "True", "False", DIFFERENT),
    flow("lambda, by a flag", f"{FLAG}h = (lambda: 1) if FLAG else (lambda: 2)\ndef step(x):\n    return h()\n", "True", "False", DIFFERENT),
    flow("constant, by an import", "try:\n    import json\n    K = 1\nexcept ImportError:\n    K = 2\ndef step(x):\n    return K\n", "import json", "import absent_library", DIFFERENT),
    flow("import, by a flag", f"{FLAG}if FLAG:\n    from math import floor as h\nelse:\n    from math import ceil as h\ndef step(x):\n    return h(x)\n", "True", "False", DIFFERENT),
    Edit("own module, by an import", {"flow.py": "try:\n    import quick as impl\nexcept ImportError:\n    import slow as impl\ndef step(x):\n    return impl.go(x)\n", "quick.py": "def go(x):\n    return 1\n", "slow.py": "def go(x):\n    return 2\n"}, "flow.py", "import quick", "import absent_library", DIFFERENT),
    flow("the definition that is not in force", EITHER.format(module="json") + CALL, "return 2", "return 3", SAME),
    flow("the function that is not in force", f"{FLAG}if FLAG:\n    def h():\n        return 1\nelse:\n    def h():\n        return 2\ndef step(x):\n    return h()\n", "return 2", "return 3", SAME),
]  # fmt: skip

WAYS = "class A:\n    def fast(self):\n        return 1\n    def slow(self):\n        return 2\n    def go(self):\n        return 0\n"
WRAP = "import functools\ndef wrap(f, n):\n    @functools.wraps(f)\n    def inner(self):\n        return [f(self)] * n\n    return inner\n"
REBOUND = [
    flow("to another method", f"{WAYS}A.go = A.fast\n{CALL}", "A.go = A.fast", "A.go = A.slow", DIFFERENT),
    flow("in the body of the class", f"{WAYS}    go = fast\n{CALL}", "go = fast", "go = slow", DIFFERENT),
    flow("by a wrapper that says so", f"{WRAP}{WAYS}A.go = wrap(A.go, 2)\n{CALL}", ", 2)", ", 3)", DIFFERENT),
    flow("by a wrapper, or not", f"{WRAP}{WAYS}A.go = wrap(A.go, 2)\n{CALL}", "A.go = wrap(A.go, 2)\n", "", DIFFERENT),
    flow("wrapper's body", f"{WRAP}{WAYS}A.go = wrap(A.go, 2)\n{CALL}", "[f(self)]", "[-f(self)]", DIFFERENT),
    flow("wrapped in the other order", f"{WRAP}{WAYS}A.go = wrap(wrap(A.go, 2), 3)\n{CALL}", "wrap(wrap(A.go, 2), 3)", "wrap(wrap(A.go, 3), 2)", DIFFERENT),
    flow("to a function of the module", f"def one(self):\n    return 1\ndef two(self):\n    return 2\n{WAYS}A.go = one\n{CALL}", "A.go = one", "A.go = two", DIFFERENT),
    flow("to a lambda", f"{WAYS}A.go = lambda self: 1\n{CALL}", "self: 1", "self: 2", DIFFERENT),
    flow("to a method of another class", f"class B:\n    def go(self):\n        return 1\nclass C:\n    def go(self):\n        return 2\n{WAYS}A.go = B.go\n{CALL}", "A.go = B.go", "A.go = C.go", DIFFERENT),
    flow("to a partial method", f"import functools\ndef h(self, n=0):\n    return n\n{WAYS}A.go = functools.partialmethod(h, n=1)\n{CALL}", "n=1", "n=2", DIFFERENT),
    flow("to a method of a copy with other defaults", f"import types\n{WAYS.replace('go(self)', 'go(self, n=1)')}A.go = types.FunctionType(A.go.__code__, globals(), 'go', (5,))\n{CALL}", "(5,)", "(6,)", DIFFERENT),
    flow("defaults set later", f"{WAYS.replace('go(self)', 'go(self, n=1)')}A.go.__defaults__ = (5,)\n{CALL}", "(5,)", "(6,)", DIFFERENT),
    flow("special method added later", "class A:\n    pass\ndef one(self, x):\n    return 1\ndef two(self, x):\n    return 2\nA.__call__ = one\ndef step(x):\n    return A()(x)\n", "A.__call__ = one", "A.__call__ = two", DIFFERENT),
    flow("special method's body", "class A:\n    pass\nA.__len__ = lambda self: 1\ndef step(x):\n    return len(A())\n", "self: 1", "self: 2", DIFFERENT),
    flow("special method of a dataclass", "from dataclasses import dataclass\n@dataclass\nclass A:\n    n: int = 1\nA.__eq__ = lambda self, other: True\ndef step(x):\n    return A() == x\n", "True", "False", DIFFERENT),
    flow("special constant", "class A:\n    pass\nA.__version__ = '1'\ndef step(x):\n    return A.__version__\n", "'1'", "'2'", DIFFERENT),
    flow("setter added later", "class A:\n    @property\n    def v(self):\n        return self._v\ndef put(self, value):\n    self._v = value\nA.v = A.v.setter(put)\ndef step(x):\n    a = A()\n    a.v = x\n    return a.v\n", "= value", "= -value", DIFFERENT),
    flow("setter written below the getter", "class A:\n    @property\n    def v(self):\n        return self._v\n    @v.setter\n    def v(self, value):\n        self._v = value\ndef step(x):\n    a = A()\n    a.v = x\n    return a.v\n", "= value", "= -value", DIFFERENT),
    flow("getter replaced", "class A:\n    @property\n    def v(self):\n        return 1\nA.v = property(lambda self: 2)\ndef step(x):\n    return A().v\n", "self: 2", "self: 3", DIFFERENT),
    flow("case of a method added later", "import functools\nclass A:\n    @functools.singledispatchmethod\n    def go(self, x):\n        return 0\nA.go.register(int, lambda self, x: 1)\ndef step(x):\n    return A().go(x)\n", "x: 1", "x: 2", DIFFERENT)
    ._replace(files={"flow.py": "import functools\nclass A:\n    @functools.singledispatchmethod\n    def go(self, x):\n        return 0\nvars(A)['go'].register(int, lambda self, x: 1)\ndef step(x):\n    return A().go(x)\n"}),
    flow("case of a method, written", "import functools\nclass A:\n    @functools.singledispatchmethod\n    def go(self, x):\n        return 0\n    @go.register\n    def _(self, x: int):\n        return 1\ndef step(x):\n    return A().go(x)\n", "return 1", "return 2", DIFFERENT),
    flow("type of a method's case", "import functools\nclass A:\n    @functools.singledispatchmethod\n    def go(self, x):\n        return 0\ndef case(self, x):\n    return 1\nvars(A)['go'].register(int, case)\ndef step(x):\n    return A().go(x)\n", "(int,", "(str,", DIFFERENT),
    Edit("case of a function in another module", {"flow.py": "import cases\nfrom base import go\ndef step(x):\n    return go(x)\n", "base.py": "import functools\n@functools.singledispatch\ndef go(x):\n    return 0\n", "cases.py": "from base import go\n@go.register\ndef _(x: int):\n    return 1\n"}, "cases.py", "return 1", "return 2", DIFFERENT),
    flow("types of a function's cases swapped", "import functools\n@functools.singledispatch\ndef go(x):\n    return 0\ndef one(x):\n    return 1\ndef two(x):\n    return 2\ngo.register(int, one)\ngo.register(str, two)\ndef step(x):\n    return go(x)\n", "go.register(int, one)\ngo.register(str, two)", "go.register(str, one)\ngo.register(int, two)", DIFFERENT),
    flow("method of a class made by a call", "def one(self, x):\n    return 1\nA = type('A', (), {'__call__': one})\ndef step(x):\n    return A()(x)\n", "return 1", "return 2", DIFFERENT),
    flow("inherited method, rebound on the base", f"{WAYS}class B(A):\n    pass\nA.go = A.fast\ndef step(x):\n    return B().go()\n", "A.go = A.fast", "A.go = A.slow", DIFFERENT),
    flow("method set on a metaclass", "class M(type):\n    pass\nclass A(metaclass=M):\n    pass\nM.go = lambda cls: 1\ndef step(x):\n    return A.go()\n", "cls: 1", "cls: 2", DIFFERENT),
    flow("comment in a rebound method", f"{WAYS}A.go = A.fast\n{CALL}", "return 1", "return 1  # fast", SAME),
    flow("annotation of a method", f"{WAYS}A.go = A.fast\n{CALL}", "def go(self):", "def go(self) -> int:", SAME),
]  # fmt: skip


@pytest.mark.parametrize("edit", [*SET_LATER, *WHILE_MADE, *IN_FORCE, *REBOUND], ids=lambda edit: edit.name)
def test_edit(edit: Edit, tmp_path: Path) -> None:
    """The key changes with an edit that can change the result, and with no other."""
    edit.check(tmp_path)


HIDDEN = "def cfg(name):\n    return 2\n"
REFUSED = {
    "options of a library's decorator on a method": (f"import tenacity\n{HIDDEN}class A:\n    @tenacity.retry(stop=tenacity.stop_after_attempt(cfg('n')))\n    def go(self):\n        return 1\n{CALL}", "constant"),
    "options of a library's decorator on a function": (f"import tenacity\n{HIDDEN}@tenacity.retry(stop=tenacity.stop_after_attempt(cfg('n')))\ndef h(x):\n    return x\ndef step(x):\n    return h(x)\n", "constant"),
    "option of a library's decorator that is bound again": ("import tenacity\nN = 2\n@tenacity.retry(stop=tenacity.stop_after_attempt(N))\ndef h(x):\n    return x\nN = 3\ndef step(x):\n    return h(x)\n", "'N'"),
    "open file in a class": (f"class A:\n    pass\nA.v = open(__file__)\n{RUN}", "TextIOWrapper"),
    "special method made by exec": ("space = {}\nexec('def f(self): return 1', space)\nclass A:\n    pass\nA.__call__ = space['f']\ndef step(x):\n    return A()()\n", "no source"),
    "connection in a class": (f"import sqlite3\nclass A:\n    pass\nA.v = sqlite3.connect(':memory:')\n{RUN}", "Connection"),
}  # fmt: skip


if sys.version_info < (3, 13):
    # Later versions tell the line of the class statement that made a class.
    REFUSED["which of two decorated classes"] = ("from dataclasses import dataclass\nif len('a'):\n    @dataclass\n    class A:\n        v = 1\nelse:\n    @dataclass(frozen=True)\n    class A:\n        v = 1\ndef step(x):\n    return A.v\n", "own name")  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(text: str, reason: str, tmp_path: Path) -> None:
    """A class that cannot be known soundly leaves the step uncached, with what to change."""
    with pytest.raises(FingerprintError, match=reason) as refusal:
        Project(tmp_path, {"flow.py": text}).code()
    assert "cache=False" in str(refusal.value)
