"""What reaching a step's code says, warns of and refuses."""

from __future__ import annotations

import importlib.util
import json
import linecache
import math
import os
import subprocess
import sys
from datetime import date
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from airflow_zen.caching.code import CodeFingerprint, KnownCode, fingerprint_code
from airflow_zen.errors import FingerprintError
from airflow_zen.fingerprint import combine_fingerprints
from tests.caching.code.project import Project

PROJECT = {
    "flow.py": (
        "import helpers\nfrom helpers import Settings\nLIMIT = {'b', 'a', 'c'}\n"
        "def step(x):\n    return helpers.clean(x, Settings()), LIMIT\n"
    ),
    "helpers.py": "class Settings:\n    depth = 1\ndef clean(x, s):\n    return x\n",
}


def code_of(folder: Path, text: str) -> CodeFingerprint:
    """Fingerprint the step of a one-file project."""
    return Project(folder, {"flow.py": text}).code()


def load_as(name: str, path: Path) -> ModuleType:
    """Import a file under another module name, as Airflow does."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_labels(tmp_path: Path) -> None:
    """Each ingredient has a label with its kind and name; the step's own module is left out."""
    assert set(Project(tmp_path, PROJECT).code().ingredients) == {
        "class helpers.Settings", "constant LIMIT", "function helpers.clean", "function step", "python",
    }  # fmt: skip


def test_sources_are_readable(tmp_path: Path) -> None:
    """Every function and class keeps its normalized text and what its names refer to, for a diff."""
    sources = Project(tmp_path, PROJECT).code().sources
    assert sources["function helpers.clean"] == "def clean(x, s):\n    return x"
    assert "# helpers.clean: function helpers.clean" in sources["function step"]


def test_code_is_immutable_record(tmp_path: Path) -> None:
    """A code fingerprint is immutable."""
    with pytest.raises(AttributeError):
        code_of(tmp_path, "def step(): pass\n").warnings = ()  # type: ignore[misc]


def test_checkout_path_does_not_matter(tmp_path: Path) -> None:
    """Two machines with different folders have the same key, and no label or text contains a path."""
    one, two = Project(tmp_path / "a", PROJECT).code(), Project(tmp_path / "b" / "c", PROJECT).code()
    assert one == two
    assert str(tmp_path) not in json.dumps([dict(one.ingredients), dict(one.sources)])


def test_airflow_module_name_does_not_matter(tmp_path: Path) -> None:
    """A DAG file that Airflow loads under a generated module name has the key of a plain import."""
    text = "LIMIT = 1\nclass A:\n    x = 1\nKEPT = [A]\ndef step(x):\n    return x + LIMIT, KEPT\n"
    plain = code_of(tmp_path / "a", text)
    name = f"unusual_prefix_{'0123456789' * 4}_flow"
    airflow = fingerprint_code(load_as(name, tmp_path / "a" / "flow.py").step)
    assert airflow == plain
    assert "unusual_prefix" not in json.dumps([dict(airflow.ingredients), dict(airflow.sources)])


def test_same_step_in_two_files(tmp_path: Path) -> None:
    """The same work copied into a DAG of another name has the same key."""
    text = "LIMIT = 1\ndef clean(x):\n    return x\ndef step(x):\n    return clean(x) + LIMIT\n"
    one = Project(tmp_path / "a", {"first.py": text})
    two = Project(tmp_path / "b", {"second.py": text})
    with one.imported("first") as first, two.imported("second") as second:
        assert fingerprint_code(first.step) == fingerprint_code(second.step)


RUN = (
    "import sys, json; sys.path.insert(0, {folder!r}); import flow; from airflow_zen.caching.code import fingerprint_code;"
    "code = fingerprint_code(flow.step); print(json.dumps([dict(code.ingredients), dict(code.sources)]))"
)


def test_processes_agree(tmp_path: Path) -> None:
    """Processes with other hash seeds, folders and ways to start agree with one another."""
    answers = set()
    for seed in ("0", "1"):
        folder = tmp_path / seed
        Project(folder, PROJECT)
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", RUN.format(folder=str(folder))]
        answers.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(answers) == 1


