"""Step runs and refs, as the tests of lineage make them."""

from tests.lineage.conftest import dag_id, ended, records, ref, root, step, transport

__all__ = ["dag_id", "ended", "records", "ref", "root", "step", "transport"]
