"""Promises of `airflow_zen.steps.materialize`: made once, after the result is stored, and without a risk for it."""

import io
import logging
import threading
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.figure import Figure
from msgspec.structs import replace
from PIL import Image

from airflow_zen import Artifact, Each, Materializer
from airflow_zen.artifacts.folder import PreviewStore
from airflow_zen.materializers.pandas import PandasMaterializer
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId, StepState
from airflow_zen.steps import materialize
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.outputs import Output
from airflow_zen.steps.run import run_step
from airflow_zen.steps.step import Step


class ShownMaterializer(Materializer):
    encoding = "shown.csv@1"
    shows = staticmethod(lambda value: {"preview.md": "# shown"})

    def save(self, value, directory):
        (directory / "t.csv").write_text(value.to_csv())
        return {}

    def load(self, directory, encoding, wanted=None):
        return pd.read_csv(directory / "t.csv")

    def preview(self, value, summary):
        return type(self).shows(value)


Own = Annotated[pd.DataFrame, Artifact(materializer=ShownMaterializer)]


def frame() -> pd.DataFrame:
    return pd.DataFrame({"a": [1.5, 2]})


def several() -> Output(train=pd.DataFrame, score=float, test=Annotated[pd.DataFrame, Artifact(previews=False)]):
    return frame(), 0.5, frame() * 2


def own() -> Own:
    return frame()


@pytest.fixture
def previews(stack):
    return PreviewStore(stack.store.transport)


@pytest.fixture
def shows(monkeypatch):
    """Set the previews that the materializer of these tests makes."""
    return lambda shown: monkeypatch.setattr(ShownMaterializer, "shows", staticmethod(shown))


def test_a_preview_is_stored_beside_the_artifact_and_in_the_run(run, previews, recorder):
    """A preview is stored under the artifact's digest, and under the output's name in the lineage run."""
    ref = run(frame).outputs["output"]
    files = previews.get(ref.digest)
    assert list(files) == ["preview.html"]
    assert b"float64" in files["preview.html"]
    assert recorder.attached == {"previews/output/preview.html": files["preview.html"]}


def test_a_figure_is_a_step_like_any_other(run, recorder, tmp_path):
    """A step returns a matplotlib figure without any option; MLflow shows its picture, and the next step can read it."""

    def plot() -> Figure:
        figure = Figure(figsize=(4, 3))
        figure.subplots().plot([1, 3, 2])
        return figure

    def size(picture: Image.Image, content: bytes) -> list:
        return [picture.size, Image.open(io.BytesIO(content)).size]

    ref = run(plot).outputs["output"]
    assert recorder.attached["previews/output/preview.png"].startswith(b"\x89PNG")
    assert run(size, ref.to_wire(), ref.to_wire()).outputs["output"].shape == "2 items"


def test_members_of_a_container_are_shown(run, previews, recorder):
    """Each frame of a dict is shown under its key, and a page lists them."""

    def both() -> dict[str, pd.DataFrame]:
        return {"train": frame(), "test": frame() * 2}

    ref = run(both).outputs["output"]
    assert set(recorder.attached) == {f"previews/output/{name}.html" for name in ("preview", "train", "test")}
    assert set(previews.get(ref.digest)) == {"preview.html", "train.html", "test.html"}


@pytest.mark.parametrize("value", [{"a": 1}, [1.5, "x"], (np.arange(10),), {"when": [None]}], ids=repr)
def test_a_small_value_costs_no_request_for_previews(run, stack, monkeypatch, value):
    """No request is made for the preview of a value that is one object in the store."""
    transport, asked = stack.store.transport, []
    for verb in ("list", "write"):
        real = getattr(transport, verb)
        monkeypatch.setattr(transport, verb, lambda key, *rest, real=real: asked.append(key) or real(key, *rest))

    def small() -> object:
        return value

    run(small)
    assert run(small).is_hit
    assert asked
    assert [key for key in asked if key.startswith("previews")] == []


