"""The use of a value of a library leaves the key of the code that reads it as it is."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from airflow_zen.caching.code import fingerprint_code
from tests.caching.code.project import Project


class Used(NamedTuple):
    """How a value is made, what uses it, and how one is made that has another key."""

    made: str
    use: str
    other: str


ROWS = "[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]"
USED = {
    "context of decimal": Used(
        "from decimal import Context, Decimal\nV = Context(prec=5)",
        "V.divide(Decimal(1), Decimal(3))",
        "Context(prec=6)",
    ),
    "tree of neighbors": Used(
        f"from sklearn.neighbors import KDTree\nV = KDTree({ROWS})", "V.query([[1.0, 1.0]])", f"KDTree({ROWS[:-12]}])"
    ),
    "ball tree in a classifier": Used(
        "from sklearn.neighbors import KNeighborsClassifier as K\n"
        f"V = K(1, algorithm='ball_tree').fit({ROWS}, [0, 1, 0])",
        f"V.predict({ROWS})",
        f"K(1, algorithm='ball_tree').fit({ROWS}, [1, 1, 0])",
    ),
    "stop words": Used(
        "from sklearn.feature_extraction.text import HashingVectorizer\nV = HashingVectorizer(stop_words=['a'])",
        "V.transform(['a b'])",
        "HashingVectorizer(stop_words=['b'])",
    ),
    "dataset of xarray": Used(
        "import xarray\nV = xarray.Dataset({'v': ('x', [1, 2])})", "V.attrs, V.v.encoding", "V.assign_attrs(unit='m')"
    ),
    "statement of SQLAlchemy": Used(
        "from sqlalchemy import column, select\nV = select(column('a'))", "str(V.compile())", "V.where(column('a') > 1)"
    ),
    "schema of pandera": Used(
        "import pandas, pandera.pandas as p\nV = p.DataFrameSchema({'a': p.Column(int, p.Check.in_range(0, 9))})",
        "V.validate(pandas.DataFrame({'a': [1]}))",
        "p.DataFrameSchema({'a': p.Column(int, p.Check.in_range(0, 8))})",
    ),
    "index of pandas": Used(
        "import pandas\nV = pandas.Index(['a', 'b'])", "V.get_loc('a'), V.is_unique", "pandas.Index(['a', 'c'])"
    ),
    "template of Jinja": Used(
        "import jinja2\nV = jinja2.Template('{{ x|upper }}')", "V.render(x='a')", "jinja2.Template('{{ x|lower }}')"
    ),
    "validator of JSON": Used(
        "import jsonschema\nV = jsonschema.Draft202012Validator({'type': 'object'})",
        "list(V.iter_errors([1]))",
        "jsonschema.Draft202012Validator({'type': 'array'})",
    ),
    "type adapter of pydantic": Used(
        "import pydantic\nV = pydantic.TypeAdapter(list[int])",
        "V.validate_python(['1'])",
        "pydantic.TypeAdapter(list[str])",
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("used", USED.values(), ids=USED.keys())
def test_key_is_the_same_after_a_use(used: Used, tmp_path: Path) -> None:
    """A value that the code reads has one key before and after its use, and another value has another."""
    text = f"{used.made}\nOTHER = {used.other}\ndef step():\n    return V\ndef other():\n    return OTHER\n"
    with Project(tmp_path, {"flow.py": f"{text}def use():\n    {used.use}\n"}).imported() as flow:
        before = fingerprint_code(flow.step).ingredients["constant V"]
        flow.use()
        assert fingerprint_code(flow.step).ingredients["constant V"] == before
        assert fingerprint_code(flow.other).ingredients["constant OTHER"] != before


class _Lazy:
    """A descriptor of a project, whose value an instance may replace."""

    def __get__(self, holder: object, owner: type) -> int:
        return 3


class Settings:
    """Settings with a value of their own."""

    depth = _Lazy()
    _attrs: object = None


def test_attributes_of_a_project_all_count(tmp_path: Path) -> None:
    """An attribute in place of a project's own descriptor, or with the name of a library's own, is in the key."""
    text = Path(__file__).read_text().partition("class _Lazy")[2].partition("def test_attributes")[0]
    keys = set()
    for line in ("pass", "V.depth = 4", "V._attrs = {}", "V._stop_words_id = 1"):
        project = Project(
            tmp_path, {"flow.py": f"class _Lazy{text}\nV = Settings()\n{line}\ndef step():\n    return V\n"}
        )
        keys.add(project.key())
    assert len(keys) == 4
