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
    flow("accessor", GEO.replace("scale(1)", "1"), "return 1", "return 2", DIFFERENT),
    flow("helper of an accessor", GEO, "x * 2", "x * 3", DIFFERENT),
    flow("namespace of polars", "import polars as pl\n@pl.api.register_expr_namespace('own')\nclass Own:\n    def __init__(self, e):\n        self.e = e\n    def double(self):\n        return self.e * 2\ndef step(x):\n    return pl.col('a').own.double()\n", "* 2", "* 3", DIFFERENT),
    flow("logging", "import logging\nlogging.basicConfig(level=10)\n" + STEP, "10", "20", SAME),
    flow("path of imports", "import sys\nsys.path.append('a')\n" + STEP, "'a'", "'b'", SAME),
    flow("warnings", "import warnings\nwarnings.filterwarnings('ignore')\n" + STEP, "'ignore'", "'once'", SAME),
    flow("call of a DAG", "from airflow.sdk import dag, task\n@task\ndef step(x):\n    return x\n@dag(schedule=None)\ndef all_steps():\n    step(1)\nall_steps()\n", "    step(1)\n", "    step(1)\n    step(2)\n", SAME),
    flow("print", "print('a')\n" + STEP, "'a'", "'b'", SAME),
]  # fmt: skip


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