def test_previews_come_after_the_result(run, stack, monkeypatch):
    """The result is in the cache before its preview is made, so that other steps need not wait."""
    found = []
    monkeypatch.setattr(
        PandasMaterializer, "preview", lambda *_: found.extend(stack.store.transport.list("cache")) or {}
    )
    key = run(frame).cache_key
    assert f"cache/{key[:2]}/{key}.json" in found


def test_each_output_has_a_folder_of_its_own(run, recorder):
    """Each output has its own folder of previews, unless it has none or `previews=False`."""
    run(several)
    assert list(recorder.attached) == ["previews/train/preview.html"]


def test_a_deployment_makes_none_unless_an_output_asks(stack, previews, run):
    """With previews disabled for the deployment, only an output with `previews=True` has one."""

    def asks() -> Annotated[np.ndarray, Artifact(previews=True)]:
        return np.arange(2000)

    for function, made in ((frame, False), (asks, True)):
        begun = StepRun(StepRunId("d", "r", function.__name__), cache=CacheState.OFF)
        done = run_step(Step(function, "t"), Arguments.bind(function, (), {}), replace(stack, previews=False), begun)
        assert bool(previews.get(done.outputs["output"].digest)) is made


@pytest.mark.parametrize(
    ("said", "deployment", "made"),
    [(False, True, {"asks"}), (True, False, {"asks", "open"}), (None, True, {"asks", "open"}), (None, False, {"asks"})],
)
def test_a_step_decides_between_its_outputs_and_the_deployment(stack, recorder, said, deployment, made):
    """The option of an output takes precedence over the step's, and that over the deployment's."""
    open_, asks, never = (Annotated[pd.DataFrame, Artifact(previews=kept)] for kept in (None, True, False))

    def three() -> Output(open=open_, asks=asks, never=never):
        return frame(), frame() * 2, frame() * 3

    step = Step(three, "t", previews=said)
    begun = StepRun(StepRunId("d", "r", "t"), cache=CacheState.OFF)
    run_step(step, Arguments.bind(three, (), {}), replace(stack, previews=deployment), begun)
    assert {path.split("/")[1] for path in recorder.attached} == made


def test_equal_content_is_shown_once(run, previews, shows, recorder):
    """A stored preview is not made again, and is attached to every run with equal content."""
    run(own, cache=CacheState.OFF)
    shows(lambda value: 1 / 0)
    recorder.attached.clear()
    run(own, cache=CacheState.OFF)
    assert recorder.attached == {"previews/output/preview.md": b"# shown"}


def test_a_hit_shows_the_previews_of_the_run_it_reuses(run, previews, recorder, stack):
    """A reused result has the stored previews of its outputs in its own run, but for those that are not wanted."""
    run(several)
    made, recorder.attached = dict(recorder.attached), {}
    assert list(made) == ["previews/train/preview.html"]
    assert run(several).cache == "hit"
    assert recorder.attached == made
    hidden = Step(several, "several", previews=False)
    recorder.attached = {}
    assert run(several, step=hidden).cache == "hit"
    assert recorder.attached == {}


def test_previews_of_a_hit_that_mlflow_did_not_take_are_sent_later(run, stack, recorder, monkeypatch):
    """Previews of a hit that MLflow did not take are delivered later, with the record of the hit."""
    run(frame)
    monkeypatch.setattr(recorder, "attach_files", lambda *_: False)
    hit = run(frame)
    assert hit.cache == "hit"
    assert list(stack.records.undelivered()) == [hit]


def test_a_hit_makes_no_preview(run, stack, previews, shows, recorder):
    """A reused result is not loaded for a preview."""
    ref = run(own).outputs["output"]
    stack.store.transport.delete(list(stack.store.transport.list("previews")))
    assert run(own).cache == "hit"
    assert previews.get(ref.digest) == {}


def test_the_elements_of_a_list_are_shown(run, recorder):
    """The first 20 elements of a list have previews, in folders with portable names."""

    def parts() -> Annotated[list[pd.DataFrame], Each]:
        return [pd.DataFrame({"a": [n]}) for n in range(25)]

    run(parts)
    assert len(recorder.attached) == 20
    assert "previews/output-3/preview.html" in recorder.attached


