"""Promises of `airflow_zen.lineage.mlflow.description`: the description of a step run."""

from airflow_zen.lineage.mlflow.description import run_description
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId

RUN = StepRun(StepRunId("d", "r", "train"))


def test_an_empty_run():
    """A run without any facts has no description."""
    assert run_description(RUN, "1") == ""


def test_artifacts_are_a_table_with_links(ref):
    """Each artifact is a row with its direction and a link to all runs that read or wrote it."""
    frame = ref("d/load")
    text = run_description(StepRun(RUN.id, inputs={"a|b": frame}, outputs={"output": ref("d/train")}), "7")
    assert f"| in | a/b | d/load | 3 rows × 2 columns | [{frame.digest[:16]}](#/experiments/7/runs?" in text
    assert "| out | output | d/train |" in text


def test_errors_and_origins_are_shown():
    """A failed run shows its error, and a hit shows the run that made its result."""
    assert "**Error:** `ValueError: 'x'`" in run_description(StepRun(RUN.id, error="ValueError: `x`"), "1")
    assert "`d/r0/train/-1/1`" in run_description(StepRun(RUN.id, cache=CacheState.HIT, origin="d/r0/train/-1/1"), "1")


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
