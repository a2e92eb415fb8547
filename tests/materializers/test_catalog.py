"""Every encoding is documented, and every library of a materializer can be installed by an extra."""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from PIL import Image

from airflow_zen.materializers.base import load_entry
from airflow_zen.materializers.catalog import ENCODINGS
from airflow_zen.materializers.registry import default_registry
from tests.advice import advice_of, libraries_of_extra

REPOSITORY = Path(__file__).parents[2]


def _headings() -> set[str]:
    lines = re.findall(r"^### (.*@.*)$", (REPOSITORY / "docs" / "format.md").read_text("utf-8"), re.MULTILINE)
    return {name.strip() for line in lines for name in line.split(",")}


def _extras() -> dict[str, str]:
    setup = ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    return {**setup["options.extras_require"], "": setup["options"]["install_requires"]}


def test_every_encoding_is_documented() -> None:
    """docs/format.md has a section for each encoding, and no other section."""
    assert _headings() == set(ENCODINGS)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_extra_of_a_materializer_exists(encoding: str) -> None:
    """The extra that an error names is in setup.cfg, and installs the missing library."""
    cls = load_entry(ENCODINGS[encoding])
    required = re.findall(r"^[\w.-]+", _extras()[cls.extra], re.MULTILINE)
    assert not cls.libraries or cls.libraries[0] in required


def test_a_missing_library_is_installed_by_the_extra(tmp_path: Path) -> None:
    """Without its library a value is not loaded; the extra that the error names installs it, and with it the value is loaded."""
    registry = default_registry()
    saved = registry.save(Image.new("L", (2, 1)), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "PIL", None)
        (extra,) = advice_of(
            lambda: registry.load(tmp_path, saved.encoding),
            r"needs PIL, which is not installed here\. Install airflow-provider-zen\[(\w+)\]\.$",
        )
    assert "pillow" in libraries_of_extra(extra)
    assert registry.load(tmp_path, saved.encoding).size == (2, 1)


def test_the_readme_names_every_extra_of_a_materializer() -> None:
    """The README names each extra of a materializer."""
    text = (REPOSITORY / "README.md").read_text("utf-8")
    wanted = {load_entry(entry).extra for entry in ENCODINGS.values()} - {""}
    assert {name for name in wanted if f"`{name}`" not in text and f"[{name}" not in text} == set()


def test_every_materializer_has_previews() -> None:
    """Every encoding has previews, except pickles; containers have previews of their members."""
    registry = default_registry()
    silent = {encoding for encoding in ENCODINGS if not registry.for_encoding(encoding).has_preview}
    assert silent == {"python.json@1", "cloudpickle@1"}
    assert registry.can_preview([], "python.json@1", {"parts": [{}]})
