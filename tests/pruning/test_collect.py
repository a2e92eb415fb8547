"""Promises of pruning."""

import threading
import time
import uuid
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from airflow_zen.artifacts.folder import MANIFEST_FILE_NAME, ArtifactFolder
from airflow_zen.artifacts.leases import LeaseStore, try_lock
from airflow_zen.errors import ArtifactNotFound, SettingsError
from airflow_zen.pruning import collect
from airflow_zen.pruning.collect import prune_stack
from airflow_zen.pruning.retention import DAY, Retention, parse_duration
from tests.advice import advice_of
from tests.pruning.conftest import stack_at
from tests.servers.flaky import flaky


def number(x: int) -> int:
    return x


def double(x: int) -> int:
    return 2 * x


def save_unreferenced(stack):
    """Store an artifact that nothing refers to."""
    return stack.save(uuid.uuid4().hex).ref


@pytest.fixture
def without_delay(monkeypatch):
    """Let a prune delete at once: no step runs beside it."""
    monkeypatch.setattr("airflow_zen.artifacts.folder._DELETION_DELAY", 0.0)


@pytest.fixture(params=["local", "ceph"])
def local_or_s3_stack(request, tmp_path, without_delay):
    """A stack on each kind of root."""
    if request.param == "local":
        return stack_at(str(tmp_path / "root"))
    server = request.getfixturevalue("ceph")
    return stack_at(f"s3://{server.bucket}/{uuid.uuid4().hex}", server.storage_options())


def test_unreferenced_first_deleted_later(local_or_s3_stack, prune_after):
    """An artifact without referrers is found unreferenced, stays readable, and is deleted after the grace."""
    ref = save_unreferenced(local_or_s3_stack)
    large = local_or_s3_stack.save(b"x" * 2_000_000).ref
    first = prune_after(local_or_s3_stack, 2)
    assert (first.unreferenced.artifacts, first.deleted.artifacts) == (2, 0)
    assert local_or_s3_stack.store.manifest(ref)
    assert prune_after(local_or_s3_stack, 2.5).deleted.artifacts == 0
    last = prune_after(local_or_s3_stack, 3.1)
    assert (last.unreferenced.artifacts, last.deleted.artifacts) == (0, 2)
    assert last.deleted.size > large.size
    assert not list(local_or_s3_stack.store.transport.list("artifacts"))


def test_a_referrer_keeps(stack, run, prune_after, prune_twice):
    """An unreferenced artifact that a step makes again before the grace is over stays."""
    stack.save(42)
    prune_after(stack, 2)
    ref = run(stack, number, 42).outputs["output"]
    report = prune_twice(stack, 3)
    assert (report.deleted.artifacts, report.kept.artifacts) == (0, 1)
    assert stack.store.manifest(ref)


def test_no_grace_deletes_at_once(stack, prune_after):
    """Without grace one prune deletes."""
    save_unreferenced(stack)
    assert prune_after(stack, 0, grace=0).deleted.artifacts == 1
    assert not list(stack.store.transport.list("artifacts"))


def test_young_artifacts_stay(stack, prune_twice):
    """An artifact written within the grace is not noted as unreferenced: a running step may be about to refer to it."""
    save_unreferenced(stack)
    report = prune_twice(stack, 0, grace=7 * DAY)
    assert (report.kept.artifacts, report.unreferenced.artifacts) == (1, 0)


def test_without_an_age_only_unreferenced_artifacts_are_deleted(stack, run, prune_twice):
    """Without an age only artifacts without referrers are deleted."""
    run(stack, number, 1)
    lost = save_unreferenced(stack)
    report = prune_twice(stack, 400)
    assert (report.deleted.artifacts, report.kept.artifacts, report.cache_entries) == (1, 1, 0)
    with pytest.raises(ArtifactNotFound):
        stack.store.manifest(lost)