@pytest.mark.parametrize("fails", [Exception("no"), BaseException("a panic"), TypeError("x")], ids=repr)
def test_a_failed_preview_does_not_fail_the_step(run, shows, recorder, caplog, fails):
    """The step succeeds whatever `preview` raises; the log names the missing preview."""

    def fail(value):
        raise fails

    shows(fail)
    done = run(own)
    assert done.state is StepState.FINISHED
    assert "Output 'output' of step 'own' has no preview" in caplog.text
    assert recorder.attached == {}


def test_previews_that_mlflow_did_not_take_are_sent_later(run, stack, recorder, monkeypatch):
    """Previews that MLflow did not take are delivered later, with the record of their step."""
    done = run(frame)
    assert list(stack.records.undelivered()) == []
    monkeypatch.setattr(recorder, "attach_files", lambda *_: False)
    done = run(frame, cache=CacheState.OFF)
    assert list(stack.records.undelivered()) == [done]


def test_a_store_that_refuses_previews_does_not_fail_the_step(run, stack, monkeypatch, caplog):
    """A step succeeds if the store is full when its previews are written."""
    write = stack.store.transport.write

    def full(key, content):
        if key.startswith("previews/"):
            raise OSError(28, "No space left on device")
        write(key, content)

    monkeypatch.setattr(stack.store.transport, "write", full)
    assert run(frame).state is StepState.FINISHED
    assert "No space left on device" in caplog.text


def test_a_preview_that_takes_too_long_is_left_out(run, shows, recorder, caplog, monkeypatch):
    """A step does not wait for its previews beyond some seconds."""
    monkeypatch.setattr(materialize, "PREVIEW_TIMEOUT", 0.05)
    ready = threading.Event()
    shows(lambda value: ready.wait(30) and {})
    try:
        assert run(own).state is StepState.FINISHED
        assert "took too long" in caplog.text
        assert recorder.attached == {}
    finally:
        ready.set()


def test_a_preview_that_is_too_large_is_left_out(run, shows, previews, caplog):
    """A file of more than 256 KB is left out."""
    shows(lambda value: {"preview.md": "x" * 300_000, "small.md": "y"})
    with caplog.at_level(logging.WARNING):
        ref = run(own).outputs["output"]
    assert list(previews.get(ref.digest)) == ["small.md"]
    assert "'preview.md' is left out" in caplog.text


def test_a_table_written_batch_by_batch_is_shown(run, previews):
    """The preview of an iterator shows the first rows of the stored table."""

    def batches() -> Iterator[pd.DataFrame]:
        yield from (pd.DataFrame({"a": [n], "b": ["x"]}) for n in range(3))

    ref = run(batches).outputs["output"]
    assert b"3 rows" in previews.get(ref.digest)["preview.html"]


def test_a_plan_is_not_computed_again(run, previews):
    """The preview of a polars LazyFrame shows the stored table; the plan is not computed again."""
    computed = []

    def plan() -> pl.LazyFrame:
        return pl.LazyFrame({"a": [1, 2]}).with_columns(pl.col("a").map_batches(lambda s: computed.append(1) or s))

    def hidden() -> Annotated[pl.LazyFrame, Artifact(previews=False)]:
        return plan()

    run(hidden)
    before = len(computed)
    ref = run(plan).outputs["output"]
    assert b"2 rows" in previews.get(ref.digest)["preview.html"]
    assert len(computed) == 2 * before


def test_a_name_that_is_a_path_is_refused(run, shows, stack, caplog):
    """A materializer's preview cannot be written outside its folder; with a name of the letters that the log names, it is."""
    shows(lambda value: {"../../runs/x": "y"})
    run(own)
    assert "cannot be named '../../runs/x'. Use letters, digits, '_', '-' and '.'." in caplog.text
    assert list(stack.store.transport.list("previews")) == []
    shows(lambda value: {"runs-x_1.md": "y"})
    run(own)
    assert [key.rpartition("/")[2] for key in stack.store.transport.list("previews")] == ["runs-x_1.md"]
