"""Previews of Hugging Face models and tokenizers: layers and configuration, or how a tokenizer describes itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_zen.materializers.previews.page import PREVIEW_HTML, Markup, heading, html_page, preformatted


def preview_pretrained(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show a model or a tokenizer."""
    return {
        PREVIEW_HTML: html_page(type(value).__qualname__, str(summary.get("shape", "")), _pretrained_sections(value))
    }


def _pretrained_sections(value: Any) -> Iterator[Markup]:
    config = getattr(value, "config", None)
    if config is not None:
        yield heading("Configuration")
        yield preformatted(config.to_json_string(), 8_000)
    yield heading("Layers" if config is not None else "Tokenizer")
    yield preformatted(str(value), 8_000)
