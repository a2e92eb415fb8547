"""Promises about damaged artifacts: a reader finds the damage, and the next run of the step that made it repairs it."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from airflow_zen.artifacts.folder import ArtifactFolder
from airflow_zen.errors import ArtifactCorrupt, ArtifactNotFound
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step
from tests.pruning.conftest import stack_at


def small(seed: int) -> list[int]:
    return [seed]


def frame(seed: int) -> pd.DataFrame:
    return pd.DataFrame({"x": np.arange(1000) + seed})


def large(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(300_000)


def files(seed: int) -> Path:
    directory = Path(os.environ["TMPDIR"], "files")
    (directory / "sub").mkdir(parents=True, exist_ok=True)
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        (directory / name).write_text(f"{name} {seed}" * 100)
    return directory


@pytest.fixture(params=["local", "moto"])
def stack(request, tmp_path, monkeypatch):
    """A stack on each kind of root."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    if request.param == "local":
        return stack_at(str(tmp_path / "root"))
    server = request.getfixturevalue("moto")
    return stack_at(f"{server.root}/damage-{os.urandom(4).hex()}", server.storage_options())


def run(stack, function, number):
    begun = StepRun(StepRunId("d", "r", function.__name__, -1, number), cache=CacheState.MISS)
    return run_step(Step(function, function.__name__), Arguments.bind(function, (7,), {}), stack, begun)


def overwrite(stack, key, content):
    stack.store.transport.delete([key])
    stack.store.transport.write(key, content)


def flip(content):
    return bytes([content[0] ^ 1]) + content[1:]


# What happens to one object of the artifact.
HARM = {
    "a flipped byte": lambda stack, key, content: overwrite(stack, key, flip(content)),
    "cut": lambda stack, key, content: overwrite(stack, key, content[:-1]),
    "empty": lambda stack, key, content: overwrite(stack, key, b""),
    "gone": lambda stack, key, content: stack.store.transport.delete([key]),
}


def read(stack, ref, into):
    into.mkdir()
    return stack.load(type(ref).from_wire(ref.to_wire()), into)


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize(
    ("function", "which"),
    [(small, 0), (frame, 0), (frame, 1), (large, 0), (large, 1), (files, 1), (files, -1)],
    ids=["small", "frame's manifest", "frame", "large", "large's manifest", "one of many files", "manifest of many"],
)
def test_the_next_run_repairs(stack, function, which, harm, tmp_path):
    """After a reader has met the damage, or a file is missing, the step computes anew, and all of it is as it was."""
    made = run(stack, function, 1).outputs["output"]
    transport = stack.store.transport
    keys = [each.key for each in ArtifactFolder.read(transport, made.digest).objects]
    content = {key: transport.read(key) for key in keys}
    HARM[harm](stack, keys[which % len(keys)], content[keys[which % len(keys)]])
    with suppress(ArtifactCorrupt, ArtifactNotFound):
        read(stack, made, tmp_path / "damaged")
    again = run(stack, function, 2)
    assert again.outputs["output"].digest == made.digest
    if content != {key: transport.read(key) for key in keys}:
        # No reader needs the manifest of one or two files, so none has met the damage in it.
        assert keys[which].endswith("manifest.json")
        assert again.cache == "hit"
        return
    assert read(stack, made, tmp_path / "again") is not None
    assert not ArtifactFolder.read(transport, made.digest).is_damaged
    assert run(stack, function, 3).cache == "hit"


@pytest.mark.parametrize("function", [frame, files], ids=["frame", "files"])
def test_a_byte_that_was_damaged_on_its_way(function, moto, tmp_path, monkeypatch, caplog):
    """Bytes that arrive damaged once are downloaded again; the artifact is not marked, and its result is reused."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    stack = stack_at(f"{moto.root}/damage-{os.urandom(4).hex()}", moto.storage_options())
    made = run(stack, function, 1).outputs["output"]
    chunks, flips = stack.store.transport._chunks, [1]

    def damaged_once(key):
        found = b"".join(map(bytes, chunks(key)))
        yield flip(found) if flips and flips.pop() else found

    monkeypatch.setattr(stack.store.transport, "_chunks", damaged_once)
    assert read(stack, made, tmp_path / "loaded") is not None
    assert not flips
    assert "did not arrive with its hash" in caplog.text
    assert not stack.store.missing([made])


@pytest.mark.parametrize("times", [1, 9])
def test_a_stream_that_arrives_damaged(moto, tmp_path, monkeypatch, times):
    """A large table whose stream is damaged is downloaded; only where that is damaged too the artifact is marked."""
    stack = stack_at(f"{moto.root}/damage-{os.urandom(4).hex()}", moto.storage_options())
    value = pd.DataFrame({"x": np.random.default_rng(1).random(1_500_000)})
    made = stack.save(value).ref
    chunks, flips = stack.store.transport._chunks, [1] * times

    def damaged(key):
        found = list(map(bytes, chunks(key)))
        middle = len(found) // 2
        if flips:
            flips.pop()
            found[middle] = flip(found[middle])
        yield from found

    monkeypatch.setattr(stack.store.transport, "_chunks", damaged)
    if times == 1:
        assert read(stack, made, tmp_path / "loaded").equals(value)
    else:
        with pytest.raises(ArtifactCorrupt, match="Run the step that made it again"):
            read(stack, made, tmp_path / "loaded")
    assert bool(stack.store.missing([made])) == (times > 1)
