"""State that modules set in libraries when they are loaded."""

from __future__ import annotations

import decimal
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn

from tests.caching.code.project import DIFFERENT, SAME, Edit, Project, flow, pair

STEP = "def step(x):\n    return x\n"
BY_IMPORT = "import helpers\n" + STEP
GEO = "import pandas as pd\n@pd.api.extensions.register_dataframe_accessor('geo')\nclass Geo:\n    def __init__(self, frame):\n        self.frame = frame\n    def area(self):\n        return scale(1)\ndef scale(x):\n    return x * 2\ndef step(frame):\n    return frame.geo.area()\n"

STATE = [
    flow("option of scikit-learn", "import sklearn\nsklearn.set_config(transform_output='pandas')\n" + STEP, "'pandas'", "'polars'", DIFFERENT),
    flow("option of pandas", "import pandas as pd\npd.set_option('mode.copy_on_write', True)\n" + STEP, "True", "False", DIFFERENT),
    flow("option of pandas by attribute", "import pandas as pd\npd.options.display.precision = 3\n" + STEP, "= 3", "= 4", DIFFERENT),
    flow("option from a constant", "import pandas as pd\nDIGITS = 3\npd.options.display.precision = DIGITS\n" + STEP, "DIGITS = 3", "DIGITS = 4", DIFFERENT),
    flow("option added", "import pandas as pd\n" + STEP, "def step", "pd.set_option('mode.copy_on_write', True)\ndef step", DIFFERENT),
    flow("option in a branch", "import pandas as pd\nif True:\n    pd.set_option('display.precision', 3)\n" + STEP, "3)", "4)", DIFFERENT),
    flow("comment at an option", "import pandas as pd\npd.set_option('display.precision', 3)\n" + STEP, "3)", "3)  # three", SAME),
    flow("decimal context", "import decimal\ndecimal.getcontext().prec = 5\n" + STEP, "prec = 5", "prec = 6", DIFFERENT),
    flow("decimal context that is set", "from decimal import Context, setcontext\nsetcontext(Context(prec=5))\n" + STEP, "prec=5", "prec=6", DIFFERENT),
    flow("errors of numpy", "import numpy as np\nnp.seterr(all='ignore')\n" + STEP, "'ignore'", "'raise'", DIFFERENT),
    flow("seed", "import random\nrandom.seed(1)\n" + STEP, "seed(1)", "seed(2)", DIFFERENT),
    flow("seed of numpy", "import numpy as np\nnp.random.seed(1)\n" + STEP, "seed(1)", "seed(2)", DIFFERENT),
    flow("environment", "import os\nos.environ['TZ'] = 'UTC'\n" + STEP, "'UTC'", "'CET'", DIFFERENT),
    pair("option of an imported module", BY_IMPORT, "import pandas as pd\npd.set_option('display.precision', 3)\n", "3)", "4)", DIFFERENT),
    pair("option in a function called by an imported module", BY_IMPORT, "import pandas as pd\ndef setup():\n    pd.set_option('display.precision', 3)\nsetup()\n", "3)", "4)", DIFFERENT),
    pair("function without options called by an imported module", BY_IMPORT, "def say():\n    return 3\nsay()\n", "3", "4", SAME),
    Edit("option of the package around a module", {"flow.py": "from pkg.a import f\ndef step(x):\n    return f(x)\n", "pkg/__init__.py": "import numpy as np\nnp.seterr(all='ignore')\n", "pkg/a.py": "def f(x):\n    return x\n"}, "pkg/__init__.py", "'ignore'", "'raise'", DIFFERENT),
    Edit("option two imports away", {"flow.py": BY_IMPORT, "helpers.py": "from deeper import A\n", "deeper.py": "import numpy as np\nnp.seterr(all='ignore')\nA = 1\n"}, "deeper.py", "'ignore'", "'raise'", DIFFERENT),
    Edit("option of a module that is not imported", {"flow.py": STEP, "helpers.py": "import numpy as np\nnp.seterr(all='ignore')\n"}, "helpers.py", "'ignore'", "'raise'", SAME),
    flow("method hung on a library's class", "import pandas as pd\ndef scaled(self):\n    return 2\npd.DataFrame.scaled = scaled\ndef step(x):\n    return x.scaled()\n", "return 2", "return 3", DIFFERENT),
    flow("method hung by setattr", "import pandas as pd\ndef scaled(self):\n    return 2\nsetattr(pd.DataFrame, 'scaled', scaled)\ndef step(x):\n    return x.scaled()\n", "return 2", "return 3", DIFFERENT),
    flow("methods hung in a loop", "import pandas as pd\ndef scaled(self):\n    return 2\nfor name in ('a', 'b'):\n    setattr(pd.DataFrame, name, scaled)\ndef step(x):\n    return x.a()\n", "return 2", "return 3", DIFFERENT),
    flow("function of a library replaced", "import numpy as np\ndef mine(x):\n    return 2\nnp.own_mean = mine\ndef step(x):\n    return np.own_mean(x)\n", "return 2", "return 3", DIFFERENT),
    flow("style of matplotlib", "import matplotlib as mpl\nmpl.rcParams['lines.linewidth'] = 2.0\n" + STEP, "2.0", "3.0", DIFFERENT),
    flow("style of matplotlib by a call", "import matplotlib\nmatplotlib.rc('lines', linewidth=2)\n" + STEP, "=2", "=3", DIFFERENT),
    flow("builtin added", "import builtins\nbuiltins.twice = lambda x: x * 2\ndef step(x):\n    return twice(x)\n", "x * 2", "x * 3", DIFFERENT),
    flow("builtin added by setattr", "import builtins\nsetattr(builtins, 'twice', lambda x: x * 2)\ndef step(x):\n    return twice(x)\n", "x * 2", "x * 3", DIFFERENT),
    flow("registered subclass", "import abc\nclass A(abc.ABC):\n    pass\nA.register(int)\ndef step(x):\n    return isinstance(x, A)\n", "(int)", "(str)", DIFFERENT),
    flow("registered subclass of the project", "import abc\nclass A(abc.ABC):\n    pass\nclass B:\n    n = 1\nA.register(B)\ndef step(x):\n    return isinstance(x, A)\n", "A.register(B)", "pass", DIFFERENT),
    flow("subclass that is registered by a decorator", "import abc\nclass A(abc.ABC):\n    pass\n@A.register\nclass B:\n    n = 1\ndef step(x):\n    return isinstance(x, A)\n", "@A.register\n", "", DIFFERENT),
    flow("order of registered subclasses", "import abc\nclass A(abc.ABC):\n    pass\nA.register(int)\nA.register(str)\ndef step(x):\n    return isinstance(x, A)\n", "A.register(int)\nA.register(str)", "A.register(str)\nA.register(int)", SAME),
    flow("accessor", GEO.replace("scale(1)", "1"), "return 1", "return 2", DIFFERENT),
    flow("helper of an accessor", GEO, "x * 2", "x * 3", DIFFERENT),
    flow("namespace of polars", "import polars as pl\n@pl.api.register_expr_namespace('own')\nclass Own:\n    def __init__(self, e):\n        self.e = e\n    def double(self):\n        return self.e * 2\ndef step(x):\n    return pl.col('a').own.double()\n", "* 2", "* 3", DIFFERENT),
    flow("logging", "import logging\nlogging.basicConfig(level=10)\n" + STEP, "10", "20", SAME),
    flow("path of imports", "import sys\nsys.path.append('a')\n" + STEP, "'a'", "'b'", SAME),
    flow("warnings", "import warnings\nwarnings.filterwarnings('ignore')\n" + STEP, "'ignore'", "'once'", SAME),
    flow("call of a DAG", "from airflow.sdk import dag, task\n@task\ndef step(x):\n    return x\n@dag(schedule=None)\ndef all_steps():\n    step(1)\nall_steps()\n", "    step(1)\n", "    step(1)\n    step(2)\n", SAME),
    flow("print", "print('a')\n" + STEP, "'a'", "'b'", SAME),
]  # fmt: skip

