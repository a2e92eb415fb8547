"""The last resort where a deployment allows it: cloudpickle."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer

PICKLE_FILE = "value.pkl"
PYTHON_VERSION_FILE = "python.json"

_PICKLE_PROTOCOL = 5


class PickleMaterializer(Materializer):
    """Save what no other materializer keeps, if `[zen] allow_pickle` says so.

    Loading a pickle runs code that whoever wrote it chose. The same value need not give the same bytes in
    another process.
    """

    encoding = "cloudpickle@1"
    libraries = ("cloudpickle",)
    extra = "pickle"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `value.pkl`, and the Python version it needs into `python.json`."""
        self._check_allowed()
        import cloudpickle

        try:
            text = cloudpickle.dumps(value, protocol=_PICKLE_PROTOCOL)
        except Exception as error:
            raise SaveRefused(f"A {type(value).__qualname__} cannot even be pickled: {error}") from error
        (directory / PICKLE_FILE).write_bytes(text)
        (directory / PYTHON_VERSION_FILE).write_text(json.dumps({"python": _python_version()}), encoding="utf-8")
        return {}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Unpickle, if pickles are allowed and this is the Python that wrote it; else raise `ArtifactRefused`."""
        self._check_allowed()
        written = json.loads((directory / PYTHON_VERSION_FILE).read_text(encoding="utf-8"))["python"]
        if written != _python_version():
            raise ArtifactRefused(
                f"This pickle was written by Python {written} and may mean something else to Python {_python_version()}. Run "
                f"the step under Python {written}, or save the artifact anew."
            )
        import cloudpickle

        return cloudpickle.loads((directory / PICKLE_FILE).read_bytes())

    def _check_allowed(self) -> None:
        if not self.registry.allow_pickle:
            raise ArtifactRefused(
                "Pickles are not used here, because loading one runs code. Set [zen] allow_pickle = True if everything "
                "under the artifact root may be trusted with that."
            )


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
