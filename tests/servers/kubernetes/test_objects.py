"""The API server of tests, asked by the official client."""

from __future__ import annotations

import itertools
import re
import threading

import pytest
from kubernetes import client, watch
from kubernetes.client import ApiException
from kubernetes.dynamic import DynamicClient

from tests.servers.kubernetes import kubernetes_cluster

_SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "flight-delay"},
    "spec": {"predictor": {"model": {"modelFormat": {"name": "mlflow"}, "storageUri": "s3://bucket/path"}}},
}
_KSERVE = ("serving.kserve.io", "v1beta1", "default", "inferenceservices")


@pytest.fixture
def cluster(tmp_path):
    with kubernetes_cluster(tmp_path) as running:
        yield running


@pytest.fixture
def api(cluster):
    with cluster.client() as connection:
        yield client.CoreV1Api(connection)


@pytest.fixture
def custom(cluster):
    with cluster.client() as connection:
        yield client.CustomObjectsApi(connection)


@pytest.fixture
def dynamic(cluster):
    with cluster.client() as connection:
        yield DynamicClient(connection)


def _config(name, data=None, **metadata):
    return {"metadata": {"name": name, **metadata}, "data": data or {}}


def test_a_new_object_has_what_the_server_gives_it(api):
    """A created object has uid, version, time and generation, and is read as it was answered."""
    made = api.create_namespaced_config_map("default", _config("a", {"x": "1"}))
    assert made.metadata.uid
    assert made.metadata.resource_version
    assert made.metadata.creation_timestamp
    assert made.metadata.generation == 1
    assert made == api.read_namespaced_config_map("a", "default")


def test_a_generated_name_is_unique(api):
    """`generateName` gives each object its own name."""
    names = {
        api.create_namespaced_config_map("default", {"metadata": {"generateName": "a-"}}).metadata.name for _ in "12"
    }
    assert len(names) == 2
    assert all(re.fullmatch("a-[a-z0-9]{5}", name) for name in names)


@pytest.mark.parametrize(
    ("call", "code", "reason"),
    [
        (lambda api: api.read_namespaced_pod("none", "default"), 404, "NotFound"),
        (lambda api: api.create_namespaced_config_map("default", _config("kept")), 409, "AlreadyExists"),
        (lambda api: api.create_namespaced_config_map("nowhere", _config("a")), 404, "NotFound"),
        (lambda api: api.create_namespaced_config_map("default", _config("Upper")), 422, "Invalid"),
        (
            lambda api: api.create_namespaced_config_map("default", _config("a", labels={"x": "no/slash"})),
            422,
            "Invalid",
        ),
        (lambda api: api.create_namespaced_config_map("default", _config("a", labels={"x": "x" * 64})), 422, "Invalid"),
        (lambda api: api.create_namespaced_config_map("default", _config("a") | {"dta": {}}), 400, "BadRequest"),
        (lambda api: api.create_namespaced_config_map("default", _config("a", {"x": 1})), 400, "BadRequest"),
        (lambda api: api.create_namespaced_config_map("default", _config("a") | {"kind": "Pod"}), 400, "BadRequest"),
        (lambda api: api.list_namespaced_pod("default", field_selector="spec.image=x"), 400, "BadRequest"),
    ],
)
def test_what_is_refused(api, call, code, reason):
    """An error has the code and the reason of Kubernetes."""
    api.create_namespaced_config_map("default", _config("kept"))
    with pytest.raises(ApiException) as caught:
        call(api)
    assert caught.value.status == code
    assert f'"reason": "{reason}"' in caught.value.body


def test_a_client_needs_the_token(cluster):
    """A client without the token is unauthorized."""
    connection = client.ApiClient(client.Configuration(host=cluster.url))
    with connection, pytest.raises(ApiException) as caught:
        client.CoreV1Api(connection).list_namespaced_pod("default")
    assert caught.value.status == 401


def test_an_update_of_an_old_version_conflicts(api):
    """Of two updates based on one version the second is refused, and the first stays."""
    first = api.create_namespaced_config_map("default", _config("a", {"x": "1"}))
    first.data = {"x": "2"}
    api.replace_namespaced_config_map("a", "default", first)
    first.data = {"x": "3"}
    with pytest.raises(ApiException) as caught:
        api.replace_namespaced_config_map("a", "default", first)
    assert caught.value.status == 409
    assert api.read_namespaced_config_map("a", "default").data == {"x": "2"}


