"""One arm of `bench_table_s3.py`, in a process of its own: `table_s3_arms.py ARM OPTIONS`; prints JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Options = dict[str, Any]
MEGABYTE = 1e6


def resident() -> float:
    """Return this process's own memory, in bytes; files that are only mapped, or cached by the system, are not counted."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return float(status["RssAnon"].split()[0]) * 1024


class Peak:
    """Watch this process's memory for a while."""

    def __init__(self) -> None:
        self.most = self.before = resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.most = max(self.most, resident())

    def stop(self) -> float:
        """Return what was added at the peak, in bytes."""
        self._stop.set()
        self._thread.join()
        return max(self.most, resident()) - self.before


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Run `work`, give its CPU and wall seconds."""
    used, at = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    now, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - at
    return {"cpu": now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, "wall": wall}


def measured(work: Callable[[], Any], options: Options) -> dict[str, float]:
    """Run `work` for its time, the better of two; or once for its memory, which must be the first time in a process."""
    if not options["memory"]:
        return min((timed(work) for _ in range(2)), key=lambda found: found["cpu"])
    peak = Peak()
    work()
    return {"peak": peak.stop() / frame_bytes(options["rows"])}


def frame(rows: int) -> Any:
    """Make the table."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    columns: dict[str, Any] = {f"f{n}": random.standard_normal(rows) for n in range(8)}
    columns["i"] = random.integers(0, 10**9, rows)
    columns["s"] = random.choice([f"carrier {n}" for n in range(500)], rows)
    return pd.DataFrame(columns)


def frame_bytes(rows: int) -> float:
    """Return the size of the frame: nine columns of 8 bytes, and strings of about 11 with their offsets."""
    return rows * (9 * 8 + 11 + 8)


def stack(options: Options, local_cache: Any = None) -> Any:
    """Open a stack on the server."""
    from airflow_zen.artifacts.store import ArtifactStore
    from airflow_zen.caching.step_cache import StepCache
    from airflow_zen.materializers.registry import default_registry
    from airflow_zen.runs.records import StepRunRecords
    from airflow_zen.stack import Stack
    from airflow_zen.transports import open_transport

    transport = open_transport(options["root"], options["storage_options"])
    store = ArtifactStore(options["root"], transport, local_cache)
    return Stack(store, default_registry(), StepCache(transport), StepRunRecords(transport))


def store(options: Options) -> Any:
    """Open obstore's client."""
    import obstore.store

    environment = options["environment"]
    return obstore.store.from_url(
        options["root"],
        config={
            "access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
            "endpoint": environment["AWS_ENDPOINT_URL"],
            "region": environment["AWS_REGION"],
        },
        client_options={"allow_http": True},
    )


def write_parquet(table: Any, target: Any) -> None:
    """Write with the codec and layout of `pandas.parquet@1`."""
    import pyarrow.parquet as pq

    dense = {name: "none" for name in table.column_names if name.startswith("f")}
    pq.write_table(
        table,
        target,
        compression={**dense, "i": "zstd", "s": "zstd"},
        compression_level={"i": 1, "s": 1},
        use_dictionary=["s"],
        column_encoding={"i": "DELTA_BINARY_PACKED"},
        row_group_size=1 << 18,
        max_rows_per_page=1 << 18,
    )


def bare_save_obstore(options: Options) -> dict[str, float]:
    """Write parquet straight into a multipart upload."""
    import obstore
    import pyarrow as pa
    import pyarrow.parquet

    table, client = frame(options["rows"]), store(options)

    class Target:
        """What pyarrow expects of a file; obstore's `closed` is a method, which reads as true."""

        closed = False

        def __init__(self, writer: Any) -> None:
            self.write = writer.write
            self.flush = writer.flush

    def work() -> None:
        with obstore.open_writer(client, "bare.parquet") as writer:
            write_parquet(pa.Table.from_pandas(table, preserve_index=False), Target(writer))

    return measured(work, options)


