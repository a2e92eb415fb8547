"""Whose code a module is, and which distribution brought it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_zen.caching.code import fingerprint_code
from airflow_zen.caching.code.distributions import distribution_pin, is_importable, module_file, origin_of_module
from airflow_zen.fingerprint import combine_fingerprints
from tests.caching.code.project import Project


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A folder of installed libraries, first on the path."""
    folder = tmp_path / "lib" / "site-packages"
    folder.mkdir(parents=True)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    importlib.invalidate_caches()


def install(site: Path, name: str, version: str, files: dict[str, str], info: str = "RECORD") -> None:
    """Write a library with its metadata, as an installer would."""
    for file, text in files.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(text)
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: 0\n")
    if info == "RECORD":
        (folder / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))
    elif info:
        (folder / "top_level.txt").write_text(info)
    importlib.invalidate_caches()


@pytest.mark.parametrize(
    ("module", "answer"),
    [
        ("numpy", "distribution numpy"),
        ("sklearn.svm", "distribution scikit-learn"),
        ("yaml", "distribution pyyaml"),
        ("dateutil.parser", "distribution python-dateutil"),
        ("google.auth", "distribution google-auth"),
        ("airflow.sdk", "distribution apache-airflow-task-sdk"),
        ("airflow.providers.http.hooks.http", "distribution apache-airflow-providers-http"),
    ],
)
def test_installed_libraries(module: str, answer: str) -> None:
    """A module is attributed to the distribution that installed its file, whatever its name."""
    import importlib.metadata

    label, version = distribution_pin(module)
    assert label == answer
    assert version.partition(" (")[0] == importlib.metadata.version(label.removeprefix("distribution "))


def test_namespace_package_leads_to_its_part(site: Path) -> None:
    """Parts of a namespace package belong to the distributions that brought them."""
    install(site, "ours-one", "1", {"ours_space/one/__init__.py": ""})
    install(site, "ours-two", "2", {"ours_space/two/__init__.py": ""})
    assert distribution_pin("ours_space.one") == ("distribution ours-one", "1")
    assert distribution_pin("ours_space.two") == ("distribution ours-two", "2")
    assert "ours_space" not in sys.modules


def test_distribution_without_record(site: Path) -> None:
    """A distribution that lists only its top-level names (as Debian's do) is found by them."""
    install(site, "other-name", "3", {"debian_like/__init__.py": ""}, info="debian_like\n")
    assert distribution_pin("debian_like") == ("distribution other-name", "3")


def test_module_without_distribution(site: Path) -> None:
    """A file among the libraries without a distribution is identified by its content."""
    (site / "dropped_in.py").write_text("x = 1\n")
    importlib.invalidate_caches()
    label, before = distribution_pin("dropped_in")
    assert label == "module dropped_in"
    (site / "dropped_in.py").write_text("x = 2\n")
    assert distribution_pin("dropped_in")[1] != before


def test_upgrade_within_a_process(site: Path) -> None:
    """A distribution that is installed while the process runs is found."""
    install(site, "growing", "1", {"growing/__init__.py": ""})
    assert distribution_pin("growing")[1] == "1"
    (site / "growing-1.dist-info").rename(site / "growing-2.dist-info")
    (site / "growing-2.dist-info" / "METADATA").write_text("Name: growing\nVersion: 2\n\n")
    assert distribution_pin("growing")[1] == "2"


def test_target_folder_of_another_name(tmp_path: Path) -> None:
    """Modules that `pip install --target` wrote are libraries; modules beside them without metadata are not."""
    project = Project(
        tmp_path, {"flow.py": "import vendored\nimport mine\ndef step(x):\n    return vendored.f(x), mine.f(x)\n"}
    )
    install(tmp_path, "vendored", "7", {"vendored/__init__.py": "def f(x):\n    return x\n"})
    (tmp_path / "mine.py").write_text("def f(x):\n    return x\n")
    ingredients = project.code().ingredients
    assert ingredients["distribution vendored"] == "7"
    assert "function mine.f" in ingredients


