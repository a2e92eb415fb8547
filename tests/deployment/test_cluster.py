"""Deployments in a cluster: tested before they get requests, replaced, undone, and found again after a crash."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from kubernetes.client import CoreV1Api, CustomObjectsApi
from msgspec.structs import replace

from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.deployment import KServe, Seldon, parse_target, promote_canary, roll_back
from airflow_zen.deployment.base import DeploymentRequest
from airflow_zen.deployment.cluster.target import ModelSource, object_name
from airflow_zen.deployment.protocols import Rows
from airflow_zen.errors import DeploymentFailed, StepDeferred, StepDefinitionError, StepInterrupted
from tests.advice import advice_of
from tests.deployment.clusters import KSERVE, SELDON, SELDON_1, controlled
from tests.runtimes.triggers import run_trigger
from tests.runtimes.worker import until
from tests.servers.flaky import Failure, FlakyProxy
from tests.servers.kubernetes import Image, kubernetes_cluster

ROOT = "s3://models/zen"
ROWS = Rows(("a", "b"), ("FP64", "FP64"), [[1.0, 2.0], [3.0, 4.0]])
NAME, CANDIDATE = "flight-delay", "flight-delay-candidate"
CLUSTER = KServe(kubernetes="cluster", deferrable=False, timeout=30)


def test_the_candidate_of_a_killed_first_deployment_is_seen_and_stopped(controller, version):
    """Where nothing has been served, the state says that a candidate is left, and a stop deletes it."""
    deployed = deploy(version(2))
    CLUSTER.stop(deployed)
    controller.paused = True
    with pytest.raises(StepDeferred):
        deploy(version(3), replace(CLUSTER, deferrable=True))
    assert CLUSTER.describe_state(deployed) == "its candidate is left"
    CLUSTER.stop(deployed)
    assert (list(controller.objects()), CLUSTER.describe_state(deployed)) == ([], "stopped")


EMPTY = dict.fromkeys(("host", "schema", "login", "password", "port"))


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster without images, and an artifact root in a bucket with keys."""
    monkeypatch.setattr("airflow_zen.deployment.cluster.rollout._POLL", 0.02)
    store = {"conn_type": "aws", "login": "key", "password": "secret", "extra": {"endpoint_url": "http://s3:9000"}}
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(store))
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", ROOT)
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_CONN_ID", "store")
    with kubernetes_cluster(tmp_path) as running:
        monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", connection_to(running.kubeconfig()))
        yield running


@pytest.fixture
def controller(cluster):
    """A serving system in the cluster."""
    with controlled(cluster) as running:
        yield running


@pytest.fixture
def version(controller):
    """Return the request to deploy a version, whose factor is its number; it is loaded unless `loads` says otherwise."""

    def make(number, *, expected=None, loads=True, **fields):
        request = DeploymentRequest(
            name="flight_delay",
            model="flight_delay",
            version=str(number),
            digest=f"{number}" * 64,
            uri=f"{ROOT}/artifacts/{number}",
            directory=Path(),
            owner="ops",
            rows=ROWS,
            expected=[3.0 * number, 7.0 * number] if expected is None else expected,
        )
        controller.factors[request.uri] = float(number) if loads else None
        return replace(request, **fields)

    return make


def connection_to(config):
    return json.dumps({"conn_type": "kubernetes", "extra": {"kube_config": json.dumps(config)}})


def deploy(request, target=CLUSTER):
    """Deploy as the step does: look first, and deploy what does not serve."""
    return target.find_current(request) or target.deploy(request, open_stack(Settings.read(), lineage=False))


def writes(cluster):
    return [request for request in cluster.requests if request[0] != "GET" and not request[1].endswith("/status")]