def test_recent_runs_keep_inputs_and_outputs(stack, run, prune_twice):
    """A DAG run younger than the age keeps its inputs too; an older one keeps nothing."""
    old = run(stack, number, 1, dag_run="old").outputs["output"]
    report = prune_twice(stack, 20, older_than=30 * DAY)
    assert report.kept.artifacts == 1
    made = run(stack, double, old, dag_run="new").outputs["output"]
    assert prune_twice(stack, 20, older_than=30 * DAY).kept.artifacts == 2
    report = prune_twice(stack, 40, older_than=30 * DAY, keep_last=0)
    assert (report.deleted.artifacts, report.kept.artifacts) == (2, 0)
    assert [stack.store.missing([ref]) for ref in (old, made)] == [[old], [made]]


def test_unfinished_runs_are_recent(stack, run, prune_after):
    """An unfinished DAG run keeps what its steps made, however long ago."""
    run(stack, number, 1, dag_run="waits for its approval")
    for days in (40, 42):
        report = prune_after(
            stack, days, older_than=30 * DAY, keep_last=0, unfinished=[("d", "waits for its approval")]
        )
    assert (report.deleted.artifacts, report.kept.artifacts) == (0, 1)


def test_an_expired_cache_entry_is_a_miss(stack, run, prune_twice):
    """A step whose cache entry expired computes again, and returns the same content."""
    first = run(stack, number, 7)
    assert run(stack, number, 7).cache == "hit"
    assert prune_twice(stack, 40, older_than=30 * DAY).cache_entries == 0
    again = run(stack, number, 7)
    assert (again.cache, again.outputs["output"].digest) == ("miss", first.outputs["output"].digest)
    assert run(stack, number, 7).cache == "hit"


def test_an_entry_in_use_lives(stack, run, monkeypatch, prune_twice):
    """A cache entry of any age stays while recent runs reuse it."""
    run(stack, number, 7, dag_run="first")
    old = time.time() - 100 * DAY
    for key in (*stack.store.transport.list("cache"), *stack.store.transport.list("runs/d/first")):
        _set_modified(stack, key, old)
    assert run(stack, number, 7, dag_run="second").cache == "hit"
    report = prune_twice(stack, 2, older_than=30 * DAY)
    assert (report.cache_entries, report.kept.artifacts) == (0, 1)
    assert run(stack, number, 7, dag_run="third").cache == "hit"


def _set_modified(stack, key, modified):
    import os

    os.utime(stack.store.transport.local_path(key), (modified, modified))


def test_renewed_leases_stay(stack, run, prune_after):
    """A lease stays while its holder renews it; one whose holder died is deleted after the grace."""
    lease_store = LeaseStore(stack.store.transport, heartbeat=0.05)
    keys = {name: f"cache/{name * 2}/{name * 64}.json" for name in "ab"}
    _, lives = lease_store.acquire_or_wait(keys["a"], lambda: None)
    lease_store.acquire_or_wait(keys["b"], lambda: None)
    leases = {key.split("/")[2][0]: key for key in stack.store.transport.list("cache")}
    with lives:
        for key in leases.values():
            _set_modified(stack, key, time.time() - 10 * DAY)
        last = time.monotonic() + 120
        while stack.store.transport.local_path(leases["a"]).stat().st_mtime < time.time() - DAY:
            assert time.monotonic() < last
            time.sleep(0.02)
        prune_after(stack, 0)
        assert [*stack.store.transport.list("cache")] == [leases["a"]]


def test_a_dry_run_changes_nothing(stack, run, prune_after):
    """A dry run reports what would be deleted, and changes no object."""
    run(stack, number, 1)
    save_unreferenced(stack)
    before = [*stack.store.transport.list_objects("")]
    report = prune_after(stack, 40, dry_run=True, older_than=30 * DAY, keep_last=0)
    assert (report.unreferenced.artifacts, report.cache_entries, report.dry_run) == (2, 1, True)
    after = [each for each in stack.store.transport.list_objects("") if not each.key.startswith("prune/")]
    assert after == before


@pytest.mark.parametrize("deletions", range(6))
def test_stopped_and_run_again(stack, run, prune_after, monkeypatch, deletions):
    """A prune that is stopped anywhere leaves only whole artifacts, and the next one finishes its work."""
    held = run(stack, number, 1).outputs["output"]
    for content in range(3):
        stack.save(str(content).encode() * 2_000_000)
    prune_after(stack, 2)
    transport = stack.store.transport
    with monkeypatch.context() as patch:
        _stop_after(patch, transport, deletions)
        with pytest.raises(KeyboardInterrupt):
            prune_after(stack, 4)
    for manifest in [key for key in transport.list("artifacts") if key.endswith(MANIFEST_FILE_NAME)]:
        digest = manifest.split("/")[2]
        assert len(ArtifactFolder.read(transport, digest).objects) == (1 if digest == held.digest else 2)
    prune_after(stack, 4)
    assert {key.split("/")[2] for key in transport.list("artifacts")} == {held.digest}