@pytest.mark.parametrize(
    ("module", "file", "owner"),
    [
        ("json", None, "stdlib"),
        ("sys", None, "stdlib"),
        ("builtins", None, "stdlib"),
        ("os.path", None, "stdlib"),
        ("numpy.random", None, "third-party"),
        ("airflow", "/home/me/airflow/__init__.py", "third-party"),
        ("airflow_zen.stack", None, "third-party"),
        ("features", "/srv/dags/features.py", "project"),
        ("json", "/srv/dags/json.py", "project"),
        ("features", "/x/venv/lib/python3.11/site-packages/features.py", "third-party"),
        ("features", "/usr/lib/python3/dist-packages/features.py", "third-party"),
    ],
)
def test_origin(module: str, file: str | None, owner: str) -> None:
    """The path of a file decides its origin; Airflow and airflow_zen are never the project's."""
    assert origin_of_module(module, file) == owner


def test_lookup_imports_nothing(site: Path) -> None:
    """Finding a module's file does not run it, nor its parents."""
    install(site, "loud", "1", {"loud/__init__.py": "raise RuntimeError\n", "loud/sub.py": ""})
    assert module_file("loud.sub") == str(site / "loud" / "sub.py")
    assert distribution_pin("loud.sub") == ("distribution loud", "1")
    assert not is_importable("loud.nothing")
    assert "loud" not in sys.modules


FLOW = "import somelib\ndef step(x):\n    return somelib.f(x)\n"


def keys_for_versions(tmp_path: Path, site: Path, flow: str, **files: str) -> set[str]:
    """Return the step's keys under two versions of one library."""
    keys = set()
    for version in ("1.0", "1.1"):
        install(
            site,
            "some-lib",
            version,
            {"somelib/__init__.py": "def f(x):\n    return x\nclass C:\n    pass\n", "somelib/deep.py": ""},
        )
        project = Project(tmp_path / version, {"flow.py": flow, **{f"{name}.py": text for name, text in files.items()}})
        with project.imported() as module:
            keys.add(combine_fingerprints(fingerprint_code(module.step).ingredients))
        for folder in site.glob("some_lib-*"):
            folder.rename(site.parent / folder.name)
    return keys


@pytest.mark.parametrize(
    "flow",
    [
        FLOW,
        "from somelib import f\ndef step(x):\n    return f(x)\n",
        "from somelib import *\ndef step(x):\n    return f(x)\n",
        "def step(x):\n    from somelib import f\n    return f(x)\n",
        "def step(x):\n    import somelib.deep as d\n    return d\n",
        "from somelib import C\nK = C()\ndef step(x):\n    return isinstance(x, C)\n",
        "from somelib import C\nclass A(C):\n    pass\ndef step(x):\n    return A()\n",
        "from somelib import f\ndef step(x, g=f):\n    return g(x)\n",
        "from somelib import f\nTABLE = {'f': f}\ndef step(x):\n    return TABLE\n",
        "import somelib\nTABLE = [somelib]\ndef step(x):\n    return TABLE\n",
        "from helpers import h\ndef step(x):\n    return h(x)\n",
        "from helpers import somelib\ndef step(x):\n    return somelib.f(x)\n",
        "import importlib\ndef step(x):\n    return importlib.import_module('somelib').f(x)\n",
        "import somelib\ndef step(x: somelib.C):\n    return x.method()\n",
    ],
)
def test_library_version_is_in_the_key(flow: str, tmp_path: Path, site: Path) -> None:
    """A different version of a library that the code reaches has a different key, however the code names it."""
    assert (
        len(keys_for_versions(tmp_path, site, flow, helpers="import somelib\ndef h(x):\n    return somelib.f(x)\n"))
        == 2
    )


def test_unused_library_is_not_in_the_key(tmp_path: Path, site: Path) -> None:
    """A library that only other functions of the file use is not in the key."""
    flow = "import somelib\ndef other(x):\n    return somelib.f(x)\ndef step(x):\n    return x\n"
    assert len(keys_for_versions(tmp_path, site, flow)) == 1


