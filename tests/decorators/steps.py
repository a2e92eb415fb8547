"""Steps, and a DAG around them."""

from datetime import datetime

from airflow.sdk import dag

from airflow_zen import Output, ml_step


@ml_step
def double(x: int) -> int:
    """Twice as much."""
    return 2 * x


@ml_step
def halves(x: int) -> Output(left=int, right=int):
    return x // 2, x - x // 2


def in_dag(build, **options):
    @dag(dag_id="d", schedule=None, start_date=datetime(2026, 1, 1), **options)
    def d():
        build()

    return d()
