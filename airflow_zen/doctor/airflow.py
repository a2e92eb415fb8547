"""Check the installation, and that Airflow has loaded this provider and has suitable options."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from airflow.configuration import conf

from airflow_zen.doctor.findings import Finding, failed, ok, warning

_REINSTALL = (
    "Reinstall airflow-provider-zen in the environment that runs Airflow: pip install --force-reinstall --no-deps"
)


def airflow_findings() -> Iterator[Finding]:
    """Check that Airflow has loaded this provider, and check options that slow down tasks."""
    yield _check_provider()
    yield _check_plugin()
    yield from _check_options()


def _check_provider() -> Finding:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()  # type: ignore[no-untyped-call]
    found = manager.providers.get("airflow-provider-zen")
    if found is None:
        return failed("provider", "not loaded by Airflow", _REINSTALL)
    return ok("provider", f"loaded by Airflow, {found.version}")


def _check_plugin() -> Finding:
    """Check the plugin, whose listener closes and draws DAG runs in MLflow."""
    from airflow import plugins_manager

    if any(plugin["name"] == "airflow_zen" for plugin in plugins_manager.get_plugin_info(["listeners"])):
        return ok("plugin", "loaded: DAG runs are closed and drawn in MLflow when they end")
    # Airflow 3.1 has a variable instead.
    errors = getattr(plugins_manager, "get_import_errors", lambda: getattr(plugins_manager, "import_errors", {}))()
    ours = [str(error) for source, error in errors.items() if "airflow_zen" in source]
    return failed("plugin", f"not loaded{f': {ours[0]}' if ours else ''}", _REINSTALL)


def _check_options() -> Iterator[Finding]:
    if conf.getboolean("core", "execute_tasks_new_python_interpreter", fallback=False):
        yield warning(
            "[core] execute_tasks_new_python_interpreter",
            "True: every task starts a new Python and imports Airflow, which takes seconds",
            "Set it to False, unless one of your libraries does not support fork.",
        )
    if conf.getboolean("core", "unit_test_mode", fallback=False):
        yield warning("[core] unit_test_mode", "True: parts of Airflow behave as in its own tests", "Remove it.")
    hostname = conf.get("core", "hostname_callable", fallback="")
    if hostname == "airflow.utils.net.getfqdn":
        yield from _check_hostname()
    executor = conf.get("core", "executor", fallback="")
    database = conf.get("database", "sql_alchemy_conn", fallback="")
    detail = f"{executor} on {database.partition(':')[0]}"
    is_small = database.startswith("sqlite") and "Celery" not in executor and "Kubernetes" not in executor
    yield ok("executor", f"{detail}: for one machine and few concurrent tasks" if is_small else detail)


def _check_hostname() -> Iterator[Finding]:
    import time

    from airflow.utils.net import getfqdn

    begun = time.perf_counter()
    getfqdn()
    seconds = time.perf_counter() - begun
    if seconds > 1:
        yield warning(
            "[core] hostname_callable",
            f"resolving this machine's full name takes {seconds:.1f} s for every task",
            "Set it to socket.gethostname.",
        )


_DISTRIBUTION = "airflow-provider-zen"


def installation_findings() -> Iterator[Finding]:
    """Check the installed packages against the requirements of this package."""
    yield ok("python", platform.python_version())
    try:
        yield ok(_DISTRIBUTION, version(_DISTRIBUTION))
        requirements = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        yield failed(_DISTRIBUTION, "is not installed, so Airflow cannot load it", "pip install airflow-provider-zen")
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
        yield failed(check, f"{found}, but {requirement.specifier} is required", f"pip install '{requirement}'")


def _check_bytecode() -> Finding:
    """Check that Airflow's modules are compiled: an Airflow process imports thousands of them."""
    import airflow.models.dag as airflow_module

    bytecode = Path(importlib.util.cache_from_source(str(airflow_module.__file__)))
    if bytecode.exists():
        return ok("bytecode", "Airflow's modules are compiled")
    cause = "PYTHONDONTWRITEBYTECODE is set, and " if sys.dont_write_bytecode else ""
    return warning(
        "bytecode",
        f"{cause}Airflow's modules are not compiled: every process compiles them again, and starts 5 times slower",
        f"python -m compileall -q {Path(sys.prefix) / 'lib'}",
    )
