"""The bundle that the wheel ships is what its sources in ui/ build."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from airflow_zen.ui import mount
from scripts import ui_types

REPOSITORY = Path(__file__).resolve().parents[2]
STATIC = REPOSITORY / "airflow_zen/ui/static"
_NOT_COMMITTED = shutil.ignore_patterns("__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the sources in a directory of their own; skip the tests where there is no npm, except in CI."""
    if shutil.which("npm") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no npm on the PATH: install Node.js")
    source, output = tmp_path_factory.mktemp("ui") / "ui", tmp_path_factory.mktemp("static")
    shutil.copytree(REPOSITORY / "ui", source, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline"]
    for command in (install, ["node", "build.mjs", str(output / "main.js")], ["npm", "run", "--silent", "check"]):
        done = subprocess.run(command, cwd=source, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return output


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["main.js", "licenses.txt"])
def test_the_bundle_is_the_build_of_its_sources(built, name):
    """The sources have no type errors, and their build gives the committed bytes; `make ui` writes them."""
    assert (built / name).read_bytes() == (STATIC / name).read_bytes()


def test_the_wheel_ships_the_bundle(tmp_path):
    """A wheel that is built from the repository has the committed files of the pages."""
    pytest.importorskip("setuptools", reason="needs setuptools, which builds the wheel")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path)
    shutil.copytree(REPOSITORY / "airflow_zen", tmp_path / "airflow_zen", ignore=_NOT_COMMITTED)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with ZipFile(tmp_path / done.stdout.splitlines()[-1]) as wheel:
        shipped = {name: wheel.read(f"airflow_zen/ui/static/{name}") for name in ("main.js", "licenses.txt")}
    assert shipped == {name: (STATIC / name).read_bytes() for name in shipped}


def test_the_bundle_names_no_other_host():
    """The bundle loads nothing from the network: the addresses in it name XML, and explain errors to developers."""
    hosts = set(re.findall(r"https?://([\w.-]*)", (STATIC / "main.js").read_text(encoding="utf-8")))
    # The empty one is a name that is put together.
    assert hosts <= {"www.w3.org", "reactflow.dev", ""}


def test_the_types_are_those_of_the_api():
    """The front end is checked against the models of the API; `python -m scripts.ui_types` writes its types."""
    assert ui_types.TYPES.read_text(encoding="utf-8") == ui_types.answer_types()


def test_the_bundle_has_each_page():
    """The bundle defines the global variable in which Airflow looks for each page."""
    registered = re.search(r"Object\.assign\(globalThis,\{(.*?)\}\)", (STATIC / "main.js").read_text(encoding="utf-8"))
    names = {name.strip('"') for name in re.findall(r'("[^"]+"|\w+):', registered[1])}
    assert names == {page["name"] for page in mount.react_apps("3.3.2")}
