"""Promises about code that reads the task run's context."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRun, DagRunType

from airflow_zen.caching.code.task_context import Member, context_value, keyword_reads
from airflow_zen.errors import FingerprintError
from tests.caching.code.project import Project

IMPORT = "from airflow.sdk import get_current_context\n"
READS = {
    "item": (IMPORT + "def step(x):\n    return get_current_context()['ds']\n", ["ds"]),
    "get": (IMPORT + "def step(x):\n    return get_current_context().get('ds', '2024')\n", ["ds"]),
    "item of an item": (IMPORT + "def step(x):\n    return get_current_context()['params']['depth']\n", ["params.depth"]),
    "get of an item": (IMPORT + "def step(x):\n    return get_current_context()['params'].get('depth', 3)\n", ["params.depth"]),
    "attribute": (IMPORT + "def step(x):\n    return get_current_context()['dag_run'].conf['depth']\n", ["dag_run.conf.depth"]),
    "variable": (IMPORT + "def step(x):\n    context = get_current_context()\n    return context['ds'], context['params']['depth']\n", ["ds", "params.depth"]),
    "variable with an annotation": (IMPORT + "def step(x):\n    context: dict = get_current_context()\n    return [context['ds'] for _ in x]\n", ["ds"]),
    "variable of a nested function": (IMPORT + "def step(x):\n    context = get_current_context()\n    def day():\n        return context['ds']\n    return day()\n", ["ds"]),
    "variable in a condition": (IMPORT + "def step(x):\n    if (context := get_current_context()):\n        return context['run_id']\n", None),
    "walrus": (IMPORT + "def step(x):\n    return (context := get_current_context())['ds'] + context['run_id']\n", None),
    "variable that is set twice": (IMPORT + "def step(x):\n    context = get_current_context()\n    context = get_current_context()\n    return context['ds']\n", ["ds"]),
    "by the module": ("import airflow.sdk as sdk\ndef step(x):\n    return sdk.get_current_context()['ds']\n", ["ds"]),
    "by another name": ("from airflow.sdk import get_current_context as now\ndef step(x):\n    return now()['ds']\n", ["ds"]),
    "imported in the function": ("def step(x):\n    from airflow.operators.python import get_current_context\n    return get_current_context()['ds']\n", ["ds"]),
    "in a helper": (IMPORT + "def run():\n    return get_current_context()['dag_run'].run_id\ndef step(x):\n    return run()\n", ["dag_run.run_id"]),
    "in a method": (IMPORT + "class A:\n    def run(self):\n        return get_current_context()['ds']\ndef step(x):\n    return A().run()\n", ["ds"]),
    "in two functions": (IMPORT + "def run():\n    return get_current_context()['ts']\ndef step(x):\n    return run(), get_current_context()['ds']\n", ["ds", "ts"]),
    "in a lambda": (IMPORT + "day = lambda: get_current_context()['ds']\ndef step(x):\n    return day()\n", ["ds"]),
    "method of a value": (IMPORT + "def step(x):\n    return get_current_context()['logical_date'].strftime('%Y')\n", ["logical_date"]),
    "all params": (IMPORT + "def step(x):\n    return dict(**get_current_context()['params'])\n", ["params"]),
    "all params, one by one": (IMPORT + "def step(x):\n    return [*get_current_context()['params'].items()]\n", ["params"]),
    "computed param": (IMPORT + "def step(x):\n    return get_current_context()['params'][x]\n", ["params"]),
    "not there": (IMPORT + "def step(x):\n    return get_current_context()['params'].get('width')\n", ["params.width"]),
    "docstring": (IMPORT + "def step(x):\n    'Call get_current_context().'\n    return get_current_context()['ds']\n", ["ds"]),
    "computed member": (IMPORT + "def step(x):\n    return get_current_context()[x]\n", None),
    "whole": (IMPORT + "def step(x):\n    return dict(get_current_context())\n", None),
    "returned by a helper": (IMPORT + "def now():\n    return get_current_context()\ndef step(x):\n    return now()['ds']\n", None),
    "given to a function": (IMPORT + "def day(context):\n    return context['ds']\ndef step(x):\n    return day(get_current_context())\n", None),
    "variable that is passed on": (IMPORT + "def step(x):\n    context = get_current_context()\n    return context['ds'], str(context)\n", None),
    "variable that may be another": (IMPORT + "def step(x, other):\n    context = other\n    if x:\n        context = get_current_context()\n    return context['ds']\n", None),
    "global variable": (IMPORT + "def step(x):\n    global context\n    context = get_current_context()\n    return context['ds']\n", None),
    "variable by locals": (IMPORT + "def step(x):\n    context = get_current_context()\n    return locals()['context']['ds'], context['ds']\n", None),
    "two targets": (IMPORT + "def step(x):\n    context = other = get_current_context()\n    return other['ds']\n", None),
    "attribute of self": (IMPORT + "class A:\n    def __init__(self):\n        self.context = get_current_context()\n    def run(self):\n        return self.context['ds']\ndef step(x):\n    return A().run()\n", None),
    "changed": (IMPORT + "def step(x):\n    get_current_context()['ds'] = x\n", None),
    "alias of the function": (IMPORT + "def step(x):\n    now = get_current_context\n    return now()['ds'], get_current_context()['ds']\n", None),
    "by getattr": ("import airflow.sdk as sdk\ndef step(x):\n    return getattr(sdk, 'get_current_context')()[x], sdk.get_current_context()['ds']\n", None),
    "at the top level": (IMPORT + "import os\ntry:\n    os.environ['day'] = get_current_context()['ds']\nexcept Exception:\n    pass\nos.putenv('day', str(get_current_context))\ndef step(x):\n    return os.environ['day']\n", None),
    "unpacked": (IMPORT + "def step(x):\n    return dict(**get_current_context())\n", None),
}  # fmt: skip


RUN = DagRun.model_construct(run_id="r", run_type=DagRunType.MANUAL, conf=None)
VALUES_OF_A_RUN = {"ds": "2024-05-01", "dag_run": RUN, "params": {"depth": 3}}


@pytest.mark.parametrize(("text", "expected"), READS.values(), ids=READS)
def test_reads(text: str, expected: list[str] | None, tmp_path: Path) -> None:
    """What is read by constant names is known; where the context is used otherwise, the reason says what to do."""
    project = Project(tmp_path, {"flow.py": text})
    if expected is None:
        with pytest.raises(FingerprintError, match=r"constant names.*parameters.*cache=False"):
            project.code()
    else:
        found = [".".join(member.name for member in path) for path in project.code().context]
        assert [name.removesuffix(".strftime").removesuffix(".items") for name in found] == expected


VALUES = {
    "item": ((("ds", False),), "ds", "2024-05-01"),
    "item of an item": ((("params", False), ("depth", False)), "params.depth", 3),
    "missing": ((("params", False), ("width", False)), "params.width", ...),
    "attribute of a mapping": ((("params", False), ("items", True)), "params", {"depth": 3}),
    "attribute of a value": ((("ds", False), ("upper", True)), "ds", "2024-05-01"),
    "field": ((("dag_run", False), ("run_id", True)), "dag_run.run_id", "r"),
    "enum": ((("dag_run", False), ("run_type", True)), "dag_run.run_type", DagRunType.MANUAL),
    "item of nothing": ((("dag_run", False), ("conf", True), ("depth", False)), "dag_run.conf", None),
    "whole run": ((("dag_run", False),), None, None),
    "method": ((("dag_run", False), ("model_dump", True)), None, None),
    "item of a run": ((("dag_run", False), ("run_id", False)), None, None),
}  # fmt: skip


@pytest.mark.parametrize(("path", "name", "expected"), VALUES.values(), ids=VALUES)
def test_values(path: Any, name: str | None, expected: Any) -> None:
    """A path leads to a plain value; an object of Airflow's, whose methods ask Airflow, is refused."""
    members = tuple(Member(*each) for each in path)
    if name is None:
        with pytest.raises(FingerprintError, match="no plain value"):
            context_value(VALUES_OF_A_RUN, members)
    else:
        assert context_value(VALUES_OF_A_RUN, members) == (name, expected)


def reads_by_constants(x: int, **context: Any) -> Any:
    def day() -> Any:
        return context["ds"]

    return day(), context["params"].get("depth"), context["dag_run"].conf


def reads_another(x: int, **context: Any) -> Any:
    return context["ds"], context[str(x)]


def passes_on(x: int, **context: Any) -> Any:
    return reads_by_constants(x, **context)


def binds_again(x: int, **context: Any) -> Any:
    context = {"ds": date(2024, 1, 1)}
    return context["ds"]


def ignores(x: int, **context: Any) -> Any:
    return x


def test_reads_of_a_keyword_parameter() -> None:
    """What a function reads of `**context` is known where it reads nothing else of it."""
    names = {".".join(member.name for member in path) for path in keyword_reads(reads_by_constants)}
    assert names == {"ds", "params.depth", "dag_run.conf"}
    assert not keyword_reads(ignores)
    for function in (reads_another, passes_on, binds_again):
        with pytest.raises(FingerprintError, match="constant names"):
            keyword_reads(function)
