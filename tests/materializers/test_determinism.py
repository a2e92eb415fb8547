"""The same value gives the same bytes in every process, on every machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import hashlib, sys, tempfile
from pathlib import Path
import numpy as np, pandas as pd, polars as pl, pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from airflow_zen.materializers.registry import default_registry

junk = [np.random.bytes(1 << 12) for _ in range(int(sys.argv[1]))]
rng = np.random.default_rng(0)
x = pd.DataFrame(rng.normal(size=(60, 3)), columns=list("abc"))
words = ["red green", "green blue", "blue red", "red red"]
values = {
    "sets": {"words": {"red", "green", "blue", "a", "b", (1, "x")}, "f": frozenset("abcdef"), "d": {"z": {1, "1"}}},
    "forest": RandomForestRegressor(3, random_state=0).fit(x, x["a"]),
    "boosting": HistGradientBoostingClassifier(max_iter=3, random_state=0).fit(x, x["a"] > 0),
    "text": make_pipeline(TfidfVectorizer(stop_words=["the", "a"]), LogisticRegression()).fit(words, [0, 1, 0, 1]),
    "set": FunctionTransformer(kw_args={"words": {"red", "green", "blue", "a", "b"}}),
    "frame": pd.DataFrame({"a": [1, 2], "s": pd.Categorical(["x", "y"]), "o": [{1, 2}, {"b", "a"}]}, index=["r", "s"]),
    "arrow": pa.table({"d": pa.array(["x", "y"]).dictionary_encode()}),
    "polars": pl.DataFrame({"c": pl.Series(["b", "a"], dtype=pl.Categorical)}),
    "padding": np.empty(3, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "extended": np.sqrt(np.arange(5, dtype=np.longdouble)),
}
values["padding"]["a"], values["padding"]["b"] = 1, 2
for name, value in values.items():
    directory = Path(tempfile.mkdtemp())
    default_registry().save(value, directory)
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            print(name, path.relative_to(directory), hashlib.sha256(path.read_bytes()).hexdigest())
"""

MAIN = """
import enum, sys, tempfile
from dataclasses import dataclass
from pathlib import Path
from airflow_zen.materializers.registry import default_registry

@dataclass
class Params:
    depth: int

directory = Path(tempfile.mkdtemp())
saved = default_registry().save(Params(3), directory)
print(saved.type, (directory / "value.json").read_text())
print(type(default_registry().load(directory, saved.encoding)) is Params)
"""


def test_bytes_do_not_depend_on_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sets, frames, arrays and models give the same bytes under another hash seed and memory layout."""
    monkeypatch.setattr(sys, "argv", ["here", "0"])
    exec(CODE, {})
    here = capsys.readouterr().out
    assert here
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    assert _run(CODE, "300", seed=seed) == here


def test_bytes_do_not_depend_on_where_a_script_lies(tmp_path: Path) -> None:
    """A class of a script is named by the script's stem, wherever it lies, and is found again in it."""
    outputs = set()
    for folder in ("here", "there"):
        script = tmp_path / folder / "my_pipeline.py"
        script.parent.mkdir()
        script.write_text(MAIN)
        outputs.add(_run_file(script))
    assert outputs == {'my_pipeline.Params {"$":"dataclass","class":"my_pipeline:Params","fields":{"depth":3}}\nTrue\n'}


def _run(code: str, argument: str, seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", code, argument]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def _run_file(script: Path) -> str:
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