def test_library_that_is_absent(tmp_path: Path) -> None:
    """An optional import of a missing library is in the key as missing."""
    flow = "def step(x):\n    try:\n        import absent_lib\n    except ImportError:\n        absent_lib = None\n    return absent_lib\n"
    assert "absent_lib: absent_lib" in Project(tmp_path, {"flow.py": flow}).code().sources["function step"]


DISGUISE = (
    "def deco(n):\n    def wrap(f):\n        def inner(*a):\n            return f(*a), n\n"
    "        inner.__module__, inner.__qualname__ = f.__module__, f.__qualname__\n        return inner\n    return wrap\n"
)


@pytest.mark.parametrize(("old", "new"), [("return x", "return -x"), ("deco(1)", "deco(2)")])
def test_function_inside_a_library_wrapper(old: str, new: str, tmp_path: Path, site: Path) -> None:
    """What a library's wrapper holds is reached, even when the wrapper takes the name of what it wraps."""
    install(site, "disguise", "1", {"disguise/__init__.py": DISGUISE})
    flow = "import disguise\ndef h(x):\n    return x\nh = disguise.deco(1)(h)\ndef step(x):\n    return h(x)\n"
    before = Project(tmp_path / "a", {"flow.py": flow}).key()
    assert Project(tmp_path / "b", {"flow.py": flow.replace(old, new)}).key() != before


OWN = "def f(x):\n    return x\n"
EDITABLE = '{"dir_info": {"editable": true}, "url": "file:///src"}'
FROM_OWN = "from mylib import f\ndef step(x):\n    return f(x)\n"


def development_install(site: Path, sources: Path, info: str, metadata: dict[str, str]) -> None:
    """Write a package in development with its metadata, and what makes it importable."""
    for name, text in {"mylib/__init__.py": "from mylib.sub import f\n", "mylib/sub.py": OWN}.items():
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_text(text)
    for name, text in metadata.items():
        (site / info / name).parent.mkdir(parents=True, exist_ok=True)
        (site / info / name).write_text(text)
    importlib.invalidate_caches()


LAYOUTS = {
    "setuptools, egg-info beside the sources": ("src", "../../src/mylib.egg-info", {"PKG-INFO": "Name: mylib\nVersion: 1\n", "top_level.txt": "mylib\n", "SOURCES.txt": "mylib/sub.py\n"}),
    "setup.py develop, flat layout": ("checkout", "../../checkout/my_lib.egg-info", {"PKG-INFO": "Name: my-lib\nVersion: 1\n", "top_level.txt": "mylib\n"}),
    "path file of hatchling, poetry, pdm, uv": ("src", "mylib-1.dist-info", {"METADATA": "Name: mylib\nVersion: 1\n\n", "RECORD": "_mylib.pth,sha256=x,1\nmylib-1.dist-info/RECORD,,\n", "direct_url.json": EDITABLE}),
    "loader of meson-python": ("src", "mylib-1.dist-info", {"METADATA": "Name: mylib\nVersion: 1\n\n", "RECORD": "_mylib_editable_loader.py,sha256=x,1\nmylib-editable.pth,sha256=x,1\n", "direct_url.json": EDITABLE}),
    "metadata without a list, outside of site-packages": ("src", "../../src/mylib-1.dist-info", {"METADATA": "Name: mylib\nVersion: 1\n\n", "top_level.txt": "mylib\n"}),
    "list of an editable install": ("src", "../../src/mylib-1.dist-info", {"METADATA": "Name: mylib\nVersion: 1\n\n", "RECORD": "mylib/sub.py,,\nmylib/__init__.py,,\n", "direct_url.json": EDITABLE}),
    "no metadata, by PYTHONPATH": ("lib/python", "none", {}),
    "below a folder of its own name": ("mylib/mylib/src", "../../mylib/mylib.egg-info", {"PKG-INFO": "Name: mylib\n"}),
}  # fmt: skip


