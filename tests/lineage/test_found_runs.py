"""Promises of how terminals and notebooks show lineage."""

from airflow_zen.lineage import Ancestry, FoundArtifact, FoundRun
from airflow_zen.lineage.found_runs import FoundRuns

ROWS, MODEL, SCORE, LIMIT = (FoundArtifact(f"d/{name}", digest * 16) for name, digest in zip(("rows", "model", "score", "limit"), "abcd", strict=True))  # fmt: skip


def found(task: str, inputs: tuple = (), outputs: tuple = ()) -> FoundRun:
    return FoundRun(task, "1", task, "d", "r<1>", task, "FINISHED", 0.0, 1.0, False, inputs, outputs)


LOAD = found("load", (), (ROWS,))
TRAIN = found("train", (ROWS,), (MODEL,))
JUDGE = found("judge", (MODEL, ROWS, LIMIT), (SCORE,))
MAKERS = {("judge", MODEL): "train", ("judge", ROWS): "load", ("train", ROWS): "load"}
ANCESTRY = Ancestry((JUDGE, TRAIN, LOAD), (ROWS, LIMIT), MAKERS)
RUN = "d r<1> · 1970-01-01T00:00:00+00:00 · FINISHED"


def test_ancestry_is_a_tree():
    """An ancestry is printed as a tree: runs, their inputs, and the makers of these; a run that was shown is not repeated."""
    assert str(ANCESTRY).splitlines() == [
        f"judge · {RUN}",
        "├── d/model bbbbbbbbbbbbbbbb",
        f"│   └── train · {RUN}",
        "│       └── d/rows aaaaaaaaaaaaaaaa",
        f"│           └── load · {RUN}",
        "├── d/rows aaaaaaaaaaaaaaaa",
        f"│   └── load · {RUN} (see above)",
        "└── d/limit dddddddddddddddd (raw)",
    ]


def test_notebooks_show_ancestry_as_nested_lists():
    """A notebook shows an ancestry as nested lists, with text from users escaped."""
    html = Ancestry((TRAIN, LOAD), (ROWS,), {("train", ROWS): "load"})._repr_html_()
    run = RUN.replace("<", "&lt;").replace(">", "&gt;")
    assert html == f"train · {run}<ul><li>d/rows aaaaaaaaaaaaaaaa<ul><li>load · {run}</li></ul></li></ul>"


def test_found_runs_are_a_table():
    """The runs that a query finds are a list that is shown as a table, with text from users escaped."""
    header, row = str(FoundRuns([TRAIN])).splitlines()
    assert [cell.strip() for cell in header.split("|")] == [
        "started",
        "DAG",
        "run",
        "task",
        "state",
        "cached",
        "outputs",
    ]
    assert "1970-01-01T00:00:00+00:00 | d   | r<1> | train" in row
    assert "<td>r&lt;1&gt;</td>" in FoundRuns([TRAIN])._repr_html_()
