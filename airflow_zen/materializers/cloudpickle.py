"""Pickles of values that no other materializer saves, where a deployment allows them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from sysconfig import get_python_version
from typing import Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer
from airflow_zen.pickle_contents import pickled_names
from airflow_zen.type_names import record_definition

PICKLE_FILE = "value.pkl"
PYTHON_VERSION_FILE = "python.json"


class PickleMaterializer(Materializer):
    """Save what no other materializer saves, if `[zen] allow_pickle` is set.

    Loading a pickle runs code that its writer chose. The same value may give other bytes in another process.
    """

    encoding = "cloudpickle@1"
    libraries = ("cloudpickle",)
    extra = "pickle"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `value.pkl`, and the Python version it needs into `python.json`."""
        self._check_allowed()
        import cloudpickle

        try:
            text = cloudpickle.dumps(value, protocol=5)
        except Exception as error:
            raise SaveRefused(
                f"A {type(value).__qualname__} cannot be pickled either: {error}. Write it with its own library and return "
                "the pathlib.Path of the file."
            ) from error
        for module, name in pickled_names(text):
            with suppress(KeyError, AttributeError):
                record_definition(attrgetter(name)(sys.modules[module]) if name else sys.modules[module])
        (directory / PICKLE_FILE).write_bytes(text)
        (directory / PYTHON_VERSION_FILE).write_text(json.dumps({"python": get_python_version()}), encoding="utf-8")
        return {}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Unpickle; raises `ArtifactRefused` where pickles are not allowed, or another Python version wrote it."""
        self._check_allowed()
        written = json.loads((directory / PYTHON_VERSION_FILE).read_text(encoding="utf-8"))["python"]
        if written != get_python_version():
            raise ArtifactRefused(
                f"This pickle was written by Python {written} and may mean something else in Python {get_python_version()}. Run "
                f"the step with Python {written}, or save the artifact again."
            )
        import cloudpickle

        return cloudpickle.loads((directory / PICKLE_FILE).read_bytes())

    def _check_allowed(self) -> None:
        if not self.registry.allow_pickle:
            raise ArtifactRefused(
                "Pickles are not used here, because loading one runs code. Set [zen] allow_pickle = True if everything "
                "under the artifact root may be trusted with that."
            )
