"""A model of the project's own that predicts something else in each process."""

from __future__ import annotations

import os
from typing import Any

from sklearn.linear_model import LinearRegression


class Unstable(LinearRegression):
    """Adds the number of the process to each prediction."""

    def predict(self, X: Any) -> Any:  # noqa: N803 - scikit-learn's name
        """Return predictions that are wrong everywhere but here."""
        return super().predict(X) + os.getpid()