def _stop_after(monkeypatch, transport, deletions):
    """Interrupt after some deletions."""
    delete = type(transport).delete
    left = [deletions]

    def interrupted(self, keys):
        for key in keys:
            if key.startswith("artifacts"):
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
            delete(self, [key])

    monkeypatch.setattr(type(transport), "delete", interrupted)


def test_unfinished_uploads_are_swept(local_or_s3_stack, prune_after):
    """Files of an upload without a manifest are deleted when they are older than the grace."""
    local_or_s3_stack.store.transport.write("artifacts/ab/" + "ab" * 32 + "/data.parquet", b"half")
    assert prune_after(local_or_s3_stack, 0).leftovers.artifacts == 0
    assert prune_after(local_or_s3_stack, 2).leftovers.artifacts == 1
    assert not list(local_or_s3_stack.store.transport.list("artifacts"))


@pytest.mark.usefixtures("without_delay")
def test_deletes_in_batches(ceph):
    """On S3 a hundred artifacts are marked with one request each, and deleted with few, including listing and lock."""
    root = f"s3://{ceph.bucket}/{uuid.uuid4().hex}"
    direct = stack_at(root, ceph.storage_options())
    for number in range(100):
        direct.store.transport.write(f"artifacts/{number:02x}/{f'{number:02x}' * 32}/data.parquet", b"half")
    with flaky(urlsplit(ceph.endpoint).port) as proxy:
        options = ceph.storage_options()
        options["client_kwargs"]["endpoint_url"] = proxy.uri
        report = prune_stack(stack_at(root, options), Retention(grace=0))
    assert report.leftovers.artifacts == 100
    assert 100 < proxy.requests < 130
    assert not list(direct.store.transport.list("artifacts"))


def test_one_at_a_time(stack):
    """A second concurrent prune is refused, until the first has ended, or was killed 15 minutes ago."""
    with try_lock(stack.store.transport, "prune/turn.json", stack.clock):
        (minutes,) = advice_of(
            lambda: prune_stack(stack, Retention()),
            r"Run this again when it has ended; one that was killed keeps its lock for (\d+) minutes\.",
        )
        late = stack.clock() + int(minutes) * 60
        prune_stack(replace(stack, clock=lambda: late), Retention())
    prune_stack(stack, Retention())


def test_a_prune_that_stood_still(stack, monkeypatch):
    """A prune whose lock has expired stops; the next one deletes the rest."""
    for value in ("a", "b"):
        stack.save(value)
    now, delete = [time.time() + DAY], stack.store.transport.delete
    monkeypatch.setattr(collect, "_ARTIFACTS_PER_BATCH", 1)
    monkeypatch.setattr(stack.store.transport, "delete", lambda keys: (delete(keys), now.append(now[-1] + 1000.0)))
    slow = replace(stack, clock=lambda: now[-1])
    advice_of(lambda: prune_stack(slow, Retention(grace=0)), r"its lock expires\. Run it again: it continues\.")
    assert list(stack.store.transport.list("artifacts"))
    monkeypatch.undo()
    prune_stack(slow, Retention(grace=0))
    assert not list(stack.store.transport.list("artifacts"))


def test_the_grace_begins_when_nothing_leads_to_an_artifact(stack, run, monkeypatch):
    """A prune that deletes a cache entry late gives a step that still found it the whole grace."""
    ref, now = run(stack, number, 1).outputs["output"], [time.time() + 40 * DAY]
    delete, retention = stack.store.transport.delete, Retention(older_than=DAY, keep_last=0, grace=100.0)

    def delete_late(keys):
        todo = [*keys]
        now[0] += 80.0 * any(key.startswith("cache/") for key in todo)
        delete(todo)

    monkeypatch.setattr(stack.store.transport, "delete", delete_late)
    deleted = []
    for _ in range(3):
        deleted.append(prune_stack(replace(stack, clock=lambda: now[0]), retention).deleted.artifacts)
        now[0] += 40.0
    assert deleted == [0, 0, 0]
    assert not stack.store.missing([ref])
    now[0] += 40.0
    assert prune_stack(replace(stack, clock=lambda: now[0]), retention).deleted.artifacts == 1


