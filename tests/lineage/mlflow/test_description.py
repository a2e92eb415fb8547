"""Promises of `airflow_zen.lineage.mlflow.description`: the description of a step run."""

from dataclasses import replace

from airflow_zen.lineage.mlflow.description import run_description
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId

RUN = StepRun(StepRunId("d", "r", "train"))


def test_an_empty_run():
    """A run without any facts has no description."""
    assert run_description(RUN, "1") == ""


def test_artifacts_are_a_table_with_links(ref):
    """Each artifact is a row with its direction and a link to all runs that read or wrote it."""
    frame = ref("d/load")
    selected = {"a|b": "delay@champion, version 7"}
    run = StepRun(RUN.id, inputs={"a|b": frame}, selected=selected, outputs={"output": ref("d/train")})
    text = run_description(run, "7")
    assert "| in&emsp; | a/b: delay@champion, version 7&emsp; | d/load&emsp; | 3 rows × 2 columns&emsp; |" in text
    assert f"| [{frame.digest[:16]}](#/experiments/7/runs?" in text
    assert "| out&emsp; | output&emsp; | d/train&emsp; |" in text


def test_links_first_and_code_last(ref):
    """The first line links to the graph and to the log, the table follows, and the code is the end."""
    run = StepRun(
        RUN.id, outputs={"output": ref("d/train")}, source="def train(): ...", log_url="http://af/log", error="E: x"
    )
    links, error, table, _, code = run_description(run, "7", "abc").split("\n\n")
    graph = "[Lineage graph](#/experiments/7/runs/abc?workflowType=machine_learning)"
    assert links == f"{graph} · [Log in Airflow](http://af/log)"
    assert (error[:10], table[:2], code) == ("**Error:**", "| ", "```python\ndef train(): ...\n```")


def test_long_lines_of_code_are_broken():
    """Lines of code fit beside the facts of a run; those that fit are as they were."""
    source = "def f(x):\n\treturn x\n\n    y = " + "value + " * 30 + "1\n    z = '" + "x" * 300 + "'  # end"
    code = run_description(StepRun(RUN.id, source=source), "1").splitlines()[3:-1]
    assert max(map(len, code)) <= 78
    assert code[:3] == ["def f(x):", "        return x", ""]
    assert "".join("".join(code).split()) == "".join(source.split())


def test_errors_and_origins_are_shown():
    """A failed run shows its error, and a hit shows the run that made its result."""
    assert "**Error:** `ValueError: 'x'`" in run_description(StepRun(RUN.id, error="ValueError: `x`"), "1")
    hit = run_description(StepRun(RUN.id, cache=CacheState.HIT, origin="d/r0/train/-1/1"), "1")
    assert "[`d/r0/train/-1/1`](#/experiments/1/runs?" in hit
    other = run_description(StepRun(RUN.id, cache=CacheState.HIT, origin="e/r0/train/-1/1"), "1")
    assert other == "Cached: the outputs were made by `e/r0/train/-1/1`."
    slow = run_description(StepRun(RUN.id, cache=CacheState.HIT, origin="e/r0/train/-1/1", seconds=3.972), "1")
    assert slow == "Cached: the outputs were made by `e/r0/train/-1/1`, which took 3.97 s."


def test_long_names_are_cut(ref):
    """A long name without spaces, which MLflow does not break, is cut in the table; a long text with spaces is whole."""
    run = StepRun(
        RUN.id, outputs={"o" * 100: replace(ref("d/" + "n" * 100), shape="ColumnTransformer of 3 features, 2 kept")}
    )
    row = run_description(run, "1").splitlines()[-1]
    assert "o" * 35 + "…" in row
    assert "ColumnTransformer of 3 features, 2 kept" in row
    assert "n" * 36 not in row


def test_long_descriptions_fit(ref):
    """Code is cut inside its fence, and a long table after a row, so that both still render."""
    coded = run_description(StepRun(RUN.id, source="x = 1\n" * 5000), "1")
    assert len(coded) <= 8000
    assert coded.endswith("…\n```")
    tabled = run_description(
        StepRun(RUN.id, inputs={f"f[{n}]": ref("d/load") for n in range(100)}, source="x = 1"), "1"
    )
    assert len(tabled) <= 8000
    assert tabled.endswith(" |\n…")
