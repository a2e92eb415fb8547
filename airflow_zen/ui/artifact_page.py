"""The page of an artifact: its columns, its stored previews, and downloads of its files."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import HTTPException
from starlette.responses import Response, StreamingResponse

from airflow_zen.artifacts.folder import PreviewStore
from airflow_zen.markup import format_bytes
from airflow_zen.materializers.previews.html import PREVIEW_HTML, in_scheme
from airflow_zen.ui.access import not_found
from airflow_zen.ui.facts import bounded, shorten
from airflow_zen.ui.responses import ArtifactPage, Column, FileFacts, PreviewFile

if TYPE_CHECKING:
    from airflow_zen.artifacts.folder import Manifest
    from airflow_zen.artifacts.ref import ArtifactFile, ArtifactRef
    from airflow_zen.stack import Stack
    from airflow_zen.ui.responses import ArtifactFacts
    from airflow_zen.ui.stacks import OpenedStack

Scheme = Literal["light", "dark"]

_MAX_COLUMNS, _MAX_FILES = 500, 200
_CHUNK_SIZE = 1024 * 1024
# Of a remote root the files are first fetched to a disk of the API server, and verified there.
_MAX_DOWNLOAD = 2 * 1024**3
_MAX_REPORT, _MAX_REPORTS = 32 * 1024**2, 20
# What a browser shows of a preview; everything else is text. An SVG is an image only: as a document it could hold scripts.
_TYPES = {"html": "text/html; charset=utf-8", "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg"}
_TYPES |= {"gif": "image/gif", "webp": "image/webp", "svg": "image/svg+xml"}
_TEXT = "text/plain; charset=utf-8"
# The document has no origin: it does not reach Airflow, and its scripts may draw, and send no requests.
PREVIEW_HEADERS = {
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; media-src data:; frame-src data: blob:; "
    "worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Cache-Control": "private, max-age=300",
}


def artifact_page(
    opened: OpenedStack, facts: ArtifactFacts, ref: ArtifactRef, route: str, query: Mapping[str, Any]
) -> ArtifactPage:
    """Return an artifact in full. route, query: the beginning of the addresses of its previews and files."""
    # From the store, which tells of an artifact that was deleted.
    manifest = opened.stack.store.manifest(ref)
    summary = dict(manifest.summary)
    columns = [each for each in summary.pop("columns", ()) if isinstance(each, Mapping)]

    def url(kind: str, file: str = "") -> str:
        return f"{route}/{kind}?{urlencode({**query, **({'file': file} if file else {})}, quote_via=quote)}"

    return ArtifactPage(
        artifact=facts,
        address=ref.uri,
        rows=rows_of(manifest),
        columns=[*map(_column, columns[:_MAX_COLUMNS])],
        more_columns=max(0, len(columns) - _MAX_COLUMNS),
        facts=bounded(summary),
        files=[
            FileFacts(path=file.path, size=file.size, url=url("download", file.path))
            for file in manifest.files[:_MAX_FILES]
        ],
        more_files=max(0, len(manifest.files) - _MAX_FILES),
        libraries=dict(manifest.libraries),
        previews=[*_previews(opened.stack, ref.digest, url), *_reports(manifest, url)],
        download_url=url("download"),
    )


def rows_of(manifest: Manifest) -> int | None:
    """Return the number of rows of a table; None for anything else."""
    rows = manifest.summary.get("rows")
    return rows if isinstance(rows, int) else None


def answer_preview(opened: OpenedStack, ref: ArtifactRef, file: str, scheme: Scheme | None) -> Response:
    """Return a preview as a document without an origin. Raises `HTTPException` where there is none of this name.

    scheme: that of the page around the document, of which browsers do not tell one without an origin.
    """
    preview = _read_preview(opened, ref, file)
    if preview is None:
        raise not_found()
    content, media_type = preview
    if scheme and media_type == _TYPES["html"]:
        content = in_scheme(content, dark=scheme == "dark")
    return Response(content, media_type=media_type, headers=PREVIEW_HEADERS)


def answer_download(stack: Stack, ref: ArtifactRef, file: str) -> StreamingResponse:
    """Return an artifact's verified files as an attachment: one of them, the only one, or all as a ZIP.

    Raises `HTTPException` for a file that it does not have, and for more than 2 GB.
    """
    response = _download(stack, ref, file)
    if response is None:
        raise not_found()
    return response


def _read_preview(opened: OpenedStack, ref: ArtifactRef, file: str) -> tuple[bytes, str] | None:
    """Return a stored preview or a report of an artifact, and its media type; None where it has none of this name."""
    stack, content = opened.stack, None
    if preview := PreviewStore(stack.store.transport).objects(ref.digest).get(file):
        (content,) = opened.documents.read_all(stack.store.transport, [preview])
    if content is None and any(each.path == file for each in _report_files(opened.manifest(ref))):
        with stack.scratch_directory() as scratch:
            content = (stack.store.get(ref, scratch) / file).read_bytes()
    return None if content is None else (content, _TYPES.get(_suffix(file), _TEXT))


def _download(stack: Stack, ref: ArtifactRef, file: str) -> StreamingResponse | None:
    """Return the attachment; None where the artifact has no file of this path."""
    if ref.size > _MAX_DOWNLOAD:
        raise HTTPException(
            413, f"The files have {format_bytes(ref.size)}. Fetch them with `airflow zen artifacts get`."
        )
    paths = [each.path for each in stack.store.manifest(ref).files]
    if file and file not in paths:
        return None
    path = file or (paths[0] if len(paths) == 1 else "")
    scratch = Path(tempfile.mkdtemp(prefix="airflow-zen-download-"))
    try:
        directory = stack.store.get(ref, _new_directory(scratch))
        name = path.rpartition("/")[2] if path else f"{ref.digest[:12]}.zip"
        source = directory / path if path else _zip(directory, paths, scratch / "files.zip")
        return _attachment(source, name, scratch)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _new_directory(scratch: Path) -> Path:
    directory = scratch / "files"
    directory.mkdir()
    return directory


def _attachment(source: Path, name: str, scratch: Path) -> StreamingResponse:
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Length": str(source.stat().st_size),
    }
    return StreamingResponse(_chunks(source, scratch), media_type="application/octet-stream", headers=headers)


def _chunks(source: Path, scratch: Path) -> Iterator[bytes]:
    """Yield a file, and remove the scratch directory at the end."""
    try:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK_SIZE):
                yield chunk
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _zip(directory: Path, paths: list[str], into: Path) -> Path:
    with zipfile.ZipFile(into, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        for path in paths:
            archive.write(directory / path, path)
    return into


def _previews(stack: Stack, digest: str, url: Callable[[str, str], str]) -> Iterator[PreviewFile]:
    """Yield the stored previews, the page first."""
    found = PreviewStore(stack.store.transport).objects(digest)
    for file in sorted(found, key=lambda name: (name != PREVIEW_HTML, name)):
        kind = _TYPES.get(_suffix(file), "text").partition("/")[0]
        shown = "html" if _suffix(file) == "html" else kind
        yield PreviewFile(file=file, kind=shown, size=found[file].size, url=url("preview", file))


def _reports(manifest: Manifest, url: Callable[[str, str], str]) -> Iterator[PreviewFile]:
    """Yield the pages among the artifact's own files, such as the report of a library with its scripts."""
    for file in _report_files(manifest):
        yield PreviewFile(file=file.path, kind="html", size=file.size, url=url("preview", file.path))


def _report_files(manifest: Manifest) -> list[ArtifactFile]:
    pages = (file for file in manifest.files if _suffix(file.path) == "html" and file.size <= _MAX_REPORT)
    return [*islice(pages, _MAX_REPORTS)]


def _suffix(file: str) -> str:
    return file.rpartition(".")[2].lower()


def _column(column: Mapping[str, Any]) -> Column:
    def number(name: str, kind: Any) -> Any:
        value = column.get(name)
        return bounded(value) if isinstance(value, kind) and not isinstance(value, bool) else None

    def edge(name: str) -> Any:
        value = bounded(column.get(name))
        return shorten(value, 300) if isinstance(value, str) else value

    return Column(
        name=shorten(str(column.get("name", "")), 300),
        type=shorten(str(column.get("type", "")), 300),
        nulls=number("nulls", int),
        distinct=number("distinct", int),
        min=edge("min"),
        max=edge("max"),
        mean=_finite(number("mean", int | float)),
    )


def _finite(value: Any) -> float | None:
    return None if isinstance(value, str) else value
