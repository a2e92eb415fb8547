"""Run the flight-delay pipeline twice in a real Airflow with a real MLflow, and show the results."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.errors import ZenError
from airflow_zen.localstack.services import request_json
from airflow_zen.localstack.stack import start_local_stack, stop_local_stack
from airflow_zen.localstack.state import AIRFLOW_USER, Layout, LocalStack
from airflow_zen.markup import format_bytes
from tests.servers.airflow_api import AirflowApi, DagRun, TaskInstance

REPOSITORY = Path(__file__).resolve().parent.parent


class DemoFailed(ZenError, RuntimeError):
    """The pipeline failed, or its second run was not cached."""


@dataclass(frozen=True)
class Step:
    """One finished task of a run, and the artifacts it returned by output name."""

    task: TaskInstance
    outputs: dict[str, ArtifactRef]

    @property
    def name(self) -> str:
        """The task id, with the map index of a mapped task."""
        return self.task.task_id + (f"[{self.task.map_index}]" if self.task.map_index >= 0 else "")

    @property
    def cached(self) -> bool:
        """Whether every output comes from an earlier run."""
        return bool(self.outputs) and all(ref.cached for ref in self.outputs.values())


def demo(stack: LocalStack, dag_id: str) -> None:
    """Run the DAG twice and print the results."""
    airflow = AirflowApi(stack.layout.airflow_url, stack.layout.airflow_password)
    print(f"Waiting for DAG {dag_id!r} …")
    airflow.wait_for_dag(dag_id, timeout=180)
    first_run, first = _run(airflow, dag_id, "first")
    second_run, second = _run(airflow, dag_id, "second")
    _print_steps(first, second)
    _print_artifacts(first)
    experiment = _print_metrics(stack.layout, first_run)
    print("\nAddresses, while both are up")
    print(f"  Airflow, first run     {airflow.dag_run_url(first_run)}")
    print(f"  Airflow, second run    {airflow.dag_run_url(second_run)}")
    print(f"  MLflow                 {experiment}")
    print(f"  login to both          user {AIRFLOW_USER}, password {stack.layout.airflow_password}")
    print(f"  artifacts              {stack.layout.directory / 'artifacts'}")
    if computed := [step.name for step in second if not step.cached]:
        raise DemoFailed(f"In the second run these steps were not cached: {', '.join(computed)}.")


def _run(airflow: AirflowApi, dag_id: str, which: str) -> tuple[DagRun, list[Step]]:
    print(f"The {which} run …", end=" ", flush=True)
    begun = time.monotonic()
    run = airflow.wait_for_dag_run(airflow.trigger(dag_id), timeout=900)
    print(f"{run.state} after {time.monotonic() - begun:.1f} s")
    tasks = airflow.task_instances(run)
    if run.state != "success":
        _raise_failure(airflow, run, tasks)
    return run, [Step(task, _outputs(airflow.xcom(run, task))) for task in tasks]


def _raise_failure(airflow: AirflowApi, run: DagRun, tasks: Sequence[TaskInstance]) -> NoReturn:
    failed = next((task for task in tasks if task.state == "failed"), None)
    if failed is None:
        raise DemoFailed(f"{run.dag_id} {run.run_id} failed, but none of its tasks did.")
    lines = airflow.log(run, failed).splitlines()
    raise DemoFailed("\n".join([f"Task {failed.task_id!r} failed. The end of its log:", *lines[-40:]]))


def _outputs(value: Any) -> dict[str, ArtifactRef]:
    """Return the refs of an XCom entry by output name; the name of a single output is empty."""
    if ArtifactRef.is_wire(value):
        return {"": ArtifactRef.from_wire(value)}
    return {name: ArtifactRef.from_wire(wire) for name, wire in (value or {}).items() if ArtifactRef.is_wire(wire)}


def _print_steps(first: Sequence[Step], second: Sequence[Step]) -> None:
    again = {step.name: step for step in second}
    rows = [(step.name, *_step_cells(step), *_step_cells(again[step.name])) for step in first]
    print("\nSteps (seconds as Airflow measures them)")
    _print_table(("step", "first run", "", "second run", ""), rows, right={1, 3})


def _step_cells(step: Step) -> tuple[str, str]:
    return f"{step.task.duration or 0:.2f} s", "cached" if step.cached else "computed"


def _print_artifacts(steps: Sequence[Step]) -> None:
    rows = [
        (name, ref.type.removeprefix("builtins."), ref.shape, format_bytes(ref.size), ref.digest[:12])
        for name, ref in _artifacts(steps)
    ]
    print("\nArtifacts")
    _print_table(("name", "type", "shape", "size", "digest"), rows, right={3})


def _artifacts(steps: Sequence[Step]) -> Iterator[tuple[str, ArtifactRef]]:
    for step in steps:
        for output, ref in step.outputs.items():
            yield f"{step.name}.{output}".rstrip("."), ref


def _print_metrics(layout: Layout, run: DagRun) -> str:
    """Print the metrics of the run's steps; return the URL of their experiment."""
    api = f"{layout.mlflow_uri}/api/2.0/mlflow"
    found = request_json("GET", f"{api}/experiments/get-by-name?experiment_name=airflow/{run.dag_id}")
    experiment = found["experiment"]["experiment_id"]
    query = {"experiment_ids": [experiment], "filter": f"tags.`zen.run_id` = '{run.run_id}'"}
    runs = request_json("POST", f"{api}/runs/search", query).get("runs", [])
    rows = [
        (one["info"]["run_name"], metric["key"], f"{metric['value']:.4f}")
        for one in runs
        for metric in one["data"].get("metrics", [])
        if not metric["key"].startswith(("zen.", "system/"))
    ]
    print("\nMetrics in MLflow")
    _print_table(("step", "metric", "value"), rows, right={2})
    return f"{layout.mlflow_url}/#/experiments/{experiment}/runs?workflowType=machine_learning"


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        cells = [
            text.rjust(width) if n in right else text.ljust(width)
            for n, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  " + "  ".join(cells).rstrip())


def _remove_earlier_demo(directory: Path) -> None:
    """Stop and remove an earlier demo; refuse to remove anything else."""
    if (directory / "stack.json").exists():
        stop_local_stack(directory, echo=lambda _: None)
        shutil.rmtree(directory)
    if directory.exists() and any(directory.iterdir()):
        raise DemoFailed(f"{directory} contains files that are not of a demo. Name another --directory.")


def main() -> int:
    """Start the stack, run the demo, stop the stack; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=REPOSITORY / ".zen" / "demo", help="contains all state")
    parser.add_argument("--dags", type=Path, default=REPOSITORY / "dags_examples", help="the DAGs folder")
    parser.add_argument("--dag", default="flight_delay", help="the DAG to run")
    parser.add_argument("--keep", action="store_true", help="leave Airflow and MLflow up")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    try:
        _remove_earlier_demo(options.directory)
        print(f"Starting Airflow and MLflow in {options.directory}:")
        demo(start_local_stack(options.directory, options.dags), options.dag)
    except ZenError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        if not options.keep:
            stop_local_stack(options.directory, echo=lambda _: None)
        print(f"\n{_final_message(options)} The demo took {time.monotonic() - begun:.0f} s.")
    return 0


def _final_message(options: argparse.Namespace) -> str:
    if not options.keep:
        return "Airflow and MLflow are stopped; ARGS=--keep leaves them up."
    return f"They stay up; `airflow zen stack down --directory {options.directory}` stops them."


if __name__ == "__main__":
    sys.exit(main())