@pytest.mark.parametrize(("sources", "info", "metadata"), LAYOUTS.values(), ids=LAYOUTS)
def test_package_in_development_is_the_projects(
    sources: str, info: str, metadata: dict[str, str], site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit of the project's own package changes the key, however the package is installed for development."""
    development_install(site, tmp_path / sources, info, metadata)
    monkeypatch.syspath_prepend(str(tmp_path / sources))
    project = Project(tmp_path / "dags", {"flow.py": FROM_OWN})
    before = project.code()
    forget_modules(tmp_path)
    (tmp_path / sources / "mylib" / "sub.py").write_text(OWN.replace("return x", "return x + 1"))
    after = project.code()
    assert "function mylib.sub.f" in before.ingredients
    assert before.ingredients != after.ingredients


def forget_modules(folder: Path) -> None:
    """Forget the modules below a folder, and their compiled code, as a new process after an edit does."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
    for compiled in folder.rglob("*.pyc"):
        compiled.unlink()
    importlib.invalidate_caches()


def test_linked_checkout_is_the_projects(site: Path, tmp_path: Path) -> None:
    """A link in site-packages to a checkout is the project's; to files that a distribution lists, a library's."""
    for name, record in (("linked", "linked,,\n"), ("cached", "cached/__init__.py,,\n")):
        install(site, name, "1", {}, info="")
        (site / f"{name}-1.dist-info" / "RECORD").write_text(record)
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(OWN)
        (site / name).symlink_to(tmp_path / name)
    importlib.invalidate_caches()
    assert origin_of_module("linked") == "project"
    assert origin_of_module("cached") == "third-party"


NAMESPACE_FLOWS = {
    "by attributes": "import acme.features\ndef step(x):\n    return acme.features.f(x)\n",
    "by attributes, imported inside": "def step(x):\n    import acme.features\n    return acme.features.f(x)\n",
    "as a module": "from acme import features\ndef step(x):\n    return features.f(x)\n",
    "as a module, imported inside": "def step(x):\n    from acme import features as g\n    return g.f(x)\n",
    "function": "from acme.features import f\ndef step(x):\n    return f(x)\n",
    "namespace passed on": "import acme.features\ndef use(space, x):\n    return space.features.f(x)\ndef step(x):\n    return use(acme, x)\n",
}  # fmt: skip


@pytest.mark.parametrize("flow", NAMESPACE_FLOWS.values(), ids=NAMESPACE_FLOWS)
def test_own_part_of_a_namespace(flow: str, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's part of a namespace package is followed, although another part is installed."""
    install(site, "acme-base", "1", {"acme/base/__init__.py": "x = 1\n"})
    keys = set()
    for body in ("return x", "return -x"):
        project = Project(tmp_path / body, {"flow.py": flow, "acme/features.py": f"def f(x):\n    {body}\n"})
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(tmp_path / body))
            sys.modules.pop("acme", None)
            keys.add(project.key())
            sys.modules.pop("acme.features", None)
    sys.modules.pop("acme", None)
    assert len(keys) == 2


PROVIDER_FLOWS = {
    "function": "from airflow.providers.acme.tools import f\ndef step(x):\n    return f(x)\n",
    "by attributes": "import airflow.providers.acme.tools\ndef step(x):\n    return airflow.providers.acme.tools.f(x)\n",
    "module": "from airflow.providers.acme import tools\ndef step(x):\n    return tools.f(x)\n",
    "decorator": "from airflow.providers.acme.tools import d\n@d\ndef step(x):\n    return x\n",
    "class": "from airflow.providers.acme.tools import C\ndef step(x):\n    return C().f(x)\n",
}  # fmt: skip


