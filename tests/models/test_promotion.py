"""Promises of promotions: on a real MLflow, with the death of each part at each point."""

import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pytest
from msgspec.structs import replace

from airflow_zen.artifacts.leases import LeaseRecord
from airflow_zen.errors import LineageNotFound, ModelNameError, PromotionRefused
from airflow_zen.lineage.mlflow.errors import MlflowUnavailable
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.models.model import ModelSelector
from airflow_zen.models.promotion import Move, Promotion, Promotions
from airflow_zen.models.registered_models import RegisteredModels
from airflow_zen.transports import open_transport
from tests.advice import advice_of
from tests.airflow_command import call
from tests.servers.flaky import Failure, flaky

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
    (current,) = advice_of(
        lambda: promote("2", "1"),
        r"is version (\d) now, and version 2 was compared with version 1\. Evaluate and promote it again\.",
    )
    assert champion(client, name) == "3"
    assert states(promotions, name) == [("1", "", "moved")]
    assert promote("2", current)


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


def test_lost_race_for_the_next_number_is_refused(transport, promotions, promote, client, name):
    """Where another process, whose lock had expired, moved the alias just before, it stays; it moves after a new comparison."""
    promote("1")
    create = transport.create

    def create_after_another(key, content):
        if "aliases" in key:
            transport.create = create
            create(key, replace(Promotion.from_json(content, key), version="3").to_json())
            client.set_registered_model_alias(name, "champion", "3")
        create(key, content)

    transport.create = create_after_another
    advice_of(lambda: promote("2", "1"), r"moved .*champion at the same time\. Evaluate and promote again\.")
    assert champion(client, name) == "3"
    assert promote("2", "3")
    assert states(promotions, name) == [("1", "", "moved"), ("3", "1", "moved"), ("2", "3", "moved")]


@pytest.fixture
def call_advised(server, transport, monkeypatch):
    """Call the command of an error, with a number for VERSION, as on the command line."""
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", transport.root)
    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)

    def call_with(command, version):
        code, out, told = call(*command.replace("VERSION", version).split()[1:])
        assert code == 0, out + told

    return call_with


def test_command_that_sets_an_alias(promotions, call_advised, client, name):
    """The error for an alias that is not set, or has no earlier version, has the command that moves it."""
    command = r"`(airflow zen models promote .+? VERSION champion)`"
    (known,) = advice_of(
        lambda: promotions.registry.get(ModelSelector(name, "@champion")), f"Set it with {command}, or"
    )
    call_advised(known, "2")
    assert promotions.registry.get(ModelSelector(name, "@champion")).number == "2"
    (known,) = advice_of(lambda: promotions.roll_back(name, "champion", "ada"), rf"Name the version: {command}\.")
    call_advised(known, "1")
    assert champion(client, name) == "1"


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
from airflow_zen.models.registered_models import RegisteredModels
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
    advice_of(lambda: promote("3", "2"), r"Another promotion of model .* is running\. Try again\.")
    waited.append(1_000_000.0)
    assert promote("3", "2")


def test_slow_holder_does_not_move_the_alias(transport, promotions, promote, client, name):
    """A process that stood still for half the lock's time, when another may soon hold it, gives up; it is tried again."""
    promote("1")
    write, clock = transport.create, [0.0]
    promotions._clock = lambda: 1_000_000.0 + clock[0]

    def stand_still(key, content):
        write(key, content)
        clock[0] += 31 * ("aliases" in key)

    transport.create = stand_still
    advice_of(lambda: promote("2", "1"), r"too slow to move .*champion safely\. Try again\.")
    assert champion(client, name) == "1"
    assert states(promotions, name)[-1] == ("2", "1", "abandoned")
    transport.create = write
    promote("2", "1")
    assert champion(client, name) == "2"


@pytest.mark.parametrize("failure", Failure)
def test_mlflow_that_dies_at_any_request_leaves_no_half_moved_alias(failure, server, transport, promote, client, name):
    """Whichever request of a promotion MLflow dies at, before or after it, the next try ends it: one move is kept."""
    promote("1")
    with flaky(urlsplit(server.uri).port) as proxy:
        for number in range(20):
            current, goal = champion(client, name), "2" if number % 2 == 0 else "3"
            proxy.arm(number, failure)
            move = Move(model=name, alias="champion", version=goal, previous=current, origin=f"d/r/t/{number}")
            is_raised = False
            try:
                _of(proxy.uri, transport).promote(move)
            except MlflowUnavailable:
                is_raised = True
            assert champion(client, name) in (current, goal)
            count, is_through = proxy.requests, proxy.requests <= number
            proxy.heal()
            if is_raised:
                done, moved = _of(proxy.uri, transport, later=61.0).promote(move)
                assert moved
                assert done.version == goal
            assert champion(client, name) == goal
            moves = [
                each for each in _of(server.uri, transport).history(name, "champion") if each.origin == move.origin
            ]
            assert [each.state for each in moves if each.state != "abandoned"] == ["moved"]
            if is_through:
                break
    assert 3 <= count < 20


@pytest.mark.parametrize("is_done", [False, True])
def test_store_that_dies_at_any_request_leaves_no_half_moved_alias(is_done, server, transport, promote, client, name):
    """Whichever request of a promotion the store dies at, with or without doing it, the next try ends it."""
    promote("1")
    for number in range(30):
        current, goal = champion(client, name), "2" if number % 2 == 0 else "3"
        move = Move(model=name, alias="champion", version=goal, previous=current, origin=f"d/r/t/{number}")
        dying = _DyingTransport(transport, number, is_done)
        try:
            _of(server.uri, dying).promote(move)
        except ConnectionError:
            assert champion(client, name) in (current, goal)
            assert _of(server.uri, transport, later=61.0).promote(move)[1]
        assert champion(client, name) == goal
        moves = [each for each in _of(server.uri, transport).history(name, "champion") if each.origin == move.origin]
        assert sum(each.state in ("moved", "pending") for each in moves) == 1
        if dying.requests <= number:
            break
    assert 5 <= dying.requests < 30


class _DyingTransport:
    """A store that dies at one request, and stays dead."""

    def __init__(self, transport, fail_at, is_done):
        self._transport = transport
        self._fail_at = fail_at
        self._is_done = is_done
        self.requests = 0

    def __getattr__(self, name):
        method = getattr(self._transport, name)

        def request(*arguments):
            number, self.requests = self.requests, self.requests + 1
            if number > self._fail_at or (number == self._fail_at and not self._is_done):
                raise ConnectionError("gone")
            found = method(*arguments)
            # A listing asks for nothing before it is read.
            found = [*found] if name == "list" else found
            if number == self._fail_at:
                raise ConnectionError("gone")
            return found

        return request


def _of(uri, transport, later=0.0):
    """Return promotions as another process has them, some seconds later."""
    registry = RegisteredModels(MlflowRest(TrackingServer(uri)))
    return Promotions(registry, transport, lambda: time.time() + later, lambda seconds: None)


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
