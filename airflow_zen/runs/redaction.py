"""The removal of secrets from what is recorded of a step run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from airflow_zen.runs.step_run import StepRun

MASK = "***"

# A name is secret by its last words: `max_tokens` with a number, `tokenizer` and `token_count` are not.
_KEYS = tuple(
    f"{kind}{separator}key" for kind in ("api", "access", "secret", "private", "account") for separator in ("", "_")
)
_SINGULAR = ("password", "passphrase", "secret", "token", "credential", *_KEYS)
_LAST_WORDS = (*_SINGULAR, *(f"{word}s" for word in _SINGULAR), "passwd", "pwd", "authorization")
_ENDINGS = tuple(f"_{word}" for word in _LAST_WORDS)
_SEPARATORS = str.maketrans("-. ", "___")
# Compiled when a text contains their first character: most steps need none of them.
_URL_CREDENTIALS = r"(://[^\s/?#@:'\"]*):[^\s/?#'\"]+@"
_URL_USER = r"(\bhttps?://)[^\s/?#@:'\"]+@"
_VALUE = r"'[^']*'|\"[^\"]*\"|[^\s&;,)\]}'\"=]+"
_ASSIGNMENT = rf"([\w.-]+)(\s*=\s*)({_VALUE})"
_ITEM = r"(['\"])([\w. -]+)\1(\s*:\s*)(?:'[^']*'|\"[^\"]*\")"
_HEADER = r"(?i)\b((?:proxy-)?authorization|x-api-key)(\s*:\s*)(?:(?:bearer|basic)\s+)?[^\s,;'\"]+"


def _unchanged(text: str) -> str:
    return text


class Redactor(msgspec.Struct, frozen=True):
    """Replaces secrets by `***`: values whose names mark them as secret, and credentials inside texts.

    redact_text: replaces the secrets that the deployment knows, as Airflow's masker does with passwords of
    connections. names: parts of further names whose values are secret, in lower case.
    """

    redact_text: Callable[[str], str] = _unchanged
    names: tuple[str, ...] = ()

    def mapping(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of JSON values by name without secrets, also in dicts and lists."""
        return {name: self._value(str(name), value) for name, value in values.items()}

    def step_run(self, run: StepRun) -> StepRun:
        """Return a record without secrets in its parameters, those of its DAG run, its metadata and its texts.

        Whatever writes or sends a record calls this, and a second time changes nothing.
        """
        return replace(
            run,
            parameters=self.mapping(run.parameters),
            dag_run_parameters=self.mapping(run.dag_run_parameters),
            metadata=self.mapping(run.metadata),
            label=self.text(run.label),
            why=self.text(run.why),
            error=self.text(run.error),
        )

    def text(self, text: str) -> str:
        """Return a text without secrets: in URLs, assignments, dicts and headers as people and programs write them."""
        text = self.redact_text(text) if text else ""
        if "://" in text:
            text = re.sub(_URL_CREDENTIALS, rf"\1:{MASK}@", text)
            text = re.sub(_URL_USER, rf"\1{MASK}@", text)
        if "=" in text:
            text = re.sub(_ASSIGNMENT, self._assignment, text)
        if ":" in text:
            text = re.sub(_ITEM, self._item, text)
            text = re.sub(_HEADER, rf"\1\2{MASK}", text)
        return text

    def is_secret(self, name: str) -> bool:
        """Whether a name marks its value as secret, in any of the usual spellings."""
        pairs = zip(f" {name}", name, strict=False)
        spaced = "".join(
            f"_{char}" if char.isupper() and last.isalnum() and not last.isupper() else char for last, char in pairs
        )
        words = spaced.lower().translate(_SEPARATORS)
        return f"_{words}".endswith(_ENDINGS) or any(part in name.lower() for part in self.names)

    def _value(self, name: str, value: Any) -> Any:
        if value is None or value == "" or isinstance(value, bool):
            return value
        if self._hides(name, value):
            return MASK
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return self.mapping(value)
        return [self._value("", item) for item in value] if isinstance(value, list | tuple) else value

    def _hides(self, name: str, value: Any) -> bool:
        is_number_of_tokens = name.lower().endswith("tokens") and str(value).replace(".", "", 1).isdigit()
        return self.is_secret(name) and not is_number_of_tokens

    def _assignment(self, match: re.Match[str]) -> str:
        name, equals, value = match.groups()
        in_query = match.string[: match.start()].endswith(("?", "&"))
        is_signature = in_query and name.lower() in ("key", "sig", "signature", "x-amz-signature")
        return f"{name}{equals}{MASK}" if is_signature or self._hides(name, value) else match[0]

    def _item(self, match: re.Match[str]) -> str:
        quote, name, colon = match.groups()
        return f"{quote}{name}{quote}{colon}'{MASK}'" if self.is_secret(name) else match[0]


DEFAULT_REDACTOR = Redactor()
"""Knows secrets by their names, and credentials in texts."""
