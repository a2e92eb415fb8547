"""Code that is found by a name when it runs: literal names are followed, computed ones leave the step uncached."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_zen.errors import FingerprintError
from tests.caching.code.project import DIFFERENT, SAME, Edit, Project

HELPERS = "def inner(x):\n    return x\ndef clean(x):\n    return inner(x)\nclass Model:\n    def go(self, x):\n        return inner(x)\n"
FILES = {"pkg/__init__.py": "", "pkg/helpers.py": HELPERS, "pkg/base.py": "", "helpers.py": HELPERS}


def edit(
    name: str,
    flow: str,
    same: bool = DIFFERENT,
    file: str = "pkg/helpers.py",
    at: str = "flow.py",
    old: str = "return x",
) -> Edit:
    """An edit of the module that the step finds by a name; `at` is the file of the step's code."""
    run = {} if at == "flow.py" else {"flow.py": "from pkg.steps import step\n"}
    return Edit(name, {**FILES, **run, at: flow}, file, old, old.replace("return ", "return -"), same)


FOLLOWED = [
    edit("import_module", "import importlib\ndef step(x):\n    return importlib.import_module('pkg.helpers').clean(x)\n"),
    edit("import_module, its name imported", "from importlib import import_module\ndef step(x):\n    return import_module('pkg.helpers').clean(x)\n"),
    edit("alias in an import", "from importlib import import_module as load\ndef step(x):\n    return load('pkg.helpers').clean(x)\n"),
    edit("alias in an assignment", "import importlib\nload = importlib.import_module\ndef step(x):\n    return load('pkg.helpers').clean(x)\n"),
    edit("alias of the module", "import importlib as il\ndef step(x):\n    return il.import_module('pkg.helpers').clean(x)\n"),
    edit("imported inside", "def step(x):\n    from importlib import import_module\n    return import_module('pkg.helpers').clean(x)\n"),
    edit("by keyword", "import importlib\ndef step(x):\n    return importlib.import_module(name='pkg.helpers').clean(x)\n"),
    edit("relative to a package", "import importlib\ndef step(x):\n    return importlib.import_module('.helpers', 'pkg').clean(x)\n"),
    edit("relative to a package by keyword", "import importlib\ndef step(x):\n    return importlib.import_module('.helpers', package='pkg').clean(x)\n"),
    edit("relative to its own package", "import importlib\ndef step(x):\n    return importlib.import_module('.helpers', package=__package__).clean(x)\n", at="pkg/steps.py"),
    edit("two levels up", "import importlib\ndef step(x):\n    return importlib.import_module('..helpers', 'pkg.base').clean(x)\n"),
    edit("then an attribute by a computed name", "import importlib\ndef step(x):\n    return getattr(importlib.import_module('pkg.helpers'), f'{x}ean')(x)\n"),
    edit("__import__", "def step(x):\n    return __import__('helpers').clean(x)\n", file="helpers.py"),
    edit("__import__ of a submodule", "def step(x):\n    return __import__('pkg.helpers').helpers.clean(x)\n"),
    edit("pkgutil.resolve_name", "import pkgutil\ndef step(x):\n    return pkgutil.resolve_name('pkg.helpers:clean')(x)\n"),
    edit("pkgutil.resolve_name with dots", "from pkgutil import resolve_name\ndef step(x):\n    return resolve_name('pkg.helpers.Model')().go(x)\n"),
    edit("pydoc.locate", "import pydoc\ndef step(x):\n    return pydoc.locate('pkg.helpers.clean')(x)\n"),
    edit("import_string of Airflow", "from airflow.sdk.module_loading import import_string\ndef step(x):\n    return import_string('pkg.helpers.clean')(x)\n"),
    edit("sys.modules", "import sys, pkg.helpers\ndef step(x):\n    return sys.modules['pkg.helpers'].clean(x)\n"),
    edit("sys.modules.get", "import sys\ndef step(x):\n    return sys.modules.get('helpers').clean(x)\nimport helpers\n", file="helpers.py"),
    edit("its own module", "import sys\nfrom pkg.helpers import clean\ndef step(x):\n    return getattr(sys.modules[__name__], f'{x}ean')(x)\n"),
    edit("its own module by import_module", "import importlib\nfrom pkg.helpers import clean\ndef step(x):\n    return getattr(importlib.import_module(__name__), f'{x}ean')(x)\n"),
    edit("computed attribute of an own module", "from pkg import helpers\ndef step(x):\n    return getattr(helpers, f'{x}ean')(x)\n"),
    edit("computed attribute of an own package", "import pkg\nimport pkg.helpers\ndef step(x):\n    return getattr(pkg, f'{x}ers').clean(x)\n"),
    edit("computed attribute, imported inside", "def step(x):\n    from pkg import helpers as h\n    return getattr(h, x + 'ean')(x)\n"),
    edit("computed attribute of a module in a dictionary", "from pkg import helpers\nBY = {'h': helpers}\ndef step(x):\n    return getattr(BY['h'], f'{x}ean')(x)\n"),
    edit("__dict__ by a computed name", "from pkg import helpers\ndef step(x):\n    return helpers.__dict__[x](x)\n"),
    edit("__dict__ by a literal name", "from pkg import helpers\ndef step(x):\n    return helpers.__dict__['clean'](x)\n"),
    edit("vars by a computed name", "from pkg import helpers\ndef step(x):\n    return vars(helpers)[x](x)\n"),
    edit("vars by a literal name", "from pkg import helpers\ndef step(x):\n    return vars(helpers)['clean'](x)\n"),
    edit("names of a module", "from pkg import helpers\ndef step(x):\n    return [f(x) for n, f in helpers.__dict__.items() if n == 'clean']\n"),
    edit("members of a module", "import inspect\nfrom pkg import helpers\ndef step(x):\n    return dict(inspect.getmembers(helpers))['clean'](x)\n"),
    edit("attrgetter", "import operator\nfrom pkg import helpers\ndef step(x):\n    return operator.attrgetter(f'{x}ean')(helpers)(x)\n"),
    edit("computed attribute of a class", "from pkg.helpers import Model\ndef step(x):\n    return getattr(Model(), f'{x}o')(x)\n"),
    edit("what is not found by the literal name", "from pkg import helpers\ndef step(x):\n    return helpers.__dict__['inner'](x)\n", SAME, old="return inner(x)\nclass"),
    edit("vars of an own value", "def step(x):\n    return vars(x)['clean']\n", SAME),
    edit("find_spec says only whether a module is there", "import importlib.util\ndef step(x):\n    return importlib.util.find_spec('pkg') is not None\n", SAME),
    edit("comment in a followed module", "import importlib\ndef step(x):\n    return importlib.import_module('pkg.helpers').clean(x)\n", SAME)._replace(new="return x  # same"),
]  # fmt: skip