def test_a_model_is_served_from_its_address_in_the_store(cluster, controller, version):
    """The object reads the artifact where it is stored, with the keys of the store's connection; a second try does nothing."""
    deployed = deploy(version(2))
    assert (deployed.version, deployed.model, deployed.owner) == ("2", "flight_delay", "ops")
    assert deployed.predict_url == f"{controller.url}/v2/models/flight-delay/infer"
    # Before the object of the deployment existed.
    assert controller.traffic == [(CANDIDATE, f"{ROOT}/artifacts/2")]
    assert list(controller.objects()) == [NAME]
    model = {"modelFormat": {"name": "mlflow"}, "protocolVersion": "v2", "storageUri": f"{ROOT}/artifacts/2"}
    spec = {"predictor": {"model": model, "serviceAccountName": "flight-delay-store"}}
    assert controller.objects()[NAME]["spec"] == spec
    with cluster.client() as client:
        secret = CoreV1Api(client).read_namespaced_secret("flight-delay-store", "default")
        account = CoreV1Api(client).read_namespaced_service_account("flight-delay-store", "default")
    assert secret.metadata.annotations["serving.kserve.io/s3-endpoint"] == "s3:9000"
    assert secret.metadata.annotations["serving.kserve.io/s3-usehttps"] == "0"
    assert sorted(secret.data) == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    assert [each.name for each in account.secrets] == ["flight-delay-store"]
    assert CLUSTER.describe_state(deployed) == "serving"
    cluster.requests.clear()
    assert deploy(version(2)) == deployed
    assert writes(cluster) == []
    CLUSTER.stop(deployed)
    with cluster.client() as client:
        left = CoreV1Api(client).list_namespaced_config_map("default").items
    assert (controller.objects(), left, CLUSTER.describe_state(deployed)) == ({}, [], "stopped")


def test_a_failed_smoke_test_changes_nothing(cluster, controller, version):
    """A model that predicts otherwise in the cluster gets no requests: the old one serves, and its object is untouched."""
    deploy(version(2))
    before = controller.objects()[NAME]
    with pytest.raises(DeploymentFailed, match="smoke test"):
        deploy(version(3, expected=[9.0, 22.0]))
    assert controller.objects() == {NAME: before}
    assert deploy(version(2)).version == "2"


def test_a_model_that_cannot_be_loaded_is_undone(controller, version):
    """The error has what the serving system says; without an older version nothing is left, else that one serves."""
    with pytest.raises(DeploymentFailed, match="ModelLoadFailed the files are damaged"):
        deploy(version(1, loads=False, rows=None))
    assert controller.objects() == {}
    deploy(version(2))
    with pytest.raises(DeploymentFailed, match="'flight-delay' does not serve version 3: ModelLoadFailed"):
        deploy(version(3, loads=False, rows=None))
    assert controller.uri(NAME) == f"{ROOT}/artifacts/2"
    assert deploy(version(2)).version == "2"


def test_an_interrupted_task_leaves_the_old_version(controller, version, monkeypatch):
    """When Airflow ends the task while the new object starts, the object serves the old version again."""

    def interrupt(seconds):
        if controller.uri(NAME) == f"{ROOT}/artifacts/3":
            assert CLUSTER.describe_state(deployed) == "starting"
            raise StepInterrupted

    deployed = deploy(version(2))
    controller.paused = True
    clock = SimpleNamespace(sleep=interrupt, monotonic=time.monotonic)
    monkeypatch.setattr("airflow_zen.deployment.cluster.rollout.time", clock)
    with pytest.raises(StepInterrupted):
        deploy(version(3, rows=None))
    controller.paused = False
    assert controller.uri(NAME) == f"{ROOT}/artifacts/2"