@pytest.mark.parametrize("flow", PROVIDER_FLOWS.values(), ids=PROVIDER_FLOWS)
def test_own_provider_is_the_projects(flow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of one's own below `airflow.providers` is followed, and its decorators are no scheduling options."""
    import airflow.providers

    keys = set()
    for value in ("1", "2"):
        tools = f"class C:\n    def f(self, x):\n        return {value}\ndef f(x):\n    return {value}\ndef d(g):\n    return lambda *a: g(*a) + {value}\n"
        folder = tmp_path / value / "airflow" / "providers"
        project = Project(tmp_path / value, {"flow.py": flow, "airflow/providers/acme/tools.py": tools})
        monkeypatch.setattr(airflow.providers, "__path__", [*airflow.providers.__path__, str(folder)])
        keys.add(project.key())
        for name in [name for name in sys.modules if name.startswith("airflow.providers.acme")]:
            del sys.modules[name]
        monkeypatch.delattr(airflow.providers, "acme", raising=False)
        monkeypatch.undo()
    assert len(keys) == 2
    assert origin_of_module("airflow.providers.standard.operators.python") == "third-party"


def pin_of(site: Path, record: str, wheel: str = "Root-Is-Purelib: true\n", **files: str) -> str:
    """Return what identifies a library with this list of files."""
    install(site, "rebuilt", "1", {"rebuilt/__init__.py": ""}, info="")
    for name, text in {"RECORD": record, "WHEEL": wheel, **files}.items():
        (site / "rebuilt-1.dist-info" / name).write_text(text)
    found = distribution_pin("rebuilt")[1]
    (site / "rebuilt-1.dist-info").rename(site.parent / f"old-{len(list(site.parent.iterdir()))}")
    return found


LISTED = "rebuilt/__init__.py,sha256={},4\nrebuilt/rules.json,sha256=r,9\nrebuilt-1.dist-info/RECORD,,\n"


@pytest.mark.parametrize(
    ("record", "wheel", "files", "same"),
    [
        (LISTED.format("b"), "Root-Is-Purelib: true\n", {}, False),
        (LISTED.format("a").replace("=r", "=s"), "Root-Is-Purelib: true\n", {}, False),
        (LISTED.format("a") + "rebuilt/more.py,sha256=m,1\n", "Root-Is-Purelib: true\n", {}, False),
        (LISTED.format("a"), "Root-Is-Purelib: true\n", {"direct_url.json": "{}"}, True),
        ("".join(reversed(LISTED.format("a").splitlines(keepends=True))), "Root-Is-Purelib: true\n", {}, True),
        (LISTED.format("a") + "../../bin/tool,sha256=t,2\n", "Root-Is-Purelib: true\n", {}, True),
        (LISTED.format("a") + "rebuilt-1.dist-info/INSTALLER,sha256=u,2\n", "Root-Is-Purelib: true\n", {}, True),
        (LISTED.format("a") + "rebuilt/__pycache__/__init__.cpython-311.pyc,,\n", "Root-Is-Purelib: true\n", {}, True),
    ],
    ids=["code", "file of values", "new file", "origin", "order", "script", "installer", "compiled"],
)  # fmt: skip
def test_wheel_built_again_with_its_version(
    record: str, wheel: str, files: dict[str, str], same: bool, site: Path
) -> None:
    """A library of pure Python counts by its version and its listed files, whoever installed them."""
    assert (pin_of(site, LISTED.format("a")) == pin_of(site, record, wheel, **files)) is same


def test_compiled_wheel_counts_by_its_version(site: Path) -> None:
    """The files of a compiled wheel differ between machines, and count only when it was not taken from an index."""
    compiled, local = "Root-Is-Purelib: false\n", {"direct_url.json": '{"url": "file:///w.whl", "archive_info": {}}'}
    assert pin_of(site, LISTED.format("a"), compiled) == pin_of(site, LISTED.format("b"), compiled) == "1"
    assert pin_of(site, LISTED.format("a"), compiled, **local) != pin_of(site, LISTED.format("b"), compiled, **local)


def test_package_without_distribution_counts_as_a_whole(site: Path) -> None:
    """A package that was copied into site-packages is identified by all of its files."""
    install(
        site,
        "none",
        "1",
        {"copied/__init__.py": "", "copied/a/__init__.py": "", "copied/a/b.py": "", "copied/c.py": ""},
        info="",
    )
    before = distribution_pin("copied.a.b")
    (site / "copied" / "c.py").write_text("x = 1\n")
    assert before[0] == "module copied"
    assert distribution_pin("copied.a.b")[1] != before[1]