# What a function imports is loaded when it runs: it may add to a table, set an option, or only be read from.
REGISTRY = "MODELS = {}\ndef register(f):\n    MODELS[f.__name__] = f\n    return f\n"
PLUGIN = "from registry import register\n@register\ndef tree(x):\n    return x + 1\n"
READS = "\n    return MODELS['tree'](x)\n"
IN_A_STEP = "from registry import MODELS\ndef step(x):\n    {load}" + READS
IN_A_HELPER = "from registry import MODELS\ndef load():\n    {load}\ndef step(x):\n    load()" + READS
OPTION = "import pandas as pd\npd.set_option('display.precision', 3)\nLIMIT = 1\ndef clean(x):\n    return x\n"


def effect(
    name: str, load: str, same: bool = DIFFERENT, step: str = IN_A_STEP, old: str = "x + 1", new: str = "x + 2"
) -> Edit:
    """An edit of a module that a function imports when it runs."""
    files = {"registry.py": REGISTRY, "plugins/__init__.py": "", "plugins/trees.py": PLUGIN, "plugins/other.py": PLUGIN}
    return Edit(name, {**files, "flow.py": step.format(load=load)}, "plugins/trees.py", old, new, same)


def option(name: str, load: str, same: bool = DIFFERENT) -> Edit:
    """An edit of an option that is set by a module that a function imports when it runs."""
    files = {
        "flow.py": f"def step(x):\n    {load}\n",
        "helpers.py": OPTION,
        "pkg/__init__.py": "",
        "pkg/helpers.py": OPTION,
    }
    return Edit(
        name, files, "pkg/helpers.py" if "pkg" in load else "helpers.py", "precision', 3", "precision', 4", same
    )


