"""Extension modules of a project, which have no source: they count by their file, and by what they hold of the project."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.caching.code.project import Project

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
FAST = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
static PyObject *scale(PyObject *self, PyObject *value) { return PyNumber_Multiply(value, PyLong_FromLong(FACTOR)); }
static PyMethodDef functions[] = {{"scale", scale, METH_O, "Scale."}, {NULL, NULL, 0, NULL}};
static PyType_Slot slots[] = {{0, NULL}};
static PyType_Spec spec = {"pkg.fast.Model", sizeof(PyObject), 0, Py_TPFLAGS_DEFAULT, slots};
static int fill(PyObject *module) {
    if (PyModule_AddObject(module, "Model", PyType_FromSpec(&spec))) return -1;
    if (PyModule_AddIntConstant(module, "FACTOR_HELD", FACTOR)) return -1;
    PyObject *helpers = PyImport_ImportModule("pkg.helpers");
    return helpers ? PyModule_AddObject(module, "helpers", helpers) : -1;
}
static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, fill}, {0, NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "fast", NULL, 0, functions, module_slots, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_fast(void) { return PyModuleDef_Init(&definition); }
"""
STEPS = {
    "function": "from pkg.fast import scale\ndef step(x):\n    return scale(x)\n",
    "function of a module": "from pkg import fast\ndef step(x):\n    return fast.scale(x)\n",
    "module as a value": "from pkg import fast\ndef step(x):\n    return getattr(fast, x)()\n",
    "function in a table": "from pkg.fast import scale\nTABLE = {'scale': scale}\ndef step(x):\n    return TABLE[x](x)\n",
    "function imported when it runs": "def step(x):\n    from pkg.fast import scale\n    return scale(x)\n",
    "imported for its effect": "def step(x):\n    import pkg.fast\n    return x\n",
    "module by a literal name": "import importlib\ndef step(x):\n    return importlib.import_module('pkg.fast').scale(x)\n",
    "class": "from pkg.fast import Model\ndef step(x):\n    return Model\n",
    "base class": "from pkg.fast import scale\nclass Own:\n    go = staticmethod(scale)\ndef step(x):\n    return Own().go(x)\n",
    "default of a parameter": "from pkg.fast import scale\ndef step(x, go=scale):\n    return go(x)\n",
    "partial": "from functools import partial\nfrom pkg.fast import scale\ngo = partial(scale, 2)\ndef step(x):\n    return go()\n",
    "annotation of a parameter": "from pkg.fast import Model\ndef step(x: Model):\n    return x.go()\n",
    "with a fallback": "try:\n    from pkg.fast import scale\nexcept ImportError:\n    scale = abs\ndef step(x):\n    return scale(x)\n",
}


@pytest.fixture(scope="module")
def extensions(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """The content of an extension module, compiled with one factor and with another."""
    folder, found = tmp_path_factory.mktemp("extension"), {}
    (folder / "fast.c").write_text(FAST)
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    for factor in (2, 3):
        target = folder / f"fast{factor}.so"
        options = ["-shared", "-fPIC", f"-DFACTOR={factor}", f"-I{sysconfig.get_path('include')}"]
        try:
            subprocess.run(
                [compiler, *options, str(folder / "fast.c"), "-o", str(target)], check=True, capture_output=True
            )
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no extension module can be compiled here: install gcc: {error}")
        found[factor] = target.read_bytes()
    return found


def key(folder: Path, step: str, content: bytes, helpers: str = "LIMIT = 1\ndef clean(x):\n    return x\n") -> str:
    """Return the key in a fresh interpreter: a compiled module cannot be loaded anew in this one."""
    Project(folder, {"flow.py": step, "pkg/__init__.py": "", "pkg/helpers.py": helpers})
    (folder / f"pkg/fast{SUFFIX}").write_bytes(content)
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import flow; from airflow_zen.caching.code import fingerprint_code;"
        "from airflow_zen.fingerprint import combine_fingerprints;"
        "print(combine_fingerprints(fingerprint_code(flow.step).ingredients))"
    )
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_compiled_module_counts_by_its_file(tmp_path: Path, extensions: dict[int, bytes], step: str) -> None:
    """A project's extension module that is compiled from other code is another key; its place does not matter."""
    first = key(tmp_path / "first", step, extensions[2])
    assert first == key(tmp_path / "second", step, extensions[2])
    assert first != key(tmp_path / "third", step, extensions[3])


def test_what_a_compiled_module_holds_is_reached(tmp_path: Path, extensions: dict[int, bytes]) -> None:
    """A module of the project that an extension module imported counts by its source."""
    first = key(tmp_path / "first", STEPS["function"], extensions[2])
    edited = key(tmp_path / "second", STEPS["function"], extensions[2], "LIMIT = 1\ndef clean(x):\n    return -x\n")
    assert first != edited


def test_a_constant_of_a_compiled_module_counts_by_its_value(tmp_path: Path, extensions: dict[int, bytes]) -> None:
    """A number that an extension module holds is in the key like any other constant."""
    step = "from pkg.fast import FACTOR_HELD\ndef step(x):\n    return FACTOR_HELD\n"
    assert key(tmp_path / "first", step, extensions[2]) != key(tmp_path / "second", step, extensions[3])
