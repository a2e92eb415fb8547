"""What the summary of a text says of each definition."""

from __future__ import annotations

import sys
import textwrap

import pytest

from airflow_zen.caching.code.summary import Definition
from airflow_zen.caching.code.syntax import summarize


def definition_of(text: str, qualname: str = "f") -> Definition:
    """Return the definition of a name in a text."""
    (found,) = (one for one in summarize(textwrap.dedent(text)).definitions if one.qualname == qualname)
    return found


OUTSIDE = {
    "free name": ("def f():\n    return a", "a"),
    "parameter": ("def f(a, /, b, *c, d, **e):\n    return a, b, c, d, e", ""),
    "local": ("def f():\n    a = 1\n    return a", ""),
    "attributes": ("def f():\n    return a.b.c", "a.b.c"),
    "attribute of a call": ("def f():\n    return a.b().c", "a.b"),
    "getattr": ("def f():\n    return getattr(a, 'b').c", "a.b.c"),
    "computed getattr": ("def f(n):\n    return getattr(a, n)", "a getattr"),
    "globals": ("def f(a):\n    return globals()['a'].b", "a.b"),
    "call": ("def f(x):\n    return a(b(x), c=d)", "a b d"),
    "target of a loop": ("def f():\n    for a in b:\n        a", "b"),
    "comprehension": ("def f():\n    return [a for a in b if a > c]", "b c"),
    "comprehension over its own name": ("def f():\n    return [a for a in a]", "a"),
    "second loop of a comprehension": ("def f(b):\n    return {a: c for b in b for a in b}", "c"),
    "walrus": ("def f(x):\n    return [a for b in x if (a := b)], a", ""),
    "walrus in nested comprehensions": ("def f(x):\n    return [[(a := c) for c in b] for b in x], a", ""),
    "nested function": ("def f():\n    a = 1\n    def g():\n        return a, b\n    return g", "b"),
    "nested function's own name": ("def f():\n    def g():\n        b = 1\n        return b\n    return g, b", "b"),
    "nested default": ("def f():\n    def g(x=a):\n        return x\n    return g", "a"),
    "own default": ("def f(x=a):\n    return x", ""),
    "own annotation": ("def f(x: a) -> b:\n    y: c = x\n    return y", ""),
    "own decorator": ("@a.b\ndef f():\n    return 1", ""),
    "lambda": ("def f():\n    return lambda x: x + a", "a"),
    "global": ("def f():\n    global a\n    a = a + 1", "a"),
    "global counted up": ("def f():\n    global a\n    a += 1", "a"),
    "nonlocal": ("def f():\n    a = 1\n    def g():\n        nonlocal a\n        a += 1", ""),
    "deleted": ("def f():\n    a = 1\n    del a", ""),
    "except": ("def f():\n    try:\n        a()\n    except b as c:\n        c", "a b"),
    "with": ("def f():\n    with a() as b:\n        b", "a"),
    "match": ("def f(x):\n    match x:\n        case {'k': a, **b}:\n            return a, b\n        case [c, *d] as g if e.F:\n            return c, d, g", "e.F"),
    "f-string": ("def f(x):\n    return f'{x} {a:>{b}}'", "a b"),
    "class in a function": ("def f():\n    a = 1\n    class C:\n        b = a\n        def g(self):\n            return a, b\n    return C", "b"),
    "class body reads what it has bound": ("class f:\n    a = 1\n    b = a", ""),
    "class body reads before it binds": ("class f:\n    a = a", "a"),
    "class body binds in a branch": ("class f:\n    if c:\n        a = 1\n    b = a", "a c"),
    "comprehension in a class": ("class f:\n    a = 1\n    b = [a for _ in c]", "a c"),
    "private name": ("class f:\n    def g(self):\n        return __a", "_f__a"),
    "type checking": ("def f():\n    if TYPE_CHECKING:\n        from a import b\n    else:\n        c()", "c"),
    "import": ("def f():\n    import a.b\n    import c as d\n    from .e import g\n    return a.b.h, d, g", "a.b.h<a d<c g<.e:g"),
    "import in either branch": ("def f():\n    try:\n        import a\n    except ImportError:\n        import b as a\n    return a", "ImportError a<a<b"),
    "import of a nested function": ("def f():\n    import a\n    def g():\n        return a.b\n    return g", "a.b<a"),
    "import in a class": ("class f:\n    import a\n    b = a.c", "a.c<a"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "outside"), OUTSIDE.values(), ids=OUTSIDE)