def test_the_log_of_a_deployment_is_that_of_its_pods(cluster, controller, version):
    """Each pod that serves the model has its lines under its name; those of a candidate are not among them."""
    deployed = deploy(version(2))
    cluster.node.images["server:1"] = Image("server:1", f"sha256:{'1' * 64}", environment={"PATH": "/usr/bin:/bin"})
    with cluster.client() as client:
        for name in (f"{NAME}-predictor-0", f"{CANDIDATE}-predictor-0", "another-0"):
            container = {"name": "server", "image": "server:1", "command": ["sh", "-c", f"echo {name} serves"]}
            body = {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [container]}}
            CoreV1Api(client).create_namespaced_pod("default", body)
    until(lambda: "serves" in CLUSTER.logs(deployed, 10))
    assert CLUSTER.logs(deployed, 10) == f"--- {NAME}-predictor-0\n{NAME}-predictor-0 serves\n"


def test_a_canary_is_promoted_or_rolled_back(cluster, controller, version):
    """A new version gets a percentage of the requests, then more, then all; each step can be taken back."""
    canary = replace(CLUSTER, canary=10)
    percent = lambda: controller.objects()[NAME]["spec"]["predictor"].get("canaryTrafficPercent")  # noqa: E731
    # There is nothing that it could stand beside.
    deploy(version(1), canary)
    assert percent() is None
    deployed = deploy(version(2), canary)
    assert (percent(), controller.uri(NAME)) == (10, f"{ROOT}/artifacts/2")
    tested = len(controller.traffic)
    deployed = deploy(version(2), replace(CLUSTER, canary=50))
    assert (percent(), len(controller.traffic)) == (50, tested)
    assert roll_back(deployed).version == "1"
    assert (percent(), controller.uri(NAME)) == (None, f"{ROOT}/artifacts/1")
    deployed = deploy(version(2), canary)
    assert promote_canary(deployed).version == "2"
    assert (percent(), controller.uri(NAME)) == (None, f"{ROOT}/artifacts/2")
    assert deploy(version(2)).version == "2"
    with pytest.raises(DeploymentFailed, match="no canary to promote"):
        promote_canary(deployed)
    assert roll_back(deployed).version == "1"


@pytest.fixture
def fire(cluster, monkeypatch):
    """Run the trigger of a deferral as a triggerer does; return the status of its event."""

    def run(deferred, *, config=None, **options):
        extra = json.dumps({"kube_config": json.dumps(config or cluster.kubeconfig())})
        path, arguments = deferred.value.trigger.serialize()
        connections = {"cluster": {**EMPTY, "conn_type": "kubernetes", "extra": extra}}
        fired = run_trigger(path, arguments, connections, **options)
        return fired and (fired["name"], fired["status"])

    return run


def test_a_deferred_task_waits_in_the_triggerer(cluster, controller, version, fire):
    """The task is deferred while each object starts; the trigger asks again when the cluster does not answer."""
    target, request = replace(CLUSTER, deferrable=True), version(2)
    for name in (CANDIDATE, NAME):
        controller.paused = True
        with pytest.raises(StepDeferred) as deferred:
            deploy(request, target)
        with FlakyProxy(int(cluster.url.rpartition(":")[2])) as proxy:
            proxy.arm(0, Failure.ANSWER_LOST)
            config = cluster.kubeconfig()
            config["clusters"][0]["cluster"]["server"] = proxy.uri
            controller.paused = False
            assert fire(deferred, config=config) == (name, "ready")
    assert deploy(request, target).version == "2"
    assert list(controller.objects()) == [NAME]


def test_a_trigger_fires_for_what_will_not_be_ready(controller, version, fire):
    """A silent or deleted object resumes the task; the trigger of a task that a user has cleared deletes the candidate."""
    controller.paused, request = True, version(2)
    with pytest.raises(StepDeferred) as deferred:
        deploy(request, replace(CLUSTER, deferrable=True, timeout=2))
    assert fire(deferred) == (CANDIDATE, "failed")
    with pytest.raises(DeploymentFailed, match="has not changed for"):
        deploy(request, replace(CLUSTER, deferrable=True, timeout=2))
    assert controller.objects() == {}
    assert fire(deferred) == (CANDIDATE, "deleted")
    with pytest.raises(StepDeferred) as deferred:
        deploy(request, replace(CLUSTER, deferrable=True))
    fire(deferred, is_killed=True)
    assert controller.objects() == {}


