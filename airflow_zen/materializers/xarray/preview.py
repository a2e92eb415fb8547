"""Previews of xarray datasets and data arrays: their own description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.materializers.previews.page import PREVIEW_HTML, html_page, preformatted


def preview_xarray(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show dimensions, coordinates, variables and attributes, as a notebook without HTML does."""
    return {
        PREVIEW_HTML: html_page(type(value).__qualname__, str(summary.get("shape", "")), [preformatted(repr(value))])
    }
