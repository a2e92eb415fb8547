"""Previews of Keras models: their own summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.materializers.previews.page import PREVIEW_HTML, html_page, preformatted


def preview_keras_model(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show the layers with their shapes and parameters."""
    lines: list[str] = []
    value.summary(line_length=100, print_fn=lambda line, **_: lines.append(str(line)))
    return {
        PREVIEW_HTML: html_page(
            type(value).__qualname__, str(summary.get("shape", "")), [preformatted("\n".join(lines))]
        )
    }
