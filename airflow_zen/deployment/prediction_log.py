"""The prediction log: requests and answers of deployments, as parquet files in the artifact store."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_zen.deployment.protocols import Rows, decode_predictions, decode_rows
from airflow_zen.errors import UNREADABLE, InputError, log_errors
from airflow_zen.transports.base import Transport, quote_key_part

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("airflow_zen.deployment")

PREDICTIONS = "predictions"
"""The folder of the artifact root with a folder of each model's predictions."""

MAX_WAITING, MAX_WAITING_BYTES = 20_000, 64 * 1024**2
"""The requests, and the bytes of their bodies, that wait to be written; what comes while there are more is dropped."""

PART_ENTRIES, PART_SECONDS = 2_000, 10.0
"""The requests, or the seconds since the first of them, after which a part is written."""

_TRIES = 3


class Prediction(msgspec.Struct, frozen=True):
    """An answered request. time: seconds since the epoch. latency: seconds. request, answer: JSON bodies."""

    model: str
    version: str
    deployment: str
    time: float
    latency: float
    request: bytes
    answer: bytes


class PredictionLog:
    """A bounded buffer in front of the store, which a separate thread writes; `add` never waits.

    open_transport: opens the store of a stack; called once for each, by that thread.
    """

    def __init__(self, open_transport: Callable[[str], Transport]) -> None:
        self._open = open_transport
        self._transports: dict[str, Transport] = {}
        self._waiting: deque[tuple[str, Prediction]] = deque()
        self._bytes, self.dropped, self.written = 0, 0, 0
        self._wake, self._writing, self._closed = threading.Event(), threading.Lock(), False
        self._thread: threading.Thread | None = None

    def add(self, stack: str, prediction: Prediction) -> None:
        """Enqueue a prediction, or count it as dropped."""
        size = len(prediction.request) + len(prediction.answer)
        if len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            self.dropped += 1
            return
        self._bytes += size
        self._waiting.append((stack, prediction))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(stack,), name="prediction-log", daemon=True)
            self._thread.start()
        if len(self._waiting) >= PART_ENTRIES:
            self._wake.set()

    def flush(self) -> None:
        """Write pending predictions in this thread; drop those that the store rejects three times."""
        with self._writing:
            taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
            self._bytes = 0
            groups: dict[tuple[str, str], list[Prediction]] = {}
            for stack, prediction in taken:
                groups.setdefault((stack, prediction.model), []).append(prediction)
            for (stack, model), predictions in groups.items():
                self._write(stack, model, predictions)

    def close(self) -> None:
        """Write pending predictions, and end the thread."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, stack: str) -> None:
        # Reading Airflow's configuration takes seconds, which an end of the service may not have.
        with log_errors("The artifact root of the prediction log cannot be opened yet"):
            self._transport(stack)
        while not self._closed:
            self._wake.wait(PART_SECONDS)
            self._wake.clear()
            if self._waiting:
                self.flush()
        self.flush()

    def _transport(self, stack: str) -> Transport:
        if stack not in self._transports:
            self._transports[stack] = self._open(stack)
        return self._transports[stack]

    def _write(self, stack: str, model: str, predictions: list[Prediction]) -> None:
        for attempt in range(_TRIES):
            with log_errors(f"{len(predictions)} predictions of {model!r} are not stored yet"):
                self._transport(stack).create(_part_key(model, predictions[0].time), _encode_part(predictions))
                self.written += len(predictions)
                return
            if not self._closed:
                time.sleep(attempt)
        self.dropped += len(predictions)


def prediction_parts(transport: Transport, model: str, since: str = "", until: str = "") -> list[str]:
    """Return the keys of the parts of a model, in the order of their times.

    since, until: limits of the time at which the first prediction of a part was made, ISO 8601 in UTC, or the start of it.
    """
    keys = sorted(transport.list(f"{PREDICTIONS}/{quote_key_part(model)}"))
    first, last = (re.sub(r"[^0-9T]", "", limit) for limit in (since, until))
    return [key for key in keys if first <= key.rpartition("/")[2] and not (last and key.rpartition("/")[2] >= last)]


def read_predictions(transport: Transport, parts: Iterable[str]) -> Iterator[pa.Table]:
    """Yield the predictions in parts as tables of one schema; a column that a part does not have is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = list(parts)
    schemas = [pq.read_schema(pa.BufferReader(transport.read(key))) for key in parts]
    schema = pa.unify_schemas(schemas, promote_options="permissive")
    for key in parts:
        table = pq.read_table(pa.BufferReader(transport.read(key)))
        missing = [field for field in schema if field.name not in table.column_names]
        for field in missing:
            table = table.append_column(field, pa.nulls(len(table), field.type))
        yield table.select(schema.names).cast(schema)


def _part_key(model: str, started: float) -> str:
    at = datetime.fromtimestamp(started, UTC)
    return f"{PREDICTIONS}/{quote_key_part(model)}/{at:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}.parquet"


def _encode_part(predictions: Iterable[Prediction]) -> bytes:
    """Return a parquet file with a row for each predicted row; a request that cannot be parsed is one row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = [line for prediction in predictions for line in _lines(prediction)]
    names = dict.fromkeys(name for line in lines for name in line)
    columns = {name: _array(pa, [line.get(name) for line in lines]) for name in names}
    output = io.BytesIO()
    pq.write_table(pa.table(columns), output, compression="zstd")
    return output.getvalue()


def _array(pa: Any, values: list[Any]) -> Any:
    """Return the values as an Arrow array: mixed numbers as floats, values of several types as JSON."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.array(values, pa.float64())
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else json.dumps(value) for value in values])


def _lines(prediction: Prediction) -> Iterator[dict[str, Any]]:
    about = {
        "predicted_at": datetime.fromtimestamp(prediction.time, UTC),
        "model_version": prediction.version,
        "deployment": prediction.deployment,
        "latency_ms": prediction.latency * 1000,
    }
    try:
        rows = decode_rows(msgspec.json.decode(prediction.request))
        found = decode_predictions(msgspec.json.decode(prediction.answer))
        inputs = _named_inputs(rows)
        lines = [{**row, **_named_outputs(each), **about} for row, each in zip(inputs, found, strict=True)]
    except (InputError, *UNREADABLE):
        request, answer = (text.decode(errors="replace") for text in (prediction.request, prediction.answer))
        lines = [{"request": request, "answer": answer, **about}]
    yield from lines


def _named_inputs(rows: Rows) -> list[Mapping[str, Any]]:
    if rows.columns:
        return rows.records()
    return [
        {f"input_{at}": value for at, value in enumerate(row if isinstance(row, list) else [row])} for row in rows.data
    ]


def _named_outputs(found: Any) -> Mapping[str, Any]:
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    return (
        {f"prediction_{at}": each for at, each in enumerate(found)}
        if isinstance(found, list)
        else {"prediction": found}
    )
