"""The file of an estimator: a zip archive of JSON and `.npy` files, which is also a valid skops file.

Arrays of one dtype and row shape, such as the nodes of all trees of a forest, are packed into one `.npy` file, row after
row. The rest of the archive is one skops object, `StoredEstimator`, so that mlflow, which reads skops files, loads it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile, ZipInfo

import numpy as np

from airflow_zen.errors import ArtifactRefused
from airflow_zen.materializers.numpy.arrays import check_dtype, zero_padding
from airflow_zen.materializers.typed_json.codec import Json
from airflow_zen.materializers.typed_json.encoding import canonical_json

DOCUMENT_FILE = "model.json"
# scikit-learn adds it to the state of its own estimators, and warns if it is missing or differs when the state is set.
VERSION_ATTRIBUTE = "_sklearn_version"
STORED_CLASS = ("airflow_zen.materializers.sklearn.decoding", "StoredEstimator")

_SCHEMA_FILE = "schema.json"
_LOCAL_HEADER_SIZE = 30
# The first protocol of skops; later releases read it.
_SKOPS_PROTOCOL, _SKOPS_VERSION = 0, "0.11.0"

Array = np.ndarray[Any, Any]


class ArrayPacks:
    """Collect arrays in packs, each of which becomes one `.npy` file; nothing is copied before it is written."""

    def __init__(self) -> None:
        self._packs: list[list[Array]] = []
        self._rows: list[int] = []
        self._numbers: dict[Any, int] = {}

    def add(self, array: Array) -> Mapping[str, Json]:
        """Return the place of an array: its `file`, and in a pack the first row and their number."""
        check_dtype(array.dtype)
        if array.ndim == 0 or array.flags.fnc:
            return {"file": self._new_pack(array)}
        key = (repr(np.lib.format.dtype_to_descr(array.dtype)), array.shape[1:])
        if key not in self._numbers:
            self._numbers[key] = self._new_pack()
        number = self._numbers[key]
        start = self._rows[number]
        self._packs[number].append(array)
        self._rows[number] += len(array)
        return {"file": number, "start": start, "rows": len(array)}

    def write(self, archive: ZipFile) -> list[str]:
        """Write all packs; return the names of their files."""
        names = [f"{number}.npy" for number in range(len(self._packs))]
        for name, arrays, rows in zip(names, self._packs, self._rows, strict=True):
            with archive.open(ZipInfo(name), "w", force_zip64=True) as file:
                _write_pack(file, arrays, rows)
        return names

    def _new_pack(self, *arrays: Array) -> int:
        self._packs.append([*arrays])
        self._rows.append(0)
        return len(self._packs) - 1


def write_archive(file: Path, document: Mapping[str, Json], packs: ArrayPacks, parts: Path) -> None:
    """Write the file: the document, the arrays, and the files under the directory `parts`."""
    with ZipFile(file, "w") as archive:
        names = packs.write(archive)
        for path in sorted(path for path in parts.rglob("*") if path.is_file()):
            names.append(path.relative_to(parts).as_posix())
            with archive.open(ZipInfo(names[-1]), "w", force_zip64=True) as target:
                target.write(path.read_bytes())
        archive.writestr(ZipInfo(DOCUMENT_FILE), canonical_json({**document, "files": names}))
        archive.writestr(ZipInfo(_SCHEMA_FILE), json.dumps(_skops_schema([DOCUMENT_FILE, *names])))


class EstimatorArchive:
    """Read an archive from its file, or its contents from memory."""

    def __init__(self, files: Mapping[str, tuple[BinaryIO, int, int]]) -> None:
        self._files = files
        self._headers: dict[int, tuple[tuple[int, ...], bool, np.dtype[Any], int]] = {}
        self.document = json.loads(self.read(DOCUMENT_FILE))

    @classmethod
    def open(cls, file: BinaryIO) -> EstimatorArchive | None:
        """Open the archive in a file, which must stay open; None for a file that skops wrote."""
        with ZipFile(file) as archive:
            if DOCUMENT_FILE not in archive.namelist():
                return None
            places = {info.filename: (file, _data_offset(file, info), info.file_size) for info in archive.infolist()}
        return cls(places)

    @classmethod
    def of_contents(cls, contents: Sequence[bytes]) -> EstimatorArchive:
        """Return the archive of the contents of its files, as the skops schema lists them."""
        names = [DOCUMENT_FILE, *json.loads(contents[0])["files"]]
        places = zip(names, contents, strict=True)
        return cls({name: (io.BytesIO(content), 0, len(content)) for name, content in places})

    def read(self, name: str) -> bytes:
        """Return the content of a file in the archive."""
        file, offset, size = self._files[name]
        file.seek(offset)
        return file.read(size)

    def extract(self, prefix: str, directory: Path) -> None:
        """Write the files whose names start with `prefix` into a directory."""
        for name in self._files:
            if name.startswith(prefix):
                path = directory / name
                if ".." in path.parts:
                    raise ArtifactRefused(f"The member {name!r} is outside of the estimator.")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.read(name))

    def array(self, node: Mapping[str, Json]) -> Array:
        """Return a writable array of its own memory from the place that `ArrayPacks.add` returned."""
        shape, fortran, dtype, offset = self._header(node["file"])
        file, begin, size = self._files[f"{node['file']}.npy"]
        if "start" in node:
            if not 0 <= node["start"] <= node["start"] + node["rows"] <= shape[0]:
                raise ArtifactRefused("An array of the estimator is outside of its file. Save the estimator again.")
            shape = (node["rows"], *shape[1:])
            offset += node["start"] * dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        array: Array = np.empty(shape, dtype, order="F" if fortran else "C")
        if offset + array.nbytes > size:
            raise ArtifactRefused("An array of the estimator is longer than its file. Save the estimator again.")
        if array.nbytes:
            file.seek(begin + offset)
            file.readinto(_bytes_of(array))  # type: ignore[attr-defined]
        return array

    def _header(self, number: int) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
        if number not in self._headers:
            file, offset, _ = self._files[f"{number}.npy"]
            file.seek(offset)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            if dtype.hasobject:
                raise ArtifactRefused("An array of the estimator contains Python objects, which need a pickle.")
            self._headers[number] = shape, fortran, dtype, file.tell() - offset
        return self._headers[number]


def _data_offset(file: BinaryIO, info: ZipInfo) -> int:
    """Return the offset of the content of an uncompressed member."""
    if info.compress_type:
        raise ArtifactRefused(f"The member {info.filename!r} is compressed. Save the estimator again.")
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER_SIZE)
    return info.header_offset + len(header) + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))


def _write_pack(file: Any, arrays: Sequence[Array], rows: int) -> None:
    first = arrays[0]
    fortran = first.flags.fnc
    shape = first.shape if fortran or first.ndim == 0 else (rows, *first.shape[1:])
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": fortran, "shape": shape}
    start = io.BytesIO()
    np.lib.format.write_array_header_2_0(start, header)
    file.write(start.getvalue())
    for array in arrays:
        clean = zero_padding(array)
        file.write(_bytes_of(clean if fortran else np.ascontiguousarray(clean)))


def _bytes_of(array: Array) -> Any:
    """Return the memory of a contiguous array as bytes, in its order."""
    return array.reshape(-1, order="A").view(np.uint8).data if array.nbytes else b""


def _skops_schema(names: Iterable[str]) -> Json:
    """Return the schema of one `StoredEstimator` whose state is the list of the files' contents."""
    list_type = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode"}
    bytes_type = {"__class__": "bytes", "__module__": "builtins", "__loader__": "BytesNode"}
    module, name = STORED_CLASS
    return {
        "__class__": name,
        "__module__": module,
        "__loader__": "ObjectNode",
        "content": {**list_type, "content": [{**bytes_type, "file": file} for file in names]},
        "protocol": _SKOPS_PROTOCOL,
        "_skops_version": _SKOPS_VERSION,
    }
