"""Promises of `airflow_zen.lineage.mlflow.tags` and `encoding`: names, tags and values within MLflow's limits."""

import pytest
from msgspec.structs import replace

from airflow_zen.errors import LineageError
from airflow_zen.lineage.mlflow.encoding import (
    flatten_parameters,
    key_values,
    metric_entries,
    pack_tag,
    shorten,
    shorten_name,
    split_batches,
)
from airflow_zen.lineage.mlflow.tags import (
    artifact_tags,
    experiment_location,
    experiment_name,
    quote_filter_value,
    run_name,
    step_tags,
)
from airflow_zen.runs.step_run import CacheState, StepRun, StepRunId

RUN = StepRun(StepRunId("d", "r", "train"))


@pytest.mark.parametrize(
    ("identity", "facts", "name"),
    [
        ({}, {}, "train"),
        ({"map_index": 3}, {}, "train [3]"),
        ({"map_index": 3}, {"label": "depth=8"}, "train [3] depth=8"),
        ({}, {"cache": CacheState.HIT}, "train (cached)"),
        ({"try_number": 2}, {"cache": CacheState.MISS}, "train try 2"),
    ],
)
def test_run_names(identity, facts, name):
    """A run is named by its task, map index, label, try and whether it was reused."""
    assert run_name(replace(RUN, id=replace(RUN.id, **identity), **facts)) == name


def test_tags_identify_the_try():
    """The key identifies one try of one task instance; empty tags are not sent."""
    tags = step_tags(replace(RUN, code_version="a" * 40), "p")
    assert (tags["zen.key"], tags["mlflow.parentRunId"]) == ("d/r/train/-1/1", "p")
    assert tags["mlflow.source.git.commit"] == "a" * 40
    assert "zen.map_index" not in tags
    assert all(tags.values())


def test_only_a_commit_is_the_source_version():
    """A bundle version that is not a git commit has only its own tag."""
    tags = step_tags(replace(RUN, code_version="v7"), "p")
    assert (tags["zen.code_version"], "mlflow.source.git.commit" in tags) == ("v7", False)


def test_packed_artifacts(ref):
    """Each artifact is between two bars, so that a filter finds exactly its digest."""
    frame = ref("d/load|x")
    assert artifact_tags(replace(RUN, inputs={"f": frame}))["zen.inputs"] == f"|d/load/x@{frame.digest[:16]}|"


def test_too_many_artifacts_are_cut_visibly():
    """Items that do not fit are left out as a whole, and the tag ends in `…`."""
    text, whole = pack_tag(f"name{n}@{n:016}" for n in range(1000))
    assert len(text) <= 8000
    assert not whole
    assert text.endswith("|…|")
    assert pack_tag([]) == ("", True)


def test_shortened_names_stay_different():
    """Two long names with the same beginning stay different."""
    assert shorten_name("x" * 300 + "a", 250) != shorten_name("x" * 300 + "b", 250)
    assert len(shorten_name("x" * 300, 250)) == len(shorten("x" * 300, 250)) == 250
    assert shorten("a\0b", 9) == "a\ufffdb"


def test_experiment_names():
    """An experiment is named by its DAG, within MLflow's 256 characters."""
    assert experiment_name("d") == "airflow/d"
    assert len(experiment_name("x" * 250)) == 256


def test_experiment_locations():
    """An experiment's location is under the root, needs no quoting, and fits into MLflow's database."""
    assert experiment_location("s3://b/zen", "my.dag-1") == "s3://b/zen/mlflow/my.dag-1"
    assert experiment_location("/root", "prévision").isascii()
    assert experiment_location("/root", "é") != experiment_location("/root", "è")
    assert len(experiment_location("s3://b/zen", "x" * 250)) == 157
    assert experiment_location("/" + "r" * 200, "d").startswith("/" + "r" * 200 + "/mlflow/")


def test_values_in_filters():
    """A value is quoted for MLflow's filters, or refused where they cannot express it."""
    assert (quote_filter_value("a"), quote_filter_value("a'b")) == ("'a'", '"a\'b"')
    with pytest.raises(LineageError, match="both kinds of quotes"):
        quote_filter_value("""'\"""")


def test_parameters_are_flat_text():
    """Nested dicts become dotted names, lists become JSON, and forbidden characters of a key are replaced."""
    texts = flatten_parameters(
        {"a": {"b": 1, "c": {}}, "l": [1, {"x": None}], "n": None, "t": True, "bad/key": 1, "bad?key": 2}
    )
    assert texts == {
        "a.b": "1",
        "a.c": "{}",
        "l": '[1, {"x": null}]',
        "n": "None",
        "t": "True",
        "bad_key": "1",
        "bad_key_2": "2",
    }
    assert flatten_parameters({}) == {}


def test_batches_fit_into_one_request():
    """A batch has at most 100 entries, or fewer long ones, and no entry is lost."""
    many = key_values({f"k{n}": "v" for n in range(250)})
    assert [len(batch) for batch in split_batches(many)] == [100, 100, 50]
    long = key_values({f"k{n}": "v" * 6000 for n in range(100)})
    assert [e for batch in split_batches(long) for e in batch] == long
    assert len(list(split_batches(long))) == 2
    assert list(split_batches([])) == []


@pytest.mark.parametrize(
    ("value", "written"), [(1.5, 1.5), (float("nan"), "NaN"), (float("inf"), "Infinity"), (float("-inf"), "-Infinity")]
)
def test_metrics_that_json_cannot_express(value, written):
    """NaN and the infinities are sent as MLflow's texts for them."""
    assert metric_entries({"m": value}, 1)[0]["value"] == written
