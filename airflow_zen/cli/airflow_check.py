"""Look at this Airflow: whether it knows us, and whether its settings suit ML steps."""

from __future__ import annotations

from collections.abc import Iterator

from airflow.configuration import conf

from airflow_zen.cli.findings import Finding, failed, ok, warning

_REINSTALL = (
    "Reinstall airflow-provider-zen in the environment that runs Airflow: pip install --force-reinstall --no-deps"
)


def airflow_findings() -> Iterator[Finding]:
    """Ask Airflow what it found of this package, and read the options that hurt."""
    yield _check_provider()
    yield _check_plugin()
    yield from _check_options()


def _check_provider() -> Finding:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()  # type: ignore[no-untyped-call]
    found = manager.providers.get("airflow-provider-zen")
    return (
        ok("provider", f"known to Airflow, {found.version}")
        if found
        else failed("provider", "not known to Airflow", _REINSTALL)
    )


def _check_plugin() -> Finding:
    """Without the plugin's listener no DAG run is closed and drawn in MLflow."""
    from airflow import plugins_manager

    if any(plugin["name"] == "airflow_zen" for plugin in plugins_manager.get_plugin_info(["listeners"])):
        return ok("plugin", "loaded: DAG runs are closed and drawn in MLflow when they end")
    # Airflow 3.1 kept them in a variable.
    errors = getattr(plugins_manager, "get_import_errors", lambda: getattr(plugins_manager, "import_errors", {}))()
    ours = [str(error) for source, error in errors.items() if "airflow_zen" in source]
    return failed("plugin", f"not loaded{f': {ours[0]}' if ours else ''}", _REINSTALL)


def _check_options() -> Iterator[Finding]:
    if conf.getboolean("core", "execute_tasks_new_python_interpreter", fallback=False):
        yield warning(
            "[core] execute_tasks_new_python_interpreter",
            "True: every task starts Python and Airflow anew, seconds for each",
            "Set it to False, unless a library of yours does not survive a fork.",
        )
    if conf.getboolean("core", "unit_test_mode", fallback=False):
        yield warning("[core] unit_test_mode", "True: parts of Airflow behave as in its own tests", "Leave it out.")
    hostname = conf.get("core", "hostname_callable", fallback="")
    if hostname == "airflow.utils.net.getfqdn":
        yield from _check_hostname()
    executor = conf.get("core", "executor", fallback="")
    database = conf.get("database", "sql_alchemy_conn", fallback="")
    detail = f"{executor} on {database.partition(':')[0]}"
    if database.startswith("sqlite") and "Celery" not in executor and "Kubernetes" not in executor:
        yield ok("executor", f"{detail}: for one machine and few tasks at a time")
    else:
        yield ok("executor", detail)


def _check_hostname() -> Iterator[Finding]:
    import time

    from airflow.utils.net import getfqdn

    begun = time.perf_counter()
    getfqdn()
    seconds = time.perf_counter() - begun
    if seconds > 1:
        yield warning(
            "[core] hostname_callable",
            f"resolving this machine's full name takes {seconds:.1f} s, for every task",
            "Set it to socket.gethostname.",
        )
