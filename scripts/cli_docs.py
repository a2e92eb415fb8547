"""Write docs/cli.md: every command of `airflow zen`, run on a small stack, with its real output."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from airflow_zen.localstack.services import service_environment
from airflow_zen.localstack.stack import stop_local_stack
from airflow_zen.localstack.state import read_local_stack
from tests.servers.airflow_api import AirflowApi

REPOSITORY = Path(__file__).resolve().parent.parent
TEMPLATE = REPOSITORY / "scripts" / "cli_docs.md"
DOCUMENT = REPOSITORY / "docs" / "cli.md"

# A block of the template that receives output: `console` with lines that begin with `$ airflow zen`.
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_WIDTH = 200

DAG = """
import pandas as pd
from airflow.sdk import dag
from airflow_zen import Output, ml_step
from sklearn.linear_model import LogisticRegression

@ml_step
def customers(months: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"id": range(len(months)), "months": months})

@ml_step
def load(rows: int) -> Output(train=list, test=list):
    table = [[float(row % 7), float(row % 5)] for row in range(rows)]
    return table[::2], table[1::2]

@ml_step(model="churn")
def train(rows: list, penalty: float) -> LogisticRegression:
    return LogisticRegression(C=penalty).fit(rows, [left > right for left, right in rows])

@ml_step
def score(model: LogisticRegression, rows: list) -> float:
    return float(model.score(rows, [left > right for left, right in rows]))

@dag(schedule=None)
def churn():
    customers(MONTHS)
    train_rows, test_rows = load(1000)
    score(train(train_rows, PENALTY), test_rows)

churn()
"""

STACKS = """\
stacks:
  staging:
    artifact_root: s3://ml-staging/artifacts
    artifact_conn_id: zen_s3
    cache_ttl: 86400
"""


class Shell:
    """Run the commands of the document in one directory, as in a terminal."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment: Mapping[str, str] = {**os.environ, "COLUMNS": str(_WIDTH)}
        self.values: dict[str, str] = {}

    def run(self, command: str) -> str:
        """Return the output of a command, with its exit code unless that is 0."""
        words = command.replace("airflow", f"{sys.executable} -m airflow", 1)
        for name, value in self.values.items():
            words = words.replace(name, value)
        done = subprocess.run(
            words,
            shell=True,
            cwd=self.directory,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        output = "\n".join(line.rstrip() for line in (done.stdout + done.stderr).splitlines())
        ended = f"\n(exit code {done.returncode})" if done.returncode else ""
        return self._plain(f"{output.strip()}{ended}")

    def _plain(self, text: str) -> str:
        text = text.replace(str(self.directory), "/srv/ml").replace(str(REPOSITORY), "/srv/airflow_zen")
        text = re.sub(r"password [\w-]{16}\)", "password vXq0v1bq2n9sTw5k)", text)
        return text.replace(str(Path(sys.executable).parent.parent), "/srv/venv")


def run_pipeline(shell: Shell) -> None:
    """Run the pipeline twice; the second run reuses steps and computes what a change affects."""
    layout = read_local_stack(shell.directory / ".zen" / "stack").layout  # type: ignore[union-attr]
    shell.environment = {
        **shell.environment,
        **service_environment(layout, {}),
        "AIRFLOW__ZEN__ARTIFACT_CONN_ID": "zen_s3",
    }
    (Path(shell.environment["AIRFLOW_HOME"]) / "stacks.yaml").write_text(STACKS)
    file = shell.directory / "dags" / "churn.py"
    airflow = AirflowApi(layout.airflow_url, layout.airflow_password)
    runs = []
    for penalty, months in (("1.0", "[12, 3]"), ("0.5", "[12, 3, 7]")):
        file.write_text(dag_source(penalty, months))
        subprocess.run(
            [sys.executable, "-m", "airflow", "dags", "reserialize"],
            env=dict(shell.environment),
            check=True,
            capture_output=True,
        )
        airflow.wait_for_dag("churn")
        runs.append(airflow.wait_for_dag_run(airflow.trigger("churn")))
    # Data that another job stored beside the artifacts, for `register`.
    raw = "open_stack(lineage=False).store.transport.write('raw/customers.csv', b'id,months\\n1,12\\n2,3\\n')"
    subprocess.run(
        [sys.executable, "-c", f"from airflow_zen.config.settings import open_stack; {raw}"],
        env=dict(shell.environment),
        check=True,
        capture_output=True,
    )
    versions = json.loads(shell.run("airflow zen artifacts versions churn/customers --output json"))
    shell.values = {"RUN": runs[-1].run_id, "BEFORE": min(found["version"] for found in versions)}


def dag_source(penalty: str, months: str) -> str:
    """Return the source of the DAG with its parameters."""
    return DAG.replace("PENALTY", penalty).replace("MONTHS", months)


def main() -> int:
    """Start a stack, fill in the document, stop the stack."""
    directory = Path(tempfile.mkdtemp(prefix="zen-cli-"))
    (directory / "dags").mkdir()
    (directory / "dags" / "churn.py").write_text(dag_source("1.0", "[12, 3]"))
    shell = Shell(directory)

    def fill_block(match: re.Match[str]) -> str:
        parts = []
        for command in match[1].splitlines():
            output = shell.run(command.removeprefix("$ "))
            print(command, flush=True)
            if command.startswith("$ airflow zen stack up local") and not shell.values:
                run_pipeline(shell)
            prompt = command
            for name, value in shell.values.items():
                prompt = prompt.replace(name, value)
            parts.append(f"{prompt}\n{output}\n")
        return f"```console\n{''.join(parts)}```"

    try:
        DOCUMENT.write_text(_BLOCK.sub(fill_block, TEMPLATE.read_text()))
    finally:
        stop_local_stack(directory / ".zen" / "stack")
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
