"""Promises of `dags_examples/distributed_training.py`: ranks learn the same, and kills change nothing."""

from pathlib import Path

import numpy as np
import pytest

from airflow_zen import load
from tests.harness import run_dag

_EXAMPLE = (Path(__file__).parents[2] / "dags_examples/distributed_training.py").read_text()

pytestmark = [pytest.mark.ml, pytest.mark.slow]
pytest.importorskip("torch")


def test_two_ranks_learn_what_one_does(load_dag_file, root):
    """Two ranks end with equal weights, which differ from those of one by rounding, and with the same accuracy."""
    run = run_dag(load_dag_file(_EXAMPLE, "distributed_training").distributed_training())
    assert set(run.states.values()) == {"success"}, run.tasks[-1].error
    two, one = (load(run.xcom(f"train_{name}", "digests")) for name in ("two", "one"))
    assert (len(two), len(set(two)), len(one)) == (2, 1, 1)
    assert min(load(run.xcom(f"accuracy_{name}")) for name in ("two", "one")) > 0.93
    # One image.
    assert abs(load(run.xcom("compare"))) < 0.003
    weights = [load(run.xcom(f"train_{name}", "weights")) for name in ("two", "one")]
    for name, values in weights[0].items():
        assert np.allclose(values, weights[1][name], atol=1e-3)
