"""Previews of `tf.data.Dataset`s: what an element is; none is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.materializers.previews.page import PREVIEW_HTML, heading, html_page, preformatted


def preview_tf_dataset(value: Any, summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Show shapes and dtypes of an element."""
    sections = (heading("An element"), preformatted(repr(value.element_spec)))
    return {PREVIEW_HTML: html_page("Dataset", str(summary.get("shape", "")), sections)}