def test_a_patch_of_an_old_version_conflicts(api):
    """A patch that names a version is refused if the object has another."""
    made = api.create_namespaced_config_map("default", _config("a", {"x": "1"}))
    patch = {"metadata": {"resourceVersion": made.metadata.resource_version}, "data": {"x": "2"}}
    api.patch_namespaced_config_map("a", "default", patch)
    with pytest.raises(ApiException, match="409"):
        api.patch_namespaced_config_map("a", "default", patch)


def test_a_write_that_changes_nothing_makes_no_version(api):
    """A patch to what is there already leaves the version."""
    made = api.create_namespaced_config_map("default", _config("a", {"x": "1"}))
    same = api.patch_namespaced_config_map("a", "default", {"data": {"x": "1"}})
    assert same.metadata.resource_version == made.metadata.resource_version


def test_a_json_patch_of_a_list(api):
    """A list of operations is a JSON patch; one that does not fit changes nothing."""
    api.create_namespaced_config_map("default", _config("a", {"x": "1", "y": "2"}))
    operations = [{"op": "remove", "path": "/data/x"}, {"op": "add", "path": "/data/z", "value": "3"}]
    assert api.patch_namespaced_config_map("a", "default", operations).data == {"y": "2", "z": "3"}
    with pytest.raises(ApiException, match="422"):
        api.patch_namespaced_config_map("a", "default", [{"op": "test", "path": "/data/y", "value": "9"}])


def test_a_strategic_patch_merges_lists_by_key(api):
    """Containers are merged by their names, as the published schema says."""
    containers = [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]
    api.create_namespaced_pod("default", {"metadata": {"name": "p"}, "spec": {"containers": containers}})
    patch = {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}
    found = api.patch_namespaced_pod("p", "default", patch)
    assert [(each.name, each.image) for each in found.spec.containers] == [("a", "a:1"), ("b", "b:2")]


def test_a_merge_patch_of_a_custom_object(custom):
    """A custom object is patched by a merge patch: null deletes."""
    custom.create_namespaced_custom_object(*_KSERVE, _SERVICE)
    patch = {"spec": {"predictor": {"canaryTrafficPercent": 10}}, "metadata": {"labels": {"x": "1"}}}
    found = custom.patch_namespaced_custom_object(*_KSERVE, "flight-delay", patch)
    assert found["spec"]["predictor"]["canaryTrafficPercent"] == 10
    assert found["spec"]["predictor"]["model"]["storageUri"] == "s3://bucket/path"
    assert found["metadata"]["generation"] == 2
    found = custom.patch_namespaced_custom_object(*_KSERVE, "flight-delay", {"metadata": {"labels": {"x": None}}})
    assert "x" not in found["metadata"].get("labels", {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"storagUri": "s3://b"}, 'unknown field \\"spec.predictor.model.storagUri\\"'),
        ({"modelFormat": {"name": 1}}, "spec.predictor.model.modelFormat.name"),
        ({"modelFormat": {}}, "'name' is a required property"),
    ],
)
def test_a_custom_object_is_checked_by_its_published_schema(custom, change, said):
    """An unknown field, a wrong type and a missing value are each named."""
    model = {**_SERVICE["spec"]["predictor"]["model"], **change}
    with pytest.raises(ApiException) as caught:
        custom.create_namespaced_custom_object(*_KSERVE, {**_SERVICE, "spec": {"predictor": {"model": model}}})
    assert said in caught.value.body


_POD = {"spec": {"containers": [{"name": "pytorch", "image": "train:1"}]}}
_PREDICTOR = {"name": "default", "graph": {"name": "model", "implementation": "MLFLOW_SERVER", "modelUri": "s3://b/p"}}


