"""Parse a preview as a browser does, and check that it has only elements of this package."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from airflow_zen.materializers.previews.html import MAX_PREVIEW_BYTES
from tests.lineage.graph.hostile import HOSTILE as OF_GRAPHS

HOSTILE = tuple(
    name.replace("\ud800", "")
    for name in (*OF_GRAPHS, "</style><style>body{display:none}</style>", "' onmouseover='alert(1)", "a&lt;b&amp;c")
)
"""Names that try to escape from HTML, without characters that no table has."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_ELEMENTS = frozenset(
    {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "small",
        "pre",
        "svg",
        "rect",
        "text",
        "img",
        "iframe",
        "polyline",
        "path",
        "line",
        "g",
    }
)
_ATTRIBUTES = frozenset(
    {
        "lang",
        "charset",
        "http-equiv",
        "content",
        "class",
        "style",
        "width",
        "height",
        "viewbox",
        "role",
        "x",
        "y",
        "x1",
        "y1",
        "x2",
        "y2",
        "d",
        "points",
        "fill",
        "stroke",
        "stroke-width",
        "stroke-dasharray",
        "text-anchor",
        "colspan",
        "alt",
        "src",
        "srcdoc",
        "sandbox",
        "transform",
        "fill-opacity",
        "stroke-opacity",
    }
)


class PreviewPage(HTMLParser):
    """The elements and the text of a page; raises for an element or attribute that this package does not write."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.styles = 0
        self._inside: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in _ELEMENTS, f"<{tag}> in a preview"
        assert {name for name, _ in attrs} <= _ATTRIBUTES, attrs
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._inside:
            self.styles += 1
        else:
            self.text += data


def read_preview_page(files: Any) -> PreviewPage:
    """Check the page of a preview, and return its contents."""
    text = files["preview.html"]
    assert len(text.encode()) <= MAX_PREVIEW_BYTES
    page = PreviewPage(text)
    assert text.count("Content-Security-Policy") == 1
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}) in page.elements
    assert page.styles == 1
    sources = [held["src"] for _, held in page.elements if "src" in held]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(held.get("sandbox") == "" for tag, held in page.elements if tag == "iframe")
    return page
