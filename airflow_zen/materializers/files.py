"""Files and directories that a step returns as `pathlib.Path`, and large bytes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.markup import format_count
from airflow_zen.materializers.base import Materializer
from airflow_zen.materializers.previews.html import (
    MAX_PREVIEW_BYTES,
    PREVIEW_HTML,
    PREVIEW_PNG,
    Markup,
    hidden_note,
    html_page,
    preformatted,
    preview_page,
    truncation_note,
)
from airflow_zen.materializers.previews.tables import plain_table

FILES_FOLDER = "files"
MODES_FILE = "path.json"
BYTES_FILE = "value.bin"

# Fewer are as fast as base64 inside JSON, and one file less. 50 MB took 0.5 s to save so and 0.36 s to load, and a third
# more space; as a file 0.07 and 0.05 s.
_MIN_FILE_SIZE = 1 << 20
_MAX_FILES_LISTED = 200
_MAX_TEXT_CHARACTERS = 20_000
_MAX_BYTES_SHOWN = 1024
_BYTES_PER_LINE = 16
_TEXT_SUFFIXES = frozenset(
    {".csv", ".html", ".json", ".log", ".md", ".py", ".sql", ".svg", ".txt", ".tsv", ".xml", ".yaml", ".yml"}
)


class PathMaterializer(Materializer):
    """Save the file or directory that a path points to, under its own name.

    Kept: names, contents, empty directories, the executable bit. Not kept: the parent directory, times, owners, other
    permissions. A symbolic link to a file inside the tree is stored as that file; any other link is refused.

    As a view, `pathlib.Path` gives the files of any other artifact.
    """

    types = ("pathlib.Path",)
    encoding = "python.path@1"
    gives_paths = True

    @classmethod
    def can_read(cls, encoding: str) -> bool:
        """Return True: every artifact has files."""
        return True

    def save(self, value: Path, directory: Path) -> Mapping[str, Any]:
        """Copy to `files/<name>`; write `path.json` only for executable files and empty directories."""
        name = value.absolute().name
        files, root = copy_files(value, directory / FILES_FOLDER / name), value.resolve()
        executable = [file.relative_to(root).as_posix() for file in files if os.access(file, os.X_OK)]
        empty = sorted(Path(folder) for folder, folders, names in os.walk(root) if not folders and not names)
        if executable or empty:
            modes = {
                "executable": executable,
                "empty": [path.relative_to(root).as_posix() for path in empty],
                "name": name,
            }
            text = json.dumps(modes, ensure_ascii=False, indent=1, sort_keys=True)
            (directory / MODES_FILE).write_text(text, "utf-8")
        size = sum(file.stat().st_size for file in files)
        return {"shape": format_count(len(files), "file"), "size": size}

    def preview(self, value: Path, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show a PNG file or a text, or the names of the files."""
        if value.suffix.lower() == ".png" and value.is_file() and value.stat().st_size <= MAX_PREVIEW_BYTES:
            content = value.read_bytes()
            if content.startswith(b"\x89PNG\r\n\x1a\n"):
                return {PREVIEW_PNG: content}
        subtitle = f"{summary.get('shape', '')}, {summary.get('size', 0):,} bytes"
        return {PREVIEW_HTML: html_page(value.absolute().name, subtitle, _path_sections(value))}

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Path:
        """Return the path inside `directory`; for any other encoding, `directory` itself."""
        if encoding != self.encoding:
            return directory
        if not (directory / MODES_FILE).exists():
            return next((directory / FILES_FOLDER).iterdir())
        modes = json.loads((directory / MODES_FILE).read_text("utf-8"))
        root = _resolve_inside(directory / FILES_FOLDER, modes["name"])
        for relative in modes["empty"]:
            _resolve_inside(root, relative).mkdir(parents=True, exist_ok=True)
        for relative in modes["executable"]:
            file = _resolve_inside(root, relative)
            if not os.access(file, os.X_OK):
                file.chmod(file.stat().st_mode | 0o111)
        return root


class BytesMaterializer(Materializer):
    """Save bytes of 1 MiB or more, such as a model or an archive that another library made, as a file."""

    encoding = "python.bytes@1"

    def save(self, value: Any, directory: Path) -> Mapping[str, Any]:
        """Write `value.bin`."""
        (directory / BYTES_FILE).write_bytes(value)
        return {"shape": f"{len(value)} bytes"}

    def preview(self, value: Any, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show the first bytes as a hex dump: offset, bytes, printable ASCII."""
        starts = range(0, min(len(value), _MAX_BYTES_SHOWN), _BYTES_PER_LINE)
        dump = preformatted("\n".join(_hex_line(at, value[at : at + _BYTES_PER_LINE]) for at in starts))
        return preview_page(value, summary, [dump, *hidden_note(len(value) - _MAX_BYTES_SHOWN, "byte")])

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> bytes:
        """Read the file."""
        return (directory / BYTES_FILE).read_bytes()


def is_large_bytes(value: Any) -> bool:
    """Whether a value is bytes that are stored as a file."""
    return type(value) is bytes and len(value) >= _MIN_FILE_SIZE


def copy_files(path: Path, target: Path) -> list[Path]:
    """Copy a file, or all files below a directory, and return them; raises `SaveRefused` for links that leave it."""
    if not path.absolute().name:
        raise SaveRefused(f"{str(path)!r} has no name of its own to store it under. Save a file or directory below it.")
    if not path.is_file() and not path.is_dir():
        raise SaveRefused(f"{str(path)!r} is not a file or directory. Write it before the step returns it.")
    root = path.resolve()
    files = [root] if root.is_file() else sorted(_walk_files(root))
    for file in files:
        copy = target / file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        copy.chmod(copy.stat().st_mode | file.stat().st_mode & 0o111)
    return files


def _walk_files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder, name)
            _check_storable_path(path, root)
            if path.is_file():
                yield path


def _check_storable_path(path: Path, root: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise SaveRefused(f"The file name {str(path)!r} is not UTF-8. Rename it.") from error
    if path.is_symlink() and (not path.is_file() or not path.resolve().is_relative_to(root)):
        raise SaveRefused(
            f"{str(path)!r} is a symbolic link that leaves {str(root)!r}, or leads to no file. Copy what it points to."
        )
    if not path.is_file() and not path.is_dir():
        raise SaveRefused(f"{str(path)!r} is neither file nor directory. Remove it.")


def _resolve_inside(root: Path, relative: str) -> Path:
    path = root / relative
    if not path.resolve().is_relative_to(root.resolve()):
        raise ArtifactRefused(f"A path artifact names {relative!r}, which is outside of it.")
    return path


def _path_sections(path: Path) -> Iterator[Markup]:
    if path.is_dir():
        files = list(islice(_file_sizes(path), _MAX_FILES_LISTED + 1))
        yield plain_table(["file", "bytes"], files[:_MAX_FILES_LISTED])
        if len(files) > _MAX_FILES_LISTED:
            yield truncation_note("more files")
    elif path.suffix.lower() in _TEXT_SUFFIXES:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_MAX_TEXT_CHARACTERS + 1)
        yield preformatted(text[:_MAX_TEXT_CHARACTERS])
        if len(text) > _MAX_TEXT_CHARACTERS:
            yield truncation_note("more text")


def _file_sizes(root: Path) -> Iterator[tuple[str, int]]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            yield path.relative_to(root).as_posix(), path.stat().st_size


def _hex_line(at: int, some: bytes) -> str:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in some)
    return f"{at:08x}  {some.hex(' '):{_BYTES_PER_LINE * 3 - 1}}  {text}"