def test_beside_running_steps(stack, run):
    """While steps compute, reuse and store the same content again, prunes delete no result of theirs."""
    retention, over, failures, seen = Retention(older_than=2, grace=1), threading.Event(), [], []

    def work(offset):
        for count in range(10_000):
            if over.is_set():
                return
            begun = time.time()
            done = run(stack, number, (offset + count) % 40, dag=f"d{offset}", dag_run=f"r{count}")
            gone = stack.store.missing(done.outputs.values())
            # What a step takes longer for than the grace, on a machine that stands still, nobody has promised.
            if time.time() - begun < retention.grace:
                seen.append(done)
                failures.extend(gone)

    workers = [threading.Thread(target=work, args=(offset,)) for offset in (0, 20)]
    for worker in workers:
        worker.start()
    begun, deleted = time.monotonic(), 0
    while time.monotonic() - begun < 8 or (not (deleted and seen) and time.monotonic() - begun < 120):
        save_unreferenced(stack)
        deleted += prune_stack(stack, retention).deleted.artifacts
    over.set()
    for worker in workers:
        worker.join()
    assert not failures
    assert deleted
    assert seen


def test_strays_stay(stack, run, prune_twice):
    """Files that are none of the store's, and records that cannot be read, stop no prune; it names them, and they stay."""
    held = run(stack, number, 1).outputs["output"]
    lost = save_unreferenced(stack)
    strays = [
        "artifacts/.DS_Store",
        "artifacts/ab/x",
        "cache/x",
        "cache/ab/x.json",
        "names/x",
        "names/d/versions/x.json",
    ]
    strays += ["runs/d/r/steps/number/0.9.json", "prune/turn/.DS_Store"]
    for key in (*strays, "runs/x", "tags/x", "previews/x", "undelivered/x"):
        stack.store.transport.write(key, b"")
    report = prune_twice(stack, 2)
    assert stack.store.missing([held, lost]) == [lost]
    assert set(report.strays) == set(strays[:-1])
    assert "7 files left that cannot be read: " in str(report)
    assert all(map(stack.store.transport.exists, strays))


def test_reports_usage_by_referrer(stack, run, prune_after):
    """The report has for each referrer what it keeps, and what only it keeps."""
    run(stack, number, 1, dag="a")
    run(stack, number, 1, dag="b")
    run(stack, double, 21, dag="b")
    for each in [*stack.store.transport.list("names")]:
        stack.store.transport.delete([each])
    stack.names.add("golden", stack.save("only here").ref, time.time())
    held = {(each.referrer.kind, each.referrer.name): each for each in prune_after(stack, 2).usage_by_referrer}
    assert held["run", "a"].total.artifacts == 1
    assert held["run", "b"].total.artifacts == 2
    assert [held["run", dag].exclusive.artifacts for dag in "ab"] == [0, 1]
    assert held["version", "golden"].exclusive.artifacts == 1


def test_durations():
    """A duration is a number with a unit; other text is an error that shows the form."""
    assert [parse_duration(text) for text in ("90d", "36h", "1.5w", "45 m", "10s")] == [
        90 * DAY, 1.5 * DAY, 10.5 * DAY, 2700, 10,
    ]  # fmt: skip
    for text in ("", "90", "d", "-1d", "1y"):
        with pytest.raises(SettingsError, match="no duration"):
            parse_duration(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep_last": 0},
        {"keep_last": -1, "older_than": 1e9},
        {"older_than": 60.0},
        {"grace": -1.0},
        {"expire_mlflow_runs": True},
    ],
)
def test_invalid_retention_is_refused(wrong):
    """A retention that would delete the newest version, or artifacts in use, is refused."""
    with pytest.raises(SettingsError):
        Retention(**wrong)
