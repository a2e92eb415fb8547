"""Files and directories that a step hands over as `pathlib.Path`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_zen.errors import ArtifactRefused, SaveRefused
from airflow_zen.materializers.base import Materializer

FILES_FOLDER = "files"
MODES_FILE = "path.json"


class PathMaterializer(Materializer):
    """Save the file or directory a path points to, under its own name.

    Kept: names, contents, empty directories, the executable bit. Not kept: where it lay, times, owners,
    other permissions. A symbolic link to a file inside the tree becomes that file; every other one is
    refused.

    As a view, `pathlib.Path` shows the files of any other artifact.
    """

    types = ("pathlib.Path",)
    encoding = "python.path@1"
    gives_paths = True

    @classmethod
    def can_read(cls, encoding: str) -> bool:
        """Every artifact has files."""
        return True

    def save(self, value: Path, directory: Path) -> Mapping[str, Any]:
        """Copy to `files/<name>`; `path.json` is written only for what files alone cannot say."""
        root = _resolve_existing(value)
        target = directory / FILES_FOLDER / value.absolute().name
        files = [root] if root.is_file() else sorted(_walk_files(root))
        for file in files:
            _copy_file(file, target / file.relative_to(root) if file != root else target)
        modes = {
            "executable": [_relative_path(file, root) for file in files if os.access(file, os.X_OK)],
            "empty": [_relative_path(found, root) for found in sorted(_walk_empty_directories(root))],
            "name": value.absolute().name,
        }
        if modes["executable"] or modes["empty"]:
            (directory / MODES_FILE).write_text(
                json.dumps(modes, ensure_ascii=False, indent=1, sort_keys=True), "utf-8"
            )
        size = sum(file.stat().st_size for file in files)
        return {"shape": f"{len(files)} {'file' if len(files) == 1 else 'files'}", "size": size}

    def preview(self, value: Path, summary: Mapping[str, Any]) -> Mapping[str, bytes | str]:
        """Show a picture or text, or the names of the files."""
        from airflow_zen.materializers.paths_preview import preview_path

        return preview_path(value, summary)

    def load(self, directory: Path, encoding: str, wanted: type | None = None) -> Path:
        """Give the path inside `directory`; that of any other encoding is `directory` itself."""
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


def copy_files(root: Path, target: Path) -> int:
    """Copy all files below a directory, and count them; raises `SaveRefused` for links that leave it."""
    root = _resolve_existing(root)
    files = sorted(_walk_files(root))
    for file in files:
        _copy_file(file, target / file.relative_to(root))
    return len(files)


def _resolve_existing(path: Path) -> Path:
    if not path.absolute().name:
        raise SaveRefused(f"{str(path)!r} has no name of its own to store it under. Save a file or directory below it.")
    if not path.is_file() and not path.is_dir():
        raise SaveRefused(f"{str(path)!r} is not a file or directory. Write it before the step returns it.")
    return path.resolve()


def _walk_files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder, name)
            _check_storable_path(path, root)
            if path.is_file():
                yield path


def _walk_empty_directories(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        if not folders and not names:
            yield Path(folder)


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


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(target.stat().st_mode | source.stat().st_mode & 0o111)


def _relative_path(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
