"""Rows of the round-trip table that need files or a fit: factories that take a directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(size=(80, 3)), columns=["a", "b", "c"])
Y = X["a"] * 2 + X["b"]
LABELS = np.where(Y > 0, "yes", "no")


def _file(directory: Path) -> Path:
    path = directory / "model.bin"
    path.write_bytes(b"\x00\x01")
    return path


def _script(directory: Path) -> Path:
    path = directory / "run é.sh"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def _folder(directory: Path) -> Path:
    root = directory / "bundle"
    (root / "empty" / "deeper").mkdir(parents=True)
    (root / "sub").mkdir()
    (root / "sub" / "a.txt").write_text("a")
    (root / "path.json").write_text("{}")
    _script(root)
    return root


def _plain_folder(directory: Path) -> Path:
    root = directory / "plain"
    root.mkdir()
    (root / "a.txt").write_text("a")
    return root


def _empty_folder(directory: Path) -> Path:
    root = directory / "nothing"
    root.mkdir()
    return root


def _inner_link(directory: Path) -> Path:
    root = _plain_folder(directory)
    (root / "link.txt").symlink_to("a.txt")
    return root


def _columns() -> Any:
    transform = ColumnTransformer([("num", StandardScaler(), ["a", "b"]), ("cat", OneHotEncoder(), ["d"])])
    return make_pipeline(transform, LogisticRegression()).fit(X.assign(d=["u", "v"] * 40), LABELS)


FILES: dict[str, Callable[[Path], Any]] = {
    "file": _file,
    "executable file": _script,
    "directory": _folder,
    "plain directory": _plain_folder,
    "empty directory": _empty_folder,
    "directory with a link inside": _inner_link,
    "path in a dict": lambda directory: {"weights": _file(directory)},
}

MODELS: dict[str, Callable[[Path], Any]] = {
    "unfitted ridge": lambda _: Ridge(alpha=0.5),
    "ridge": lambda _: Ridge().fit(X, Y),
    "histogram boosting regressor": lambda _: HistGradientBoostingRegressor(max_iter=5).fit(X, Y),
    "histogram boosting classifier": lambda _: HistGradientBoostingClassifier(max_iter=5).fit(X, LABELS),
    "random forest": lambda _: RandomForestClassifier(3, random_state=0).fit(X, LABELS),
    "pipeline": lambda _: make_pipeline(FunctionTransformer(np.abs), StandardScaler(), Ridge()).fit(X, Y),
    "column transformer": lambda _: _columns(),
    "grid search": lambda _: GridSearchCV(Ridge(), {"alpha": [1, 2]}, cv=2).fit(X, Y),
    "kmeans": lambda _: KMeans(2, random_state=0, n_init=1).fit(X),
    "tfidf": lambda _: TfidfVectorizer().fit(["a cat", "a dog"]),
    "model in a dict": lambda _: {"model": Ridge().fit(X, Y), "score": 0.5},
}
