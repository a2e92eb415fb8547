"""BentoML, KServe and MLServer, each in an environment of its own: equal predictions, errors in words, loopback only."""

from __future__ import annotations

import json
import re
import shutil

import psutil
import pytest

from airflow_zen.deployment import BentoML, KServe, Seldon, parse_target
from airflow_zen.deployment.bentoml import bento_tag
from airflow_zen.deployment.protocols import Rows, compare_predictions, encode_v1
from airflow_zen.errors import StepDefinitionError
from airflow_zen.lineage.mlflow.models import ANY_OUTPUT
from tests.deployment.servers import flights, post, save_model, served

TARGETS = [BentoML(workers=2, timeout=50), KServe(), Seldon()]
ONE_COLUMN = Rows(("dep_delay",), ("FP64",), [[1.5]])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "model")


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
def test_predictions_equal_those_in_process(target, model, tmp_path):
    """A server answers 1,000 rows as the model does, whole numbers among them, and names what a bad request lacks."""
    directory, expected = model
    if target.kind == "seldon":
        directory = _with_outputs_of_the_registry(directory, tmp_path / "model")
    with served(target, directory, tmp_path) as place:
        url = f"{place.url}{target.predict_path(place.name)}"
        status, answer = post(url, target.encode_rows(Rows.from_value(flights())))
        assert status == 200
        assert compare_predictions(expected, answer) == ""
        status, answer = post(url, target.encode_rows(ONE_COLUMN))
        assert (status, "distance" in str(answer)) == (500 if target.kind == "seldon" else 400, True)
        assert post(url, {"nothing": 1})[0] in (400, 422)
        assert {address for port in place.ports for address in _addresses(port)} <= {"127.0.0.1", "::ffff:127.0.0.1"}
        if target.kind == "kserve":
            _speaks_v1(place, expected)
        elif target.kind == "bentoml":
            _describes_its_rows(tmp_path / "server/bentoml/bentos" / "/".join(bento_tag(place.name, place.digest)))


def _with_outputs_of_the_registry(directory, copy):
    """Copy a model with the outputs that a step's registered model has in its signature."""
    mlmodel = shutil.copytree(directory, copy) / "MLmodel"
    mlmodel.write_text(re.sub(r"(?m)^  outputs: .*$", f"  outputs: '{ANY_OUTPUT}'", mlmodel.read_text()))
    return copy


def _speaks_v1(place, expected):
    status, answer = post(f"{place.url}/v1/models/{place.name}:predict", encode_v1(Rows.from_value(flights())))
    assert (status, compare_predictions(expected, answer)) == (200, "")


def _describes_its_rows(bento):
    """Whether the API has the types of the signature, and the Bento the versions of its environment."""
    (route,) = json.loads((bento / "apis/schema.json").read_text())["routes"]
    columns = route["input"]["properties"]["rows"]["items"]["properties"]
    assert {name: column["type"] for name, column in columns.items()} == {
        "dep_delay": "number",
        "distance": "number",
        "hour": "integer",
    }
    assert route["output"]["items"] == {"type": "integer"}
    pins = (bento / "env/python/requirements.txt").read_text().splitlines()
    assert any(pin.startswith("scikit-learn==") for pin in pins)
    assert any(pin.startswith("bentoml==") for pin in pins)


def _addresses(port):
    return {
        each.laddr.ip for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr.port == port
    }


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
def test_a_target_is_read_from_its_text(target):
    """What the deployment service is sent is the text of a target, and means the same target there."""
    assert parse_target(repr(target)) == target


@pytest.mark.parametrize("options", [{"workers": 0}, {"timeout": "1"}, {"workers": True}])
def test_a_bento_has_workers(options):
    """Options of BentoML are checked where they are written."""
    with pytest.raises(StepDefinitionError, match="is a positive number"):
        BentoML(**options)


@pytest.mark.parametrize(
    ("name", "expected"), [("flight_delay", "flight_delay"), ("Flight Delay (v2)", "flight_delay_v2"), ("–", "model")]
)
def test_the_tag_of_a_bento(name, expected):
    """A Bento has the model's name as BentoML allows it, and the start of its digest as version: one for each content."""
    assert bento_tag(name, "0123456789abcdef0123") == (expected, "0123456789abcdef")