def test_main_module_is_named_by_its_file(tmp_path: Path) -> None:
    """Running the DAG file itself gives the key of importing it."""
    text = PROJECT["flow.py"] + (
        "if __name__ == '__main__':\n    import json\n    from airflow_zen.caching.code import fingerprint_code\n"
        "    print(json.dumps(dict(fingerprint_code(step).ingredients)))\n"
    )
    project = Project(tmp_path, {**PROJECT, "flow.py": text})
    command = [sys.executable, "flow.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == dict(project.code().ingredients)


def test_one_thing_is_visited_once(tmp_path: Path) -> None:
    """Functions that call each other are visited once, with one ingredient each."""
    code = code_of(tmp_path, "def a(n):\n    return b(n)\ndef b(n):\n    return a(n)\ndef step(n):\n    return a(n)\n")
    assert set(code.sources) == {"function a", "function b", "function step"}


def test_same_names_are_distinguished(tmp_path: Path) -> None:
    """Two functions of the same name have one ingredient each."""
    code = code_of(tmp_path, "a = lambda: 1\nb = lambda: 2\ndef step():\n    return a() + b()\n")
    assert {"function <lambda>", "function <lambda> #2"} <= set(code.ingredients)


def test_arguments_bring_their_classes(tmp_path: Path) -> None:
    """The methods of an argument's class are reached even when the step does not name it."""
    files = {
        "flow.py": "def step(s):\n    return s.go()\n",
        "helpers.py": "class A:\n    def go(self):\n        return 1\n",
    }
    with Project(tmp_path, files).imported() as flow:
        helpers = importlib.import_module("helpers")
        assert "class helpers.A" in fingerprint_code(flow.step, arguments={"s": [helpers.A()]}).ingredients


def test_the_fallback_fingerprints_unknown_constants(tmp_path: Path) -> None:
    """A constant of an unknown type is fingerprinted by the caller's fallback."""
    text = "import threading\nK = [threading.Event()]\ndef step(x):\n    return K\n"
    with Project(tmp_path, {"flow.py": text}).imported() as flow:
        keys = {
            combine_fingerprints(fingerprint_code(flow.step, lambda value, answer=answer: answer).ingredients)
            for answer in "ab"
        }
        assert len(keys) == 2


def test_python_minor_version_is_an_ingredient(tmp_path: Path) -> None:
    """A different minor version of Python has a different key."""
    assert code_of(tmp_path, "def step(): pass\n").ingredients["python"] == ".".join(map(str, sys.version_info[:2]))


REFUSED = {
    "exec": ("def step(x):\n    exec(x)\n", "exec"),
    "eval in a helper": ("def h(x):\n    return eval(x)\ndef step(x):\n    return h(x)\n", "eval"),
    "compile passed on": ("def step(x):\n    return list(map(compile, x))\n", "compile"),
    "builtins.exec": ("import builtins\ndef step(x):\n    builtins.exec(x)\n", "exec"),
    "computed import": ("import importlib\ndef step(x):\n    return importlib.import_module(x)\n", "import_module"),
    "computed global": ("def step(x):\n    return globals()[x]\n", "globals"),
    "run path": ("import runpy\ndef step(x):\n    return runpy.run_path(x)\n", "run_path"),
    "open file": ("f = open(__file__)\ndef step(x):\n    return f.read()\n", "TextIOWrapper"),
    "open file in a closure": ("def make(f):\n    def step(x):\n        return f.read()\n    return step\nstep = make(open(__file__))\n", "TextIOWrapper"),
    "generator": ("g = (i for i in range(3))\ndef step(x):\n    return next(g)\n", "generator"),
    "generator as default": ("def step(x=iter([1])):\n    return x\n", "iterator"),
    "socket": ("import socket\ns = socket.socket()\ndef step(x):\n    return s\n", "socket"),
    "instance that holds a file": ("class A:\n    def __init__(self):\n        self.f = open(__file__)\na = A()\ndef step(x):\n    return a\n", "TextIOWrapper"),
    "made of a compiled loop": ("import numpy as np\ndef f(x):\n    return x\nk = np.frompyfunc(f, 1, 1)\ndef step(x):\n    return k(x)\n", "no module"),
    "lazy table": ("import polars as pl\nk = pl.scan_csv('a.csv')\ndef step(x):\n    return k.collect()\n", "not known before"),
    "made by exec": ("space = {'__name__': __name__}\nexec('def step(x): return x', space)\nstep = space['step']\n", "no source"),
    "decorator in a function that ended": ("import tenacity\ndef make(n):\n    @tenacity.retry(stop=tenacity.stop_after_attempt(n))\n    def step(x):\n        return x\n    return step\nstep = make(2)\n", "ended"),
    "decorator that is gone": ("def make():\n    def deco(f):\n        return f\n    @deco\n    def step(x):\n        return x\n    return step\nstep = make()\n", "ended"),
    "pydantic model made by a call": ("import pydantic\nM = pydantic.create_model('M', x=(int, 1))\ndef step(x):\n    return M()\n", "made by a call"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(text: str, reason: str, tmp_path: Path) -> None:
    """Code that cannot be fingerprinted soundly is refused, with the reason and the remedy."""
    with pytest.raises(FingerprintError, match=reason) as refusal:
        code_of(tmp_path, text)
    assert "cache=False" in str(refusal.value)


def test_refusal_leaves_generators_alone(tmp_path: Path) -> None:
    """A refused generator is not consumed."""
    with Project(tmp_path, {"flow.py": "g = iter([1, 2])\ndef step(x):\n    return list(g)\n"}).imported() as flow:
        with pytest.raises(FingerprintError):
            fingerprint_code(flow.step)
        assert flow.step(0) == [1, 2]


def test_file_edited_after_import_is_refused(tmp_path: Path) -> None:
    """A file that was edited after it was loaded is refused, because its text is not the running code."""
    project = Project(tmp_path, {"flow.py": "def step(x):\n    return x\n"})
    with project.imported() as flow:
        (tmp_path / "flow.py").write_text("def step(x):\n    return -x\n")
        with pytest.raises(FingerprintError, match="Restart the process"):
            fingerprint_code(flow.step)


def test_class_edited_after_import_is_refused(tmp_path: Path) -> None:
    """A class whose file was edited after it was loaded is refused."""
    text = "class A:\n    def go(self):\n        return 1\ndef step(x):\n    return A().go()\n"
    with Project(tmp_path, {"flow.py": text}).imported() as flow:
        (tmp_path / "flow.py").write_text(text.replace("return 1", "return 2"))
        with pytest.raises(FingerprintError, match="Restart the process"):
            fingerprint_code(flow.step)


def test_notebook_cell(tmp_path: Path) -> None:
    """A function of a notebook cell is fingerprinted by the text of the cell."""
    keys = []
    for body in ("return x", "return x  # same", "return -x"):
        text, name = f"def step(x):\n    {body}\n", f"<ipython-input-{body}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        space: dict[str, object] = {"__name__": "__main__"}
        exec(compile(text, name, "exec"), space)
        keys.append(combine_fingerprints(fingerprint_code(space["step"]).ingredients))  # type: ignore[arg-type]
    assert keys[0] == keys[1] != keys[2]


WARNED = {
    "time.time": ("import time\ndef step(x):\n    return time.time()\n", "time.time"),
    "time imported": ("from time import time\ndef step(x):\n    return time()\n", "time.time"),
    "now": ("from datetime import datetime\ndef step(x):\n    return datetime.now()\n", "datetime.datetime.now"),
    "today": ("import datetime as d\ndef step(x):\n    return d.date.today()\n", "datetime.date.today"),
    "uuid4": ("from uuid import uuid4\ndef step(x):\n    return uuid4()\n", "uuid.uuid4"),
    "secrets": ("def step(x):\n    import secrets\n    return secrets.token_hex()\n", "secrets.token_hex"),
    "random": ("import random\ndef step(x):\n    return random.random()\n", "random.random"),
    "random imported": ("from random import shuffle\ndef step(x):\n    shuffle(x)\n", "random.shuffle"),
    "random in a helper": ("import random\ndef h():\n    return random.choice([1])\ndef step(x):\n    return h()\n", "random.choice"),
    "unseeded Random": ("import random\ndef step(x):\n    return random.Random().random()\n", "random.Random"),
    "numpy": ("import numpy as np\ndef step(x):\n    return np.random.rand(3)\n", "numpy.random.rand"),
    "numpy passed on": ("import numpy as np\ndef step(x):\n    return list(map(np.random.rand, x))\n", "numpy.random.rand"),
    "unseeded generator": ("import numpy as np\ndef step(x):\n    return np.random.default_rng().random()\n", "default_rng"),
    "generator seeded with None": ("import numpy as np\ndef step(x):\n    return np.random.default_rng(None)\n", "default_rng"),
    "unseeded generator imported": ("from numpy.random import default_rng\ndef step(x):\n    return default_rng()\n", "default_rng"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "named"), WARNED.values(), ids=WARNED)
def test_warned(text: str, named: str, tmp_path: Path) -> None:
    """Code that reads the clock or an unseeded generator is fingerprinted, with a warning that names it."""
    (warning,) = code_of(tmp_path, text).warnings
    assert named in warning
    assert "cache=False" in warning


QUIET = {
    "seeded generator": "import numpy as np\ndef step(x):\n    return np.random.default_rng(42).random()\n",
    "generator seeded by argument": "import numpy as np\ndef step(seed):\n    return np.random.default_rng(seed=seed)\n",
    "seeded Random": "import random\ndef step(x):\n    return random.Random(3).random()\n",
    "hidden state seeded": "import numpy as np\ndef step(x):\n    np.random.seed(1)\n    return np.random.rand()\n",
    "measuring": "import time\ndef step(x):\n    start = time.perf_counter()\n    return x\n",
    "a method of that name": "def step(x):\n    return x.now(), x.random()\n",
    "unrelated function": "import random\ndef other():\n    return random.random()\ndef step(x):\n    return x\n",
}


@pytest.mark.parametrize("text", QUIET.values(), ids=QUIET)
def test_not_warned(text: str, tmp_path: Path) -> None:
    """Seeded generators and clocks that only measure do not raise a warning."""
    assert code_of(tmp_path, text).warnings == ()


def test_fast(tmp_path: Path) -> None:
    """A typical step is fingerprinted in a fraction of the time of a cached task, in a fresh process."""
    text = "import pandas as pd\nfrom sklearn.svm import SVC\n" + PROJECT["flow.py"].replace(
        "(x):", "(x: pd.DataFrame):"
    )
    Project(tmp_path, {**PROJECT, "flow.py": text + "    return SVC()\n"})
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import flow, time;"
        "from airflow_zen.caching.code import fingerprint_code; start = time.process_time(); fingerprint_code(flow.step);"
        "print(time.process_time() - start)"
    )
    # What else the machine does makes a process's seconds more, and never fewer.
    seconds = (
        float(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout) for _ in range(10)
    )
    assert any(each < 0.05 for each in seconds)


def test_reaching_twice_is_the_same(tmp_path: Path) -> None:
    """A second fingerprint of the same code is the same."""
    with Project(tmp_path, PROJECT).imported() as flow:
        assert fingerprint_code(flow.step) == fingerprint_code(flow.step)


def test_reaching_does_not_import_libraries(tmp_path: Path) -> None:
    """A library that the function imports when it runs is only looked up."""
    text = "def step(x):\n    import wave, sklearn.svm as s\n    return s.SVC(), wave\n"
    Project(tmp_path, {"flow.py": text})
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import flow; from airflow_zen.caching.code import fingerprint_code;"
        "print('distribution scikit-learn' in fingerprint_code(flow.step).ingredients, 'sklearn' in sys.modules, 'wave' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]


ARGUMENTS = {
    "number": 3,
    "text": "a",
    "nothing": None,
    "nested": {"a": [1, 2.5, (True, b"x")], "b": {1, 2}},
    "date": date(2026, 1, 1),
    "path": PurePosixPath("a/b"),
    "array": np.arange(3),
    "class": Fraction,
    "function": math.sqrt,
    "frame": pd.DataFrame({"a": [1]}),
}


@pytest.mark.parametrize("value", ARGUMENTS.values(), ids=ARGUMENTS)
def test_known_code_gives_the_same_fingerprint(tmp_path: Path, value: object) -> None:
    """What the code reaches is kept for other arguments, and the result is that of a call that keeps nothing."""
    text = "import helpers\nLIMIT = 3\ndef step(x):\n    return helpers.clean(x, LIMIT)\n"
    known: KnownCode = {}
    with Project(tmp_path, {"flow.py": text, "helpers.py": "def clean(x, y):\n    return x\n"}).imported() as flow:
        fingerprint_code(flow.step, None, {"x": 1}, known=known)
        kept = fingerprint_code(flow.step, str, {"x": value}, known=known)
        assert kept == fingerprint_code(flow.step, str, {"x": value})
        assert len(known) == 1


def test_known_code_belongs_to_one_function(tmp_path: Path) -> None:
    """Another function, or more that is reached, is no known code."""
    known: KnownCode = {}
    text = "def step(x):\n    return x\ndef other(x):\n    return -x\nclass A:\n    pass\n"
    with Project(tmp_path, {"flow.py": text}).imported() as flow:
        found = [
            fingerprint_code(function, None, {"x": 1}, reached, known)
            for function, reached in ((flow.step, []), (flow.other, []), (flow.step, [flow.A]))
        ]
    assert len({combine_fingerprints(each.ingredients) for each in found}) == len(known) == 3
