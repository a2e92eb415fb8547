"""Promises of promotions: on a real MLflow, with the death of each part at each point."""

import os
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest

from airflow_zen.artifacts.leases import LeaseRecord
from airflow_zen.errors import LineageNotFound, ModelNameError, PromotionRefused
from airflow_zen.lineage.mlflow.errors import MlflowUnavailable
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.models.promotion import Move, Promotions
from airflow_zen.models.registry import RegisteredModels
from airflow_zen.transports import open_transport

pytestmark = pytest.mark.server


@pytest.fixture
def client(server):
    return mlflow.MlflowClient(server.uri)


@pytest.fixture
def name(client):
    """A registered model with three versions."""
    name = f"m_{uuid.uuid4().hex[:8]}"
    client.create_registered_model(name)
    for number in range(3):
        client.create_model_version(name, f"s3://bucket/{number}")
    return name


@pytest.fixture
def transport(tmp_path):
    return open_transport(str(tmp_path / "root"), {})


@pytest.fixture
def promotions(server, transport):
    return Promotions(RegisteredModels(MlflowRest(TrackingServer(server.uri))), transport)


@pytest.fixture
def promote(promotions, name):
    """Promote a version; return whether it was moved."""

    def move(version, previous="", **facts):
        return promotions.promote(Move(model=name, alias="champion", version=version, previous=previous, **facts))[1]

    return move


def champion(client, name):
    return client.get_registered_model(name).aliases.get("champion")


def states(promotions, name):
    return [(move.version, move.previous, move.state) for move in promotions.history(name, "champion")]


def test_keeps_who_when_why_and_what_was_before(promote, promotions, client, name):
    """Each move is kept in order, and the page of the version says who promoted it."""
    assert promote("1", by="ada", why="the first")
    assert promote("2", "1", by="cli", origin="dag/run/promote/-1", approved_by="eve", gates={"better(auc)": "0.01"})
    first, second = promotions.history(name, "champion")
    assert (first.number, first.by, first.why, first.previous) == (1, "ada", "the first", "")
    assert (second.number, second.previous, second.approved_by, second.gates) == (
        2,
        "1",
        "eve",
        {"better(auc)": "0.01"},
    )
    assert second.at >= first.at > 1_700_000_000
    tags = client.get_model_version(name, "1").tags
    assert "by ada, from no version: the first" in tags["zen.promoted.champion"]


def test_lost_race_is_refused(promote, promotions, client, name):
    """An alias that moved since the comparison, here by hand, stays where it is."""
    promote("1")
    client.set_registered_model_alias(name, "champion", "3")
    with pytest.raises(PromotionRefused, match="is version 3 now, and version 2 was compared with version 1"):
        promote("2", "1")
    assert champion(client, name) == "3"
    assert states(promotions, name) == [("1", "", "moved")]


def test_only_one_of_many_concurrent_promotions_wins(promotions, server, transport, client, name, promote):
    """Of promotions that compared with the same version one moves the alias, and the others are refused."""
    promote("1")

    def compete(version):
        mine = Promotions(RegisteredModels(MlflowRest(TrackingServer(server.uri))), transport)
        try:
            return mine.promote(Move(model=name, alias="champion", version=version, previous="1"))[1]
        except PromotionRefused:
            return "refused"

    with ThreadPoolExecutor(4) as pool:
        outcomes = [*pool.map(compete, ["2", "3", "2", "3"])]
    winner = champion(client, name)
    assert outcomes.count(True) == 1
    # The twin of the winner finds that nothing is left to do.
    assert sorted(map(str, outcomes)) == ["False", "True", "refused", "refused"]
    assert states(promotions, name) == [("1", "", "moved"), (winner, "1", "moved")]


def test_repeated_try_of_a_task_has_moved_it(promote, client, name):
    """The task instance that moved the alias is told so again; another that wants the same moved nothing."""
    assert promote("1", origin="dag/run/promote/-1")
    assert promote("1", "", origin="dag/run/promote/-1")
    assert not promote("1", "", origin="dag/other/promote/-1")
    client.set_registered_model_alias(name, "champion", "2")
    assert not promote("2", "1")


def test_rollback_returns_to_the_version_before(promote, promotions, client, name):
    """A rollback undoes the last promotion, a second one the promotion before; a move by hand is undone, too."""
    with pytest.raises(PromotionRefused, match="is known. Name the version"):
        promotions.roll_back(name, "champion", "ada")
    for version, previous in (("1", ""), ("2", "1"), ("3", "2")):
        promote(version, previous)
    assert promotions.roll_back(name, "champion", "ada").version == "2"
    assert promotions.roll_back(name, "champion", "ada").version == "1"
    assert champion(client, name) == "1"
    with pytest.raises(PromotionRefused, match="is known. Name the version"):
        promotions.roll_back(name, "champion", "ada")
    client.set_registered_model_alias(name, "champion", "3")
    assert promotions.roll_back(name, "champion", "ada").version == "1"


def test_refuses_what_does_not_exist(promote, promotions, name):
    """A version, a model or an alias that cannot be is refused before anything is written."""
    with pytest.raises(LineageNotFound, match="has no version '9'"):
        promote("9")
    with pytest.raises(LineageNotFound, match="no registered model"):
        promotions.promote(Move(model=f"{name}_", alias="champion", version="1"))
    with pytest.raises(ModelNameError, match="latest"):
        promotions.promote(Move(model=name, alias="latest", version="1"))
    assert promotions.history(name, "champion") == []