@pytest.mark.parametrize(
    ("group", "version", "kind", "plural", "spec"),
    [
        ("mlops.seldon.io", "v1alpha1", "Model", "models", {"storageUri": "s3://b/p", "requirements": ["mlflow"]}),
        ("machinelearning.seldon.io", "v1", "SeldonDeployment", "seldondeployments", {"predictors": [_PREDICTOR]}),
        (
            *("trainer.kubeflow.org", "v1alpha1", "TrainJob", "trainjobs"),
            {"runtimeRef": {"name": "torch-distributed"}, "trainer": {"numNodes": 2, "image": "train:1"}},
        ),
        (
            *("kubeflow.org", "v1", "PyTorchJob", "pytorchjobs"),
            {"pytorchReplicaSpecs": {"Master": {"replicas": 1, "restartPolicy": "OnFailure", "template": _POD}}},
        ),
    ],
)
def test_other_custom_objects(custom, group, version, kind, plural, spec):
    """The published kinds of Seldon and Kubeflow are served; a field that they do not have is refused."""
    body = {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": {"name": "a"}, "spec": spec}
    made = custom.create_namespaced_custom_object(group, version, "default", plural, body)
    assert made["spec"] == spec
    with pytest.raises(ApiException, match='unknown field \\\\"spec.modelUrl'):
        custom.create_namespaced_custom_object(
            group, version, "default", plural, {**body, "metadata": {"name": "b"}, "spec": {**spec, "modelUrl": "x"}}
        )


def test_the_status_is_a_subresource(custom):
    """A write of the object leaves its status, and a write of the status leaves the object."""
    custom.create_namespaced_custom_object(*_KSERVE, {**_SERVICE, "status": {"url": "http://ignored"}})
    status = {"status": {"url": "http://x", "conditions": [{"type": "Ready", "status": "True"}]}, "spec": {}}
    found = custom.patch_namespaced_custom_object_status(*_KSERVE, "flight-delay", status)
    assert found["status"]["url"] == "http://x"
    assert found["spec"] == _SERVICE["spec"]
    assert found["metadata"]["generation"] == 1
    found = custom.patch_namespaced_custom_object(*_KSERVE, "flight-delay", {"status": {"url": "http://y"}})
    assert found["status"]["url"] == "http://x"


def test_a_dry_run_stores_nothing(api):
    """A dry run answers as the write would, and leaves nothing."""
    assert api.create_namespaced_config_map("default", _config("a"), dry_run="All").metadata.uid
    assert [each.metadata.name for each in api.list_namespaced_config_map("default").items] == []


def _apply(dynamic, data, manager, **more):
    resource = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": data}
    found = dynamic.server_side_apply(resource, body, name="a", namespace="default", field_manager=manager, **more)
    return found.to_dict()["data"]


def test_apply_creates_and_removes_what_is_no_longer_named(dynamic):
    """A manager's second apply without a field removes it; another manager's field stays."""
    assert _apply(dynamic, {"x": "1", "y": "1"}, "one") == {"x": "1", "y": "1"}
    assert _apply(dynamic, {"z": "2"}, "two") == {"x": "1", "y": "1", "z": "2"}
    assert _apply(dynamic, {"x": "1"}, "one") == {"x": "1", "z": "2"}


def test_apply_of_another_managers_field_conflicts_unless_forced(dynamic):
    """The conflict names the manager; a forced apply takes the field."""
    _apply(dynamic, {"x": "1"}, "one")
    with pytest.raises(Exception, match=r'conflict with \\"one\\": .data.x'):
        _apply(dynamic, {"x": "2"}, "two")
    assert _apply(dynamic, {"x": "2"}, "two", force_conflicts=True) == {"x": "2"}
    assert _apply(dynamic, {}, "one") == {"x": "2"}


def test_apply_conflicts_with_a_field_that_was_updated(dynamic, api):
    """An ordinary write owns what it changed."""
    _apply(dynamic, {"x": "1"}, "one")
    api.patch_namespaced_config_map("a", "default", {"data": {"x": "9"}})
    with pytest.raises(Exception, match="conflict with"):
        _apply(dynamic, {"x": "1"}, "one")


def test_lists_are_selected_and_paged(api):
    """Label selectors of each form, field selectors, and pages."""
    for index in range(5):
        labels = {"n": str(index), **({"odd": "yes"} if index % 2 else {})}
        api.create_namespaced_config_map("default", _config(f"c{index}", labels=labels))

    def names(**query):
        return [each.metadata.name[1:] for each in api.list_namespaced_config_map("default", **query).items]

    assert names(label_selector="n=1") == ["1"]
    assert names(label_selector="n!=1,odd") == ["3"]
    assert names(label_selector="!odd") == ["0", "2", "4"]
    assert names(label_selector="n in (1, 2),n notin (2)") == ["1"]
    assert names(field_selector="metadata.name=c4") == ["4"]
    page = api.list_namespaced_config_map("default", limit=3)
    rest = api.list_namespaced_config_map("default", limit=3, _continue=page.metadata._continue)
    assert [each.metadata.name for each in page.items + rest.items] == [f"c{index}" for index in range(5)]
    assert page.metadata.remaining_item_count == 2
    assert not rest.metadata._continue


def test_a_watch_sees_changes_through_its_selector(api):
    """An object that begins and ceases to match is added and deleted."""
    revision = api.list_namespaced_config_map("default").metadata.resource_version
    api.create_namespaced_config_map("default", _config("a"))
    api.patch_namespaced_config_map("a", "default", {"metadata": {"labels": {"x": "1"}}})
    api.patch_namespaced_config_map("a", "default", {"data": {"k": "v"}})
    api.patch_namespaced_config_map("a", "default", {"metadata": {"labels": {"x": "2"}}})
    stream = watch.Watch().stream(
        api.list_namespaced_config_map, "default", label_selector="x=1", resource_version=revision, timeout_seconds=5
    )
    assert [event["type"] for event in itertools.islice(stream, 3)] == ["ADDED", "MODIFIED", "DELETED"]


def test_a_watch_begins_with_what_there_is_and_waits(api):
    """Without a version a watch gives the present objects first, and then a later one."""
    api.create_namespaced_config_map("default", _config("a"))
    later = threading.Timer(0.3, api.create_namespaced_config_map, ("default", _config("b")))
    later.start()
    stream = watch.Watch().stream(api.list_namespaced_config_map, "default", timeout_seconds=10)
    assert [event["object"].metadata.name for event in itertools.islice(stream, 2)] == ["a", "b"]
    later.join()


def test_a_watch_has_bookmarks(api):
    """A bookmark carries the version up to which there was nothing."""
    revision = api.list_namespaced_config_map("default").metadata.resource_version
    api.create_namespaced_secret("default", {"metadata": {"name": "other"}})
    stream = watch.Watch().stream(
        api.list_namespaced_config_map,
        "default",
        resource_version=revision,
        allow_watch_bookmarks=True,
        timeout_seconds=5,
    )
    event = next(iter(stream))
    assert event["type"] == "BOOKMARK"
    assert int(event["raw_object"]["metadata"]["resourceVersion"]) > int(revision)


def test_a_watch_from_a_forgotten_version_is_gone(api, cluster):
    """After a compaction the old version is 410, and a new list and watch work."""
    revision = api.list_namespaced_config_map("default").metadata.resource_version
    api.create_namespaced_config_map("default", _config("a"))
    cluster.compact()
    with pytest.raises(ApiException) as caught:
        list(
            watch.Watch().stream(
                api.list_namespaced_config_map, "default", resource_version=revision, timeout_seconds=2
            )
        )
    assert caught.value.status == 410
    stream = watch.Watch().stream(api.list_namespaced_config_map, "default", timeout_seconds=1)
    assert [event["object"].metadata.name for event in stream] == ["a"]


def test_a_finalizer_keeps_an_object(api):
    """An object with finalizers is marked at its deletion, and goes with the last of them."""
    api.create_namespaced_config_map("default", _config("a", finalizers=["zen/keep"]))
    api.delete_namespaced_config_map("a", "default")
    assert api.read_namespaced_config_map("a", "default").metadata.deletion_timestamp
    api.patch_namespaced_config_map("a", "default", [{"op": "remove", "path": "/metadata/finalizers"}])
    with pytest.raises(ApiException, match="404"):
        api.read_namespaced_config_map("a", "default")


def _owner_and_owned(api):
    owner = api.create_namespaced_config_map("default", _config("owner"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}
    api.create_namespaced_secret("default", {"metadata": {"name": "owned", "ownerReferences": [reference]}})


@pytest.mark.parametrize(("policy", "left"), [("Background", 0), ("Foreground", 0), ("Orphan", 1)])
def test_what_an_object_owns_goes_with_it(api, policy, left):
    """The owned object is deleted, or orphaned as asked."""
    _owner_and_owned(api)
    api.delete_namespaced_config_map("owner", "default", propagation_policy=policy)
    assert api.list_namespaced_config_map("default").items == []
    assert len(api.list_namespaced_secret("default").items) == left


def test_a_deletion_with_another_uid_is_refused(api):
    """A precondition that does not hold is a conflict."""
    api.create_namespaced_config_map("default", _config("a"))
    options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="other"))
    with pytest.raises(ApiException, match="409"):
        api.delete_namespaced_config_map("a", "default", body=options)


def test_a_namespace_goes_with_its_content(api):
    """A new namespace has a service account, and is deleted with what is in it."""
    api.create_namespace({"metadata": {"name": "team"}})
    assert api.read_namespaced_service_account("default", "team")
    api.create_namespaced_config_map("team", _config("a"))
    api.delete_namespace("team")
    with pytest.raises(ApiException, match="404"):
        api.read_namespaced_config_map("a", "team")


def test_text_of_a_secret_is_encoded(api):
    """`stringData` is stored as `data`."""
    api.create_namespaced_secret("default", {"metadata": {"name": "a"}, "stringData": {"k": "v"}})
    assert api.read_namespaced_secret("a", "default").data == {"k": "dg=="}