def test_the_candidate_of_a_killed_task_is_deleted(controller, version):
    """A later deployment of what serves already deletes a candidate without a task, and none that a task may wait for."""
    deployed = deploy(version(2))
    controller.paused = True
    with pytest.raises(StepDeferred):
        # Nobody resumes it: as if its worker was killed.
        deploy(version(3), replace(CLUSTER, deferrable=True))
    controller.paused = False
    assert deploy(version(2)) == deployed
    assert sorted(controller.objects()) == [NAME, CANDIDATE]
    until(lambda: deploy(version(2), replace(CLUSTER, timeout=1)) and list(controller.objects()) == [NAME])
    assert controller.uri(NAME) == f"{ROOT}/artifacts/2"


def test_what_others_have_changed_is_a_conflict(cluster, controller, version):
    """A field that somebody has edited is not overwritten, and a deployment that another task makes is not, either."""
    deploy(version(2))
    with cluster.client() as client:
        edit = {"spec": {"predictor": {"model": {"storageUri": "s3://other/model"}}}}
        CustomObjectsApi(client).patch_namespaced_custom_object(*KSERVE, NAME, edit)
    controller.factors["s3://other/model"] = 1.0
    for number in (2, 3):
        with pytest.raises(DeploymentFailed, match=r"(?s)conflict.*Somebody else has changed it"):
            deploy(version(number))
    assert controller.uri(NAME) == "s3://other/model"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"spec": {"predictor": {"modell": {}}}}, "modell"),
        ({"spec": {"predictor": {"minReplicas": "1"}}}, "minReplicas"),
    ],
)
def test_a_manifest_is_validated_strictly(controller, version, override, message):
    """What the schema of the cluster does not have is an error that names it, and changes nothing."""
    deploy(version(2))
    with pytest.raises(DeploymentFailed, match=message):
        deploy(version(3), replace(CLUSTER, override=override))
    assert controller.uri(NAME) == f"{ROOT}/artifacts/2"


def test_a_store_that_the_cluster_does_not_reach_is_an_error(version):
    """A folder of this machine is refused, and may be what the cluster has in a volume."""
    request = version(2, uri="/data/zen/artifacts/2")
    with pytest.raises(DeploymentFailed, match="artifact_root='pvc://CLAIM/PATH'"):
        deploy(request)


def test_options_of_a_cluster_need_one():
    """An option that this machine would ignore is an error where it is written, and so is a false percentage."""
    with pytest.raises(StepDefinitionError, match="is for a cluster"):
        KServe(canary=10)
    with pytest.raises(StepDefinitionError, match="a percentage from 0 to 99"):
        KServe(kubernetes="cluster", canary=100)
    with pytest.raises(StepDefinitionError, match="is not of Seldon Core 2: remove it, or set core=1"):
        Seldon(kubernetes="cluster", logger="http://gateway/log/a")
    with pytest.raises(StepDefinitionError, match="is not of Seldon Core 1"):
        Seldon(kubernetes="cluster", core=1, memory="1Gi")
    with pytest.raises(StepDefinitionError, match="by service_account="):
        KServe(kubernetes="cluster", secret="keys")
    target = KServe(kubernetes="c", override={"spec": {"b": 1, "a": [2]}}, canary=5)
    assert parse_target(repr(target)) == target