_KILLED = """
import os, signal, sys
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.models.promotion import Move, Promotions
from airflow_zen.models.registry import RegisteredModels
from airflow_zen.transports import open_transport
from airflow_zen.transports.local import LocalTransport

uri, root, model, point = sys.argv[1:]
registry, transport = RegisteredModels(MlflowRest(TrackingServer(uri))), open_transport(root, {})

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if point == "locked":
    registry.aliases = die
elif point == "recorded":
    registry.set_alias = die
else:
    move = registry.set_alias
    registry.set_alias = lambda *alias: (move(*alias), die())
Promotions(registry, transport).promote(Move(
    model=model, alias="champion", version="2", previous="1", origin="dag/run/promote/-1"))
"""


@pytest.mark.parametrize(("point", "moved"), [("locked", False), ("recorded", False), ("moved", True)])
def test_killed_task_leaves_no_half_moved_alias(
    point, moved, server, transport, promotions, promote, client, name, tmp_path
):
    """A killed process has moved the alias or has not, and the next try goes on: the move is kept once."""
    promote("1")
    command = [sys.executable, "-c", _KILLED, server.uri, str(tmp_path / "root"), name, point]
    killed = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert champion(client, name) == ("2" if moved else "1")

    _expire_lock(transport, name)
    assert promote("2", "1", origin="dag/run/promote/-1")
    assert champion(client, name) == "2"
    done = [state for state in states(promotions, name) if state[2] == "moved"]
    assert done == [("1", "", "moved"), ("2", "1", "moved")]


def test_lock_of_a_killed_process_is_waited_for(transport, promotions, promote, name):
    """A lock without a living holder is taken when its time is over, and not before."""
    promote("1")
    waited = []
    promotions._clock = lambda: 1_000_000.0 + sum(waited)
    promotions._sleep = waited.append
    _hold_lock(transport, name, until=1_000_000.0 + 30)
    assert promote("2", "1")
    assert 29 <= sum(waited) <= 32
    _hold_lock(transport, name, until=2_000_000.0)
    with pytest.raises(PromotionRefused, match="Another promotion of model"):
        promote("3", "2")


def test_slow_holder_does_not_move_the_alias(transport, promotions, promote, client, name):
    """A process that stood still for half the lock's time, when another may soon hold it, gives up."""
    promote("1")
    write, clock = transport.create, [0.0]
    promotions._clock = lambda: 1_000_000.0 + clock[0]

    def stand_still(key, content):
        write(key, content)
        clock[0] += 31 * ("aliases" in key)

    transport.create = stand_still
    with pytest.raises(PromotionRefused, match="too slow"):
        promote("2", "1")
    assert champion(client, name) == "1"
    assert states(promotions, name)[-1] == ("2", "1", "abandoned")


@pytest.mark.parametrize("answered", [True, False])
def test_lost_answer_of_mlflow_is_settled_by_the_next_try(answered, promotions, promote, client, name):
    """Where MLflow dies while the alias moves, the next try finds out whether it moved, and goes on."""
    promote("1")
    registry = promotions.registry
    move = registry.set_alias

    def lose_the_answer(*alias):
        if answered:
            move(*alias)
        raise MlflowUnavailable("gone")

    registry.set_alias = lose_the_answer
    with pytest.raises(MlflowUnavailable):
        promote("2", "1", origin="dag/run/promote/-1")
    assert states(promotions, name)[-1] == ("2", "1", "pending")
    registry.set_alias = move
    assert promote("2", "1", origin="dag/run/promote/-1")
    assert champion(client, name) == "2"
    assert [state for state in states(promotions, name) if state[2] == "moved"] == [
        ("1", "", "moved"),
        ("2", "1", "moved"),
    ]


def test_store_that_dies_after_the_move_fails_no_promotion(transport, promotions, promote, client, name):
    """Where the store dies between the move and its record, the promotion holds; the next one completes the record."""
    promote("1")
    write = transport.write

    def refuse(key, content):
        if "aliases" in key:
            raise ConnectionError("gone")
        write(key, content)

    transport.write = refuse
    assert promote("2", "1")
    assert champion(client, name) == "2"
    assert states(promotions, name)[-1] == ("2", "1", "pending")
    transport.write = write
    assert promote("3", "2")
    assert [state for _, _, state in states(promotions, name)] == ["moved", "moved", "moved"]


def test_store_that_is_away_moves_nothing(transport, promotions, promote, client, name):
    """Without the store no alias moves, because the move could not be kept."""
    promote("1")

    def refuse(key, content):
        raise ConnectionError("gone")

    transport.create = refuse
    with pytest.raises(ConnectionError):
        promote("2", "1")
    assert champion(client, name) == "1"


def _hold_lock(transport, name, until):
    import msgspec

    numbers = [int(Path(key).stem) for key in transport.list(f"models/{name}/lock")]
    record = LeaseRecord("another", until=until)
    transport.create(f"models/{name}/lock/{max(numbers, default=0) + 1:012}.json", msgspec.json.encode(record))


def _expire_lock(transport, name):
    """Let the time of the lock that a killed process holds be over."""
    import msgspec

    for key in transport.list(f"models/{name}/lock"):
        transport.write(key, msgspec.json.encode(LeaseRecord("another", until=0.0)))