@pytest.mark.parametrize("edit", FOLLOWED, ids=lambda edit: edit.name)
def test_literal_names_are_followed(edit: Edit, tmp_path: Path) -> None:
    """Code that a literal name finds, or that any name may find in a module of the project, is in the key."""
    edit.check(tmp_path)


REFUSED = {
    "import_module": ("import importlib\ndef step(x):\n    return importlib.import_module(x)\n", "import_module"),
    "import_module with a formatted name": ("import importlib\ndef step(x):\n    return importlib.import_module(f'models.{x}')\n", "import_module"),
    "import_module, alias in an import": ("from importlib import import_module as load\ndef step(x):\n    return load(x)\n", "import_module"),
    "import_module, alias in an assignment": ("import importlib\nload = importlib.import_module\ndef step(x):\n    return load(x)\n", "import_module"),
    "import_module passed on": ("import importlib\ndef step(x):\n    return list(map(importlib.import_module, x))\n", "import_module"),
    "import_module in a partial": ("import importlib, functools\nload = functools.partial(importlib.import_module, package='pkg')\ndef step(x):\n    return load(x)\n", "import_module"),
    "import_module as a default": ("import importlib\ndef step(x, load=importlib.import_module):\n    return load(x)\n", "import_module"),
    "import_module in a table": ("import importlib\nLOAD = {'m': importlib.import_module}\ndef step(x):\n    return LOAD['m'](x)\n", "import_module"),
    "import_module with a computed package": ("import importlib\ndef step(x):\n    return importlib.import_module('.a', package=x)\n", "import_module"),
    "import_module in a module's __getattr__": ("import lazy\ndef step(x):\n    return getattr(lazy, x)\n", "import_module"),
    "__import__": ("def step(x):\n    return __import__(x)\n", "__import__"),
    "pkgutil.resolve_name": ("import pkgutil\ndef step(x):\n    return pkgutil.resolve_name(x)\n", "resolve_name"),
    "pydoc.locate": ("from pydoc import locate\ndef step(x):\n    return locate(f'models.{x}')\n", "locate"),
    "import_string of Airflow": ("from airflow.sdk.module_loading import import_string\ndef step(x):\n    return import_string(x)\n", "import_string"),
    "spec_from_file_location": ("import importlib.util\ndef step(x):\n    return importlib.util.spec_from_file_location('m', 'm.py')\n", "spec_from_file_location"),
    "spec_from_file_location, imported": ("from importlib.util import spec_from_file_location as at\ndef step(x):\n    return at('m', x)\n", "spec_from_file_location"),
    "source loader": ("from importlib.machinery import SourceFileLoader\ndef step(x):\n    return SourceFileLoader('m', 'm.py').load_module()\n", "SourceFileLoader"),
    "sys.modules by a computed name": ("import sys\ndef step(x):\n    return sys.modules[x]\n", "sys.modules"),
    "sys.modules, imported": ("from sys import modules\ndef step(x):\n    return modules[f'models.{x}']\n", "sys.modules"),
    "sys.modules in a constant": ("import sys\nM = sys.modules\ndef step(x):\n    return M[x]\n", "sys.modules"),
    "all of sys.modules": ("import sys\ndef step(x):\n    return [m for m in sys.modules.values()]\n", "sys.modules"),
    "entry points": ("from importlib.metadata import entry_points\ndef step(x):\n    return [e.load() for e in entry_points(group='models')]\n", "entry_points"),
    "entry points by module": ("import importlib.metadata as md\ndef step(x):\n    return md.entry_points()\n", "entry_points"),
    "current frame": ("import inspect\ndef step(x):\n    return inspect.currentframe().f_globals[x]\n", "currentframe|f_globals"),
    "frame of the caller": ("import sys\ndef step(x):\n    return sys._getframe(1).f_globals[x]\n", "_getframe|f_globals"),
    "stack": ("import inspect\ndef step(x):\n    return inspect.stack()[1].frame\n", "inspect.stack"),
    "module of a value": ("import inspect\ndef step(x):\n    return getattr(inspect.getmodule(x), 'f')\n", "getmodule"),
    "subclasses": ("class A:\n    pass\ndef step(x):\n    return [c() for c in A.__subclasses__()]\n", "__subclasses__"),
    "subclasses of the class of a method": ("class A:\n    @classmethod\n    def all(cls):\n        return cls.__subclasses__()\ndef step(x):\n    return A.all()\n", "__subclasses__"),
    "subclasses of an argument": ("def step(x):\n    return type(x).__subclasses__()\n", "__subclasses__"),
    "subclasses by getattr": ("def step(x):\n    return getattr(x, '__subclasses__')()\n", "__subclasses__"),
    "names of a function's module": ("def h():\n    pass\ndef step(x):\n    return h.__globals__[x]()\n", "__globals__"),
    "names of an argument's module": ("def step(x):\n    return x.__globals__['h']()\n", "__globals__"),
    "function made of code": ("import types\ndef step(x):\n    return types.FunctionType(x, {})\n", "types.FunctionType"),
    "objects of the collector": ("import gc\ndef step(x):\n    return gc.get_objects()\n", "get_objects"),
    "in a helper's method": ("import importlib\nclass A:\n    def go(self, x):\n        return importlib.import_module(x)\ndef step(x):\n    return A().go(x)\n", "import_module"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_computed_names_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    """A step that finds code by a name that is not written in it is left uncached, with what to change."""
    lazy = "import importlib\ndef __getattr__(name):\n    return importlib.import_module(f'{__name__}_{name}')\n"
    with pytest.raises(FingerprintError, match=reason) as refusal:
        Project(tmp_path, {"flow.py": text, "lazy.py": lazy}).code()
    assert "cache=False" in str(refusal.value)


ALLOWED = {
    "type of a function in isinstance": "import types\ndef step(x):\n    return isinstance(x, types.FunctionType)\n",
    "computed attribute of an argument": "def step(x, name):\n    return getattr(x, name)\n",
    "computed attribute of a library": "import math\ndef step(x, name):\n    return getattr(math, name)(x)\n",
    "another key named modules": "def step(x):\n    return x.modules['a']\n",
    "modules of a network": "def step(net):\n    return [m for m in net.modules()]\n",
    "unused loader in a module that is passed on": "import tools\ndef step(x):\n    return getattr(tools, x)\n",
}  # fmt: skip


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED)
def test_cached(text: str, tmp_path: Path) -> None:
    """Names that cannot lead to code of the project do not switch the cache off."""
    tools = "from importlib import import_module\nimport sys\ndef clean(x):\n    return x\n"
    assert Project(tmp_path, {"flow.py": text, "tools.py": tools}).key()
