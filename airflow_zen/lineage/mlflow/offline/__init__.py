"""Store what a step's code logs with MLflow while the server is unavailable, and send it later."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

# While a step's function runs this names the server, and the relay in front of it.
RELAY_VARIABLE = "AIRFLOW_ZEN_MLFLOW_RELAY"

# The step's run and experiment, and the process that the step runs in, as JSON.
STEP_VARIABLE = "AIRFLOW_ZEN_MLFLOW_STEP"

EXPERIMENT_STAYS = (
    "The step's runs stay in the MLflow experiment %r of its DAG; its code asks for %r. Set [zen] respect_set_experiment = True "
    "to use that."
)

log = logging.getLogger("airflow_zen.lineage")

_ENTRY_POINT_GROUPS = ("mlflow.tracking_store", "mlflow.request_auth_provider")


def mlflow_environment() -> dict[str, str]:
    """Return variables with which MLflow, in an environment without this package, logs into the running step's run.

    They are for programs that a step starts: `subprocess.run(command, env={**os.environ, **mlflow_environment()})`. The
    tracking URI is that of the step's relay, so that what such a program logs is also kept while the server is
    unavailable. Empty outside a step, and if no MLflow server is configured.
    """
    relay = os.environ.get(RELAY_VARIABLE, "").partition(" ")[2]
    if not relay:
        return {}
    run_id = json.loads(os.environ[STEP_VARIABLE])["run_id"]
    # Links to the relay would lead nowhere.
    quiet = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    return {"MLFLOW_TRACKING_URI": relay, "MLFLOW_RUN_ID": run_id, **quiet}


def child_environment() -> dict[str, str]:
    """Return the variable that makes MLflow log into the running step's run, in each interpreter that the step starts.

    It adds a folder, made by `write_package`, to the import path of these interpreters. The folder is made once for
    each user, in the cache directory. Empty if the folder cannot be written.
    """
    from hashlib import sha256

    import airflow_zen

    identity = sha256(f"{airflow_zen.__file__} {airflow_zen.__version__}".encode()).hexdigest()[:16]
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-zen"
        folder = cache / f"package-{identity}"
        if not folder.exists():
            _make_package(folder)
    except (OSError, RuntimeError) as error:
        log.info("A program of an environment without airflow-provider-zen does not log into the step's run: %s", error)
        return {}
    before = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != str(folder)]
    return {"PYTHONPATH": os.pathsep.join([str(folder), *before])}


def _make_package(folder: Path) -> None:
    """Make a folder as `write_package` does, unless another process makes it first."""
    import tempfile

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as made:
        write_package(Path(made, "package"))
        # Another process may have been first.
        with suppress(OSError):
            Path(made, "package").rename(folder)


def write_package(folder: Path) -> str:
    """Make a folder from which only this package can be imported, with its entry points for MLflow.

    The entry points belong to a distribution of another name, so that those of the installed package stay valid.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    import airflow_zen

    metadata = folder / f"airflow_provider_zen_step-{airflow_zen.__version__}.dist-info"
    metadata.mkdir(parents=True)
    (folder / "airflow_zen").symlink_to(Path(airflow_zen.__file__).parent, target_is_directory=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: airflow-provider-zen-step\nVersion: {airflow_zen.__version__}\n"
    )
    with suppress(PackageNotFoundError):
        points = distribution("airflow-provider-zen").entry_points
        lines = [
            line
            for group in _ENTRY_POINT_GROUPS
            for line in (f"[{group}]", *(f"{each.name} = {each.value}" for each in points.select(group=group)))
        ]
        (metadata / "entry_points.txt").write_text("\n".join([*lines, ""]))
    return str(folder)
