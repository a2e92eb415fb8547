"""NumPy arrays as `.npy` files, never with pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import preview_page


class NdarrayMaterializer(Materializer):
    """Save arrays of every dtype, order and shape; masked arrays, matrices and record arrays keep their class.

    Object and `StringDType` arrays have Python values and are saved as typed JSON. Refused: other
    subclasses (a `memmap` names a file of this machine), dtypes that NumPy does not define, objects inside
    structured dtypes.
    """

    types = ("numpy.ndarray",)
    encoding = "numpy.npy@1"
    libraries = ("numpy",)

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `array.npy`, the mask as `mask.npy`, and `array.json` for what these do not keep.

        The summary has `shape` and `dtype`.
        """
        from airflow_zen.materializers.numpy.arrays import save_array

        return save_array(self, value, directory)

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show shape, dtype and distribution, and a small matrix as a picture."""
        from airflow_zen.materializers.numpy.arrays import array_sections

        return preview_page(value, summary, array_sections(value))

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Any:
        """Return a writable array; one of more than a megabyte is mapped into memory, and copied where it is changed."""
        from airflow_zen.materializers.numpy.arrays import load_array

        return load_array(self, directory)
