"""Axe-core, which tests a page against the rules of WCAG that a program can test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

# The rules for WCAG 2.2, levels A and AA.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_UI = Path(__file__).resolve().parents[2] / "ui"


def axe_core(folder: Path) -> str:
    """Return the program in the version of ui/package-lock.json; skip the test where there is no npm, except in CI."""
    if shutil.which("npm") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no npm on the PATH: install Node.js")
    lock = json.loads((_UI / "package-lock.json").read_text(encoding="utf-8"))
    version = lock["packages"]["node_modules/axe-core"]["version"]
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefer-offline"]
    subprocess.run(["npm", "install", *options, f"axe-core@{version}"], cwd=folder, check=True)
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


def violations(page: Any, axe: str, scheme: str) -> list[tuple[str, str, str]]:
    """Return what the program finds wrong on our part of the page, in one colour scheme."""
    page.emulate_media(color_scheme=scheme)
    page.locator(f"html.{scheme}").wait_for(state="attached")
    # Colours change in 0.15 s, and are measured at rest.
    page.wait_for_function("document.querySelector('.zen-page').getAnimations({subtree: true}).length === 0")
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(axe)
    found = page.evaluate(
        "rules => axe.run('.zen-page', {runOnly: rules, iframes: false}).then(done => done.violations)", _RULES
    )
    return [(each["id"], node["html"][:200], node["failureSummary"]) for each in found for node in each["nodes"]]
