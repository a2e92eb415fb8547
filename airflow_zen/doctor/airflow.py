"""Checks of the installation, of Airflow's options, and of the options in `[zen]`."""

from __future__ import annotations

import importlib.util
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from airflow.configuration import AIRFLOW_CONFIG, AIRFLOW_HOME, conf

from airflow_zen.config.options import find_options
from airflow_zen.config.settings import Settings, effective_options
from airflow_zen.doctor.findings import Finding, failed, ok, ok_if, warning
from airflow_zen.doctor.mlflow import mlflow_findings
from airflow_zen.doctor.store import store_findings
from airflow_zen.errors import ZenError
from airflow_zen.localstack.state import running_layouts

_DISTRIBUTION = "airflow-provider-zen"
_REINSTALL = f"Reinstall {_DISTRIBUTION} in the environment that runs Airflow: pip install --force-reinstall --no-deps"


def all_findings(stack: str | None) -> Iterator[Finding]:
    """Check everything that a step of a stack needs."""
    yield ok("installation", f"{sys.prefix}, AIRFLOW_HOME {AIRFLOW_HOME}, options in {AIRFLOW_CONFIG}")
    yield from _local_stack_findings()
    yield from installation_findings()
    yield _check_provider()
    yield _check_plugin()
    yield from _check_options()
    try:
        settings = Settings.read(stack)
    except ZenError as error:
        yield failed("settings", "cannot be read", str(error))
        return
    for check in (_option_findings, _local_cache_findings, store_findings, mlflow_findings):
        yield from check(settings)


def _local_stack_findings() -> Iterator[Finding]:
    """Name each running local stack of this machine, and the way to use it if this shell does not."""
    for layout in running_layouts():
        seen = f"{layout.directory} is up: Airflow {layout.airflow_url}, MLflow {layout.mlflow_url}"
        if layout.airflow_home == Path(AIRFLOW_HOME).resolve():
            yield ok("local stack", f"{seen}; this is its installation")
        else:
            remedy = f'To use it here: eval "$(airflow zen stack env --directory {shlex.quote(str(layout.directory))})"'
            yield ok("local stack", f"{seen}; AIRFLOW_HOME is another one", remedy)


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


def _check_provider() -> Finding:
    from airflow.providers_manager import ProvidersManager

    providers = ProvidersManager().providers  # type: ignore[no-untyped-call]
    if found := providers.get(_DISTRIBUTION):
        return ok("provider", f"loaded by Airflow, {found.version}")
    return failed("provider", "not loaded by Airflow", _REINSTALL)


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
    if conf.get("core", "hostname_callable", fallback="") == "airflow.utils.net.getfqdn":
        yield from _check_hostname()
    executor = conf.get("core", "executor", fallback="")
    database = conf.get("database", "sql_alchemy_conn", fallback="")
    detail = f"{executor} on {database.partition(':')[0]}"
    is_small = database.startswith("sqlite") and "Celery" not in executor and "Kubernetes" not in executor
    yield ok("executor", f"{detail}: for one machine and few concurrent tasks" if is_small else detail)


def _check_hostname() -> Iterator[Finding]:
    from airflow.utils.net import getfqdn

    begun = time.perf_counter()
    getfqdn()
    if (seconds := time.perf_counter() - begun) > 1:
        yield warning(
            "[core] hostname_callable",
            f"resolving this machine's full name takes {seconds:.1f} s for every task",
            "Set it to socket.gethostname.",
        )


def _option_findings(settings: Settings) -> Iterator[Finding]:
    """Yield every option of a stack that is set, and its source."""
    yield ok("stack", settings.stack)
    for option, value, source in effective_options(find_options(settings.stack)):
        if value and source != "default":
            yield ok(f"[zen] {option}", f"{value} ({source})")


def _local_cache_findings(settings: Settings) -> Iterator[Finding]:
    """Check that the disk of the local cache has enough space."""
    if not settings.local_cache_dir or "://" not in settings.artifact_root:
        return
    path = Path(settings.local_cache_dir).expanduser()
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    used = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.exists() else 0
    size = settings.local_cache_size
    detail = f"{free / 1024**3:.1f} GiB free, {used / 1024**3:.1f} of {size / 1024**3:.1f} GiB used"
    remedy = f"Free disk space in {existing}, or lower local_cache_size."
    yield ok("local cache", detail) if free > size - used else warning("local cache", detail, remedy)


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
    is_supported = requirement.specifier.contains(found, prereleases=True)
    problem = f"{found}, but {requirement.specifier} is required"
    yield ok_if(check, found, is_supported, problem, f"pip install '{requirement}'")


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
