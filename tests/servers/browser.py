"""A headless Chromium for tests that look at what people see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

# The first has no windows to draw, and needs a third less CPU.
_PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# Milliseconds after which what is waited for will not come, however busy the machine.
_PATIENCE = 120_000


def browser_program() -> str | None:
    """Find the browser."""
    return next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


@contextmanager
def browser_page(width: int = 1500, height: int = 950) -> Iterator[Any]:
    """Open an empty page in a browser of its own; skip the test where there is no browser, except in CI."""
    with browser_window(width, height) as window:
        yield window.new_page()


@contextmanager
def browser_window(width: int = 1500, height: int = 950) -> Iterator[Any]:
    """Start a browser whose pages share what it has cached; skip the test where there is none, except in CI."""
    program = browser_program()
    if program is None:
        reason = "no Chromium on the PATH: scripts/test-parts.sh installs it on Debian"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that root in a container does not have.
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"], timeout=_PATIENCE
        )
        try:
            window = browser.new_context(viewport={"width": width, "height": height})
            window.set_default_timeout(_PATIENCE)
            yield window
        finally:
            browser.close()


def go_to(page: Any, path: str) -> None:
    """Open an address as a click on a link does, without loading Airflow's page again."""
    page.evaluate(
        "path => { history.pushState({}, '', path); dispatchEvent(new PopStateEvent('popstate')); }", f"/{path}"
    )
