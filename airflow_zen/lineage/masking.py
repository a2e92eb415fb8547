"""Parameters whose name says that their value is a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"

# Whole words at the end of a name: `max_tokens`, `tokenizer` and `token_count` are no secrets.
_SECRET = re.compile(
    r"(^|[_\-. ])(password|passwd|passphrase|secret|token|authorization|credentials?"
    r"|api_?key|access_?key|secret_?key|private_?key)$"
)
_CAMEL_CASE_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def mask_secrets(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Copy parameters with `***` for each value, also in dicts and lists, whose name says that it is a secret."""
    return {name: _mask_value(name, value) for name, value in parameters.items()}


def _mask_value(name: str, value: Any) -> Any:
    if value is not None and value != "" and _SECRET.search(_CAMEL_CASE_BOUNDARY.sub("_", str(name)).lower()):
        return MASK
    if isinstance(value, Mapping):
        return mask_secrets(value)
    if isinstance(value, list | tuple):
        return [_mask_value("", item) for item in value]
    return value
