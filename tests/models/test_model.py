"""Promises of `Model` and its selectors."""

import copy
import pickle

import pytest

from airflow_zen import Model
from airflow_zen.errors import ArtifactRefused, ModelNameError
from airflow_zen.models.model import ModelSelector, as_model, as_selector


@pytest.mark.parametrize(
    ("selected", "text"),
    [
        (Model("delay@champion"), "delay@champion"),
        (Model("delay").champion(), "delay@champion"),
        (Model("delay").challenger(), "delay@challenger"),
        (Model("delay").alias("eu-west"), "delay@eu-west"),
        (Model("delay").version(7), "delay/7"),
        (Model("delay/7"), "delay/7"),
        (Model("delay").latest(), "delay/latest"),
        (Model("two words@champion"), "two words@champion"),
    ],
)
def test_selects_one_version_of_a_model(selected, text):
    """An alias, a number and the newest version are selected, and the wire form says the same."""
    selector = as_selector(selected)
    assert str(selector) == text
    assert as_selector(selector.to_wire()) == selector == ModelSelector.parse(text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Model(""),
        lambda: Model("a:b"),
        lambda: Model("@champion"),
        lambda: Model("delay@latest"),
        lambda: Model("delay@v7"),
        lambda: Model("delay@7"),
        lambda: Model("delay@a b"),
        lambda: Model("delay/seven"),
        lambda: Model("delay").version("seven"),
        lambda: Model("delay@champion").latest(),
        lambda: as_selector(Model("delay")),
        lambda: Model("delay").asset,
    ],
)
def test_refuses_what_names_no_model_or_version(make):
    """A name, a number or an alias that MLflow would refuse or read otherwise is an error where it is written."""
    with pytest.raises(ModelNameError, match="Write|alias|number|selects a version"):
        make()


def test_refuses_a_selector_of_a_newer_format():
    """A wire form that this version cannot read is refused."""
    with pytest.raises(ArtifactRefused, match="does not select"):
        as_selector({"__airflow_zen_model__": 2, "name": "delay", "version": "7"})


def test_model_is_equal_in_every_process():
    """A model with options can be copied, pickled and hashed, and shows the options that are set."""
    model = Model("delay", tags={"team": 7}, signature=False)
    assert copy.deepcopy(model) == pickle.loads(pickle.dumps(model)) == model
    assert hash(model) == hash(Model("delay"))
    assert repr(model) == "Model('delay', tags={'team': '7'}, signature=False)"
    assert as_model("delay").name == "delay"
    assert as_model("") is None