def arrow_files(options: Options) -> tuple[Any, str]:
    """Open pyarrow's own client, and give the bucket."""
    import pyarrow.fs

    environment = options["environment"]
    files = pyarrow.fs.S3FileSystem(
        access_key=environment["AWS_ACCESS_KEY_ID"],
        secret_key=environment["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=environment["AWS_ENDPOINT_URL"],
        region=environment["AWS_REGION"],
    )
    return files, options["root"].removeprefix("s3://")


def bare_load_obstore(options: Options) -> dict[str, float]:
    """Fetch the object into memory, then read it."""
    import obstore
    import pandas  # noqa: F401, ICN001
    import pyarrow as pa
    import pyarrow.parquet as pq

    client = store(options)
    work = lambda: pq.read_table(pa.BufferReader(obstore.get(client, "bare.parquet").bytes())).to_pandas()  # noqa: E731
    return measured(work, options)


def bare_load_pyarrow(options: Options) -> dict[str, float]:
    """Read through pyarrow's own client."""
    import pandas  # noqa: F401, ICN001
    import pyarrow.parquet as pq

    files, bucket = arrow_files(options)
    work = lambda: pq.read_table(f"{bucket}/bare.parquet", filesystem=files).to_pandas()  # noqa: E731
    return measured(work, options)


def zen_save(options: Options) -> dict[str, float]:
    """Save as an artifact; each time another one, for what is stored is not sent again."""
    table, opened = frame(options["rows"]), stack(options)
    opened.save(table.head(10))

    def work() -> None:
        table.attrs = {"unique": os.urandom(8).hex()}
        opened.save(table)

    return measured(work, options)


def zen_load(options: Options) -> dict[str, float]:
    """Load an artifact, verified."""
    return _loading(stack(options), options)


def zen_load_kept(options: Options) -> dict[str, float]:
    """Load an artifact that another task of the worker has loaded, from the local cache."""
    from airflow_zen.transports.read_cache import ReadCache

    with lent() as directory:
        return _loading(stack(options, ReadCache(Path(directory), 10**10)), options, kept=True)


def _loading(opened: Any, options: Options, *, kept: bool = False) -> dict[str, float]:
    import pandas as pd

    warm = opened.save(frame(10)).ref
    opened.load(warm, opened.store.temporary_directory(), pd.DataFrame)
    table = frame(options["rows"])
    ref = opened.save(table).ref
    del table
    if kept:
        opened.store.get(ref, opened.store.temporary_directory())
    with lent() as directory:
        work = lambda: opened.load(ref, Path(tempfile.mkdtemp(dir=directory)), pd.DataFrame)  # noqa: E731
        return measured(work, options)


def zen_stream(options: Options) -> dict[str, float]:
    """Write and read `gigabytes` batch by batch, and give the memory that each added at its peak, in MB."""
    from collections.abc import Iterator as Batches

    import pandas as pd

    opened, part = stack(options), frame(100_000).round(3)
    batch = part.memory_usage(deep=False).sum()
    count = int(options["gigabytes"] * 1e9 / batch)

    def batches() -> Iterator[pd.DataFrame]:
        for number in range(count):
            yield part.assign(i=range(number * len(part), (number + 1) * len(part)))

    opened.save(iter([part]))
    writing = Peak()
    ref = opened.save(batches()).ref
    added = {"write_mb": writing.stop() / MEGABYTE}
    with lent() as directory:
        reading, rows = Peak(), 0
        for table in opened.load(ref, Path(directory), Batches[pd.DataFrame]):
            rows += len(table)
        added["read_mb"] = reading.stop() / MEGABYTE
    return {**added, "rows": rows, "stored_mb": ref.size / MEGABYTE, "frame_mb": count * batch / MEGABYTE}


@contextmanager
def lent() -> Iterator[str]:
    """Lend a directory for loaded files."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        yield directory


def _zenml(options: Options) -> Any:
    """Return ZenML's pandas materializer over its own S3 artifact store's filesystem."""
    import s3fs
    from zenml.io import fileio  # noqa: F401
    from zenml.materializers.pandas_materializer import PandasMaterializer

    files = s3fs.S3FileSystem(**options["storage_options"])

    class OnS3:
        """The two calls of an artifact store that the materializer makes, on s3fs as ZenML's own S3 store makes them."""

        def open(self, path: str, mode: str = "r") -> Any:
            return files.open(path, mode)

        def exists(self, path: str) -> bool:
            return bool(files.exists(path))

    return PandasMaterializer(uri=f"{options['root']}/zenml", artifact_store=OnS3())


def zenml_save(options: Options) -> dict[str, float]:
    """Save with ZenML's pandas materializer."""
    table, materializer = frame(options["rows"]), _zenml(options)
    return measured(lambda: materializer.save(table), options)


def zenml_load(options: Options) -> dict[str, float]:
    """Load with ZenML's pandas materializer."""
    import pandas as pd

    materializer = _zenml(options)
    return measured(lambda: materializer.load(pd.DataFrame), options)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](json.loads(sys.argv[2]))))