EFFECTS = [
    effect("module", "import plugins.trees"),
    effect("module from its package", "from plugins import trees"),
    effect("module under an alias", "import plugins.trees as _"),
    effect("function of a module", "from plugins.trees import tree"),
    effect("module in a helper", "import plugins.trees", step=IN_A_HELPER),
    effect("module in a branch", "if x:\n        import plugins.trees"),
    effect("module in a try statement", "try:\n        import plugins.trees\n    except ImportError:\n        pass"),
    effect("module whose name is set elsewhere too", "import plugins.trees as name\n    name = x"),
    effect("comment in a module", "import plugins.trees", SAME, old="x + 1", new="x + 1  # one"),
    effect("other module", "import plugins.other", SAME),
    option("option of an unused module", "import helpers"),
    option("option beside a constant that is read", "from helpers import LIMIT\n    return LIMIT"),
    option("option beside a function that is called", "from helpers import clean\n    return clean(x)"),
    option("option beside a module that is read", "import helpers\n    return helpers.LIMIT"),
    option("option of a module in a package", "from pkg import helpers\n    return helpers.LIMIT"),
    option("option of a dotted module", "import pkg.helpers\n    return pkg.helpers.LIMIT"),
]


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules are executed in this process: undo what they set in libraries."""
    monkeypatch.setenv("TZ", os.environ.get("TZ", "UTC"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = [item for name in ("display.precision", "mode.copy_on_write") for item in (name, pd.get_option(name))]
    owners = (pd.DataFrame, np, pl.Expr)
    before = [set(vars(owner)) for owner in owners]
    with decimal.localcontext(), np.errstate(), sklearn.config_context(), pd.option_context(*options):
        yield
    for owner, names in zip(owners, before, strict=True):
        for name in set(vars(owner)) - names:
            delattr(owner, name)


@pytest.mark.parametrize("edit", STATE, ids=lambda edit: edit.name)
def test_edit(edit: Edit, tmp_path: Path) -> None:
    """The key changes with state that the step's modules set in libraries, and with no other statement."""
    edit.check(tmp_path)


@pytest.mark.parametrize("edit", EFFECTS, ids=lambda edit: edit.name)
def test_edit_of_what_a_function_imports(edit: Edit, tmp_path: Path) -> None:
    """The key changes with a module that a function imports for its effect, whether or not the function reads its name."""
    edit.check(tmp_path)


@pytest.mark.parametrize("seeded", ["flow.py", "helpers.py"])
def test_seeded_generators_do_not_warn(seeded: str, tmp_path: Path) -> None:
    """A generator that a module of the step seeds when it is loaded is not said to be unseeded."""
    files = {
        "flow.py": "import random\nimport helpers\ndef step(x):\n    return random.random()\n",
        "helpers.py": "import random\n",
    }
    files[seeded] += "random.seed(3)\n"
    assert Project(tmp_path, files).code().warnings == ()


def test_library_imported_for_its_effect_is_pinned(tmp_path: Path) -> None:
    """A library that is imported and not named, such as one that adds methods to a table, counts by its version."""
    assert "distribution pyyaml" in Project(tmp_path, {"flow.py": "import yaml\n" + STEP}).code().ingredients