def test_names_from_outside(text: str, outside: str) -> None:
    """The references of a definition are the names that it does not bind itself, with what its own imports say."""
    found = set()
    for one in definition_of(text).code.references:
        imports = (
            f"{'.' * each.level}{each.module}{':' * bool(each.attribute)}{each.attribute}" for each in one.imports
        )
        found.add("<".join([".".join(one.chain), *imports]))
    assert found == set(outside.split())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters are new in Python 3.12")
def test_type_parameters_are_no_names_from_outside() -> None:
    """The type parameters of a function are its own names."""
    assert definition_of("def f[T: a](x: T) -> T:\n    return T, b").code.references[0].chain == ("a",)


EQUAL = {
    "spaces": ("def f(x):\n    return x+1", "def f( x ) :\n\n    return (x + 1)  # why"),
    "docstring": ("def f(x):\n    return x", 'def f(x):\n    "Say."\n    return x'),
    "annotations": ("def f(x):\n    y = x\n    return y", "def f(x: int) -> int:\n    z: str\n    y: int = x\n    return y"),
    "pass": ("def f(x):\n    if x:\n        g()", "def f(x):\n    if x:\n        g()\n        pass"),
    "imports at the top or within": ("def f(x):\n    return np.abs(x)", "def f(x):\n    import numpy as np\n    return np.abs(x)"),
    "quotes": ("def f():\n    return 'a'", 'def f():\n    return """a"""'),
    "decorator": ("def f(x):\n    return x", "@g(1)\ndef f(x):\n    return x"),
}  # fmt: skip


@pytest.mark.parametrize(("one", "two"), EQUAL.values(), ids=EQUAL)
def test_equal_code(one: str, two: str) -> None:
    """What cannot change the result of the code itself is not in its digest."""
    assert definition_of(one).code.digest == definition_of(two).code.digest


DIFFERENT = {
    "name for a string": ("return x", "return 'x'"),
    "name for a number": ("return x1", "return 1"),
    "string for a number": ("return 1", "return '1'"),
    "number's type": ("return 1", "return 1.0"),
    "grouping": ("return [x, y], z", "return [x], y, z"),
    "nesting": ("return f(x)(y)", "return f(x, y)"),
    "attribute or name": ("return a.b", "return 'a.b'"),
    "name that is a node's": ("return Pass", "return Call"),
    "operator": ("return x + y", "return x - y"),
    "order": ("return x, y", "return y, x"),
    "keyword": ("return g(x=1)", "return g(y=1)"),
    "star": ("return g(*x)", "return g(**x)"),
    "async comprehension": ("return [y async for y in x]", "return [y for y in x]"),
    "lines of a block": ("if x:\n        y()\n    z()", "if x:\n        y()\n        z()"),
    "import that is not used": ("import a\n    return x", "return x"),
    "import that is bound again": ("import a\n    a = 1\n    return a", "a = 1\n    import a\n    return a"),
    "not a number": ("return 1e999", "return -1e999"),
    "surrogate": (r"return '\ud800'", r"return '\ud801'"),
}  # fmt: skip


@pytest.mark.parametrize(("one", "two"), DIFFERENT.values(), ids=DIFFERENT)
def test_different_code(one: str, two: str) -> None:
    """Code that may give another result has another digest."""
    texts = (f"async def f(x, y=1, z=2):\n    {each}\n" for each in (one, two))
    assert len({definition_of(text).code.digest for text in texts}) == 2


def test_parameter_kinds_are_told_apart() -> None:
    """The kind of a parameter is in the digest."""
    kinds = ("a, b", "a, /, b", "a, *, b", "*a, b", "a, *b", "a, **b", "*a, **b")
    assert len({definition_of(f"def f({each}):\n    return a, b").code.digest for each in kinds}) == len(kinds)


def test_constants_written_in_the_text() -> None:
    """Constant defaults and class attributes are known from the text; what is assigned twice or computed is not."""
    assert definition_of("def f(a, b=1, *, c='x', d=g()): ...").literals == {"b": "int 1", "c": "str 'x'"}
    text = "class f:\n    a = 1\n    b: int = 2\n    c = g()\n    d = 1\n    d = 2\n    def m(self):\n        a = 9\n"
    assert definition_of(text).literals == {"a": "int 1", "b": "int 2", "c": "", "d": ""}


def test_compiled_code_is_known() -> None:
    """The digest of each function's code object is in the summary, also of several lambdas on a line."""
    text = "@g\ndef f(x):\n    return [y for y in x]\na, b = (lambda: 1), (lambda: 2)\nclass C:\n    pass\n"
    found = {(one.qualname, one.compiled) for one in summarize(text).definitions}
    assert len(found) == 4
    assert [name for name, compiled in found if not compiled] == ["C"]