def test_a_logger_is_told_what_answered():
    """The URL of the prediction log has the version; the requests of a smoke test are not logged."""
    target = KServe(
        kubernetes="cluster", logger="http://gateway/log/{model}?version={version}&token={token}", min_replicas=2
    )
    source = ModelSource("s3://a", "account", names={"model": "flight delay", "version": "7", "token": "t"})
    predictor = target.body("a", source)["spec"]["predictor"]
    assert predictor["logger"] == {"mode": "all", "url": "http://gateway/log/flight%20delay?version=7&token=t"}
    assert (predictor["minReplicas"], predictor["serviceAccountName"]) == (2, "account")
    assert "logger" not in target.body("a", ModelSource("s3://a"))["spec"]["predictor"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Flight_Delay", "flight-delay"), ("7up", "m-7up"), ("x" * 50 + "-candidate", "x" * 40 + "-candidate")],
)
def test_the_name_of_an_object(name, expected):
    """A deployment's object has a name that Kubernetes and KServe allow, and its candidate that of the same with an end."""
    assert object_name(name) == expected


@pytest.mark.parametrize(
    "target", [CLUSTER, Seldon(kubernetes="cluster", deferrable=False, timeout=30)], ids=["kserve", "seldon"]
)
def test_a_store_without_keys(controller, version, monkeypatch, target):
    """A role cannot be given to a cluster; with the option that the error names, the serving system reads the artifact root."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_STORE", json.dumps({"conn_type": "aws", "extra": {"role_arn": "arn:aws:iam::1:a"}})
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-worker")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-worker")
    target = target if isinstance(target, KServe) else replace(target, ingress=controller.url)
    (option,) = advice_of(lambda: deploy(version(2), target), r"no keys that could be .*\((\w+)='NAME'\)\.$")
    assert deploy(version(2), replace(target, **{option: "reader"})).version == "2"


@pytest.mark.parametrize(("core", "place"), [(2, SELDON), (1, SELDON_1)])
def test_seldon_serves_the_same(cluster, controller, version, core, place):
    """A Model of Core 2, and a SeldonDeployment of Core 1, are tested, replaced and undone like an InferenceService."""
    ingress = {"ingress": controller.url} if core == 2 else {}
    target = Seldon(kubernetes="cluster", core=core, deferrable=False, timeout=30, **ingress)
    assert deploy(version(1), target).version == "1"
    with pytest.raises(DeploymentFailed, match="no model"):
        deploy(version(3, loads=False), target)
    assert deploy(version(2), target).predict_url == f"{controller.url}/v2/models/flight-delay/infer"
    assert controller.uri(NAME, place) == f"{ROOT}/artifacts/2"
    assert list(controller.objects(place)) == [NAME]
    with cluster.client() as client:
        secret = CoreV1Api(client).read_namespaced_secret("flight-delay-store", "default")
    assert list(secret.data) == ["remote"] if core == 2 else "RCLONE_CONFIG_S3_ACCESS_KEY_ID" in secret.data


@pytest.mark.slow
@pytest.mark.parametrize("failure", [Failure.AFTER, Failure.ANSWER_LOST], ids=lambda each: each.value)
def test_a_crash_at_each_request_is_recovered(cluster, controller, version, monkeypatch, failure):
    """When the cluster dies at any request, one version serves, and the next try ends with the new one alone."""
    monkeypatch.setattr("airflow_zen.deployment.cluster.rollout._POLL", 0.05)
    proxy = FlakyProxy(int(cluster.url.rpartition(":")[2]))
    with proxy:
        config = cluster.kubeconfig()
        config["clusters"][0]["cluster"]["server"] = proxy.uri
        monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", connection_to(config))
        target, number = replace(CLUSTER, timeout=2), 1
        deploy(version(1))
        for at in range(60):
            number += 1
            proxy.arm(at, failure)
            request = version(number)
            try:
                deploy(request, target)
            except DeploymentFailed:
                is_over = False
                assert controller.uri(NAME) in (f"{ROOT}/artifacts/{number - 1}", request.uri)
            else:
                is_over = proxy.requests <= at
            proxy.heal()
            deploy(request)
            assert controller.uri(NAME) == request.uri
            assert list(controller.objects()) == [NAME]
            if is_over:
                break
        assert at > 10
