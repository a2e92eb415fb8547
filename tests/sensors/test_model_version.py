"""Promises of `ModelVersionSensor`, its trigger and the watcher of an asset: a real MLflow, moved by hand."""

import asyncio
import uuid
from contextlib import aclosing
from importlib import import_module

import mlflow
import pytest

from airflow_zen import Model, ModelVersionSensor
from airflow_zen.config.model_selectors import open_registry
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import ModelNameError
from airflow_zen.models.promotion import Move, Promotions
from airflow_zen.sensors.model_version import ModelVersionTrigger
from tests.harness import run_dag
from tests.operators.pipelines import pipeline
from tests.runtimes.triggers import resumption

pytestmark = pytest.mark.server


@pytest.fixture
def client(server, tmp_path, monkeypatch):
    """MLflow's own client, as somebody who promotes by hand; the stack has the same server."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    return mlflow.MlflowClient(server.uri)


@pytest.fixture
def name(client):
    """A registered model with three versions."""
    name = f"m_{uuid.uuid4().hex[:8]}"
    client.create_registered_model(name)
    for number in range(3):
        client.create_model_version(name, f"s3://bucket/{number}")
    return name


def waiting(**options):
    return pipeline(lambda: ModelVersionSensor(task_id="wait", **options), dag_id="waits")


async def first_event(trigger, meanwhile=None, seconds=10.0):
    """Return the payload of the first event of a trigger; `meanwhile` is called after it has looked once."""
    async with aclosing(trigger.run()) as events:
        waiting = asyncio.ensure_future(anext(events))
        if meanwhile:
            await asyncio.sleep(1.0)
            meanwhile()
        return (await asyncio.wait_for(waiting, seconds)).payload


def test_returns_exactly_the_version_that_it_found(client, name):
    """The selector names the version, so that a later move changes nothing for the steps after the sensor."""
    client.set_registered_model_alias(name, "champion", "2")
    run = run_dag(waiting(model=f"{name}@champion"))
    assert run.xcom("wait") == Model(name).version(2)
    assert run_dag(waiting(model=Model(name).latest())).xcom("wait") == Model(name).version(3)


def test_deferred_sensor_sees_a_promotion_by_hand(client, name):
    """A sensor that waits for another version than the present one defers, and goes on when someone moves the alias."""
    client.set_registered_model_alias(name, "champion", "1")
    dag = waiting(model=Model(f"{name}@champion"), after=1, deferrable=True, poke_interval=0.1)
    deferred = run_dag(dag).task("wait").deferral
    path, _, class_name = deferred.classpath.rpartition(".")
    trigger = getattr(import_module(path), class_name)(**deferred.trigger_kwargs)
    payload = asyncio.run(first_event(trigger, lambda: client.set_registered_model_alias(name, "champion", "3")))
    resumed = resumption(deferred.next_method, payload)
    assert run_dag(dag, resumed=resumed).xcom("wait") == Model(name).version(3)


def test_missing_configuration_ends_the_wait(name, monkeypatch):
    """A trigger without MLflow fails its sensor at once, and names the option."""
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", "")
    payload = asyncio.run(first_event(ModelVersionTrigger(f"{name}@champion")))
    assert "mlflow_tracking_uri" in payload["error"]
    resumed = resumption("execute_complete", payload)
    assert "mlflow_tracking_uri" in str(run_dag(waiting(model=f"{name}@champion"), resumed=resumed).task("wait").error)


def test_watcher_emits_one_event_for_each_move(client, name):
    """A move by hand is an event, also one while no triggerer ran; a move by a task, which has an event already, is none."""
    promoted, by_hand = Model(f"{name}@champion").watched(poll_interval=0.1).objects
    assert promoted == Model(f"{name}@champion").asset
    (watcher,) = by_hand.watchers
    client.set_registered_model_alias(name, "champion", "1")
    moved = asyncio.run(first_event(watcher.trigger, lambda: client.set_registered_model_alias(name, "champion", "2")))
    assert moved == {"model": name, "alias": "champion", "version": "2", "digest": ""}

    # The first trigger ended after its event, before it could remember that.
    assert asyncio.run(first_event(watcher.trigger))["version"] == "2"
    stack = open_stack(lineage=False)
    promotions = Promotions(open_registry(Settings.read()), stack.store.transport)

    async def watch_both():
        async with aclosing(watcher.trigger.run()) as events:
            assert (await anext(events)).payload["version"] == "2"
            following = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0.5)
            move = Move(model=name, alias="champion", version="3", previous="2", origin="dag/run/promote/-1")
            await asyncio.to_thread(promotions.promote, move)
            await asyncio.sleep(1.0)
            assert not following.done()
            client.set_registered_model_alias(name, "champion", "1")
            return (await asyncio.wait_for(following, 10)).payload

    assert asyncio.run(watch_both())["version"] == "1"


@pytest.mark.parametrize("model", ["churn", "churn@latest", 7])
def test_what_selects_no_version_is_refused(model):
    """A sensor of no version fails where it is written."""
    with pytest.raises(ModelNameError):
        waiting(model=model)
