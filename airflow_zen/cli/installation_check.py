"""Look at the Python that runs this: versions, and whether its modules are compiled."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from airflow_zen.cli.findings import Finding, failed, ok, warning

_DISTRIBUTION = "airflow-provider-zen"


def installation_findings() -> Iterator[Finding]:
    """Hold what is installed against what this package says it needs."""
    yield ok("python", platform.python_version())
    try:
        yield ok(_DISTRIBUTION, version(_DISTRIBUTION))
        requirements = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        yield failed(_DISTRIBUTION, "is not installed: Airflow does not find it", "pip install airflow-provider-zen")
        return
    for text in requirements:
        yield from _check_requirement(text)
    yield _check_bytecode()


def _check_requirement(text: str) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return
    check = f"package {requirement.name}"
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        yield failed(check, "is not installed", f"pip install '{requirement}'")
        return
    if requirement.specifier.contains(found, prereleases=True):
        yield ok(check, found)
    else:
        yield failed(check, f"{found}, and {requirement.specifier} is needed", f"pip install '{requirement}'")


def _check_bytecode() -> Finding:
    """Tell whether a new process finds bytecode: an Airflow process reads thousands of modules."""
    import airflow.models.dag as airflow_module

    bytecode = Path(importlib.util.cache_from_source(str(airflow_module.__file__)))
    if bytecode.exists():
        return ok("bytecode", "Airflow's modules are compiled")
    cause = "PYTHONDONTWRITEBYTECODE is set, and " if sys.dont_write_bytecode else ""
    return warning(
        "bytecode",
        f"{cause}Airflow's modules are not compiled: every process compiles them anew, and starts 5 times slower",
        f"python -m compileall -q {Path(sys.prefix) / 'lib'}",
    )
