"""How many values there are, judged by some of them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def estimate_distinct(sample: pa.Array | pa.ChunkedArray, rows: int) -> int:
    """Estimate how many distinct values `rows` values have of which these are some; exact where these are all.

    By Duj1 (Haas, Naughton, Seshadri, Stokes 1995).
    """
    if not len(sample) or not rows:
        return 0
    counts = pc.value_counts(sample).field("counts")
    singletons = pc.sum(pc.equal(counts, 1)).as_py() or 0
    unseen_share = (1 - len(sample) / rows) * singletons / len(sample)
    return min(rows, round(len(counts) / (1 - unseen_share)))
