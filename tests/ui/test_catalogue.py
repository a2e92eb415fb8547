import uuid
from collections import Counter
from dataclasses import replace

import pytest

import airflow_zen
from airflow_zen.lineage.found_runs import FoundArtifact, FoundRun
from airflow_zen.lineage.mlflow.rest import MlflowRest
from airflow_zen.lineage.mlflow.server import TrackingServer
from airflow_zen.models.registered_models import RegisteredModels
from airflow_zen.ui.catalogue_lineage import lineage_graph


@pytest.fixture
def name(ran):
    """A name with two versions, the first of them tagged."""
    dag_id = ran("r1", rates=(0.1,))
    airflow_zen.artifact(f"{dag_id}/load.train").tag("golden")
    ran("r2", rates=(0.1,), rows=21)
    return f"{dag_id}/load.train"


def test_searches_names_and_tags(name, answer):
    """The catalogue finds names by a part of them or of their type, and versions by their tag."""
    rows = answer("api/catalogue", search="LOAD.TRAIN")["artifacts"]
    assert [(row["name"], row["shape"]) for row in rows] == [(name, "21 rows × 2 columns")]
    rows = answer("api/catalogue", search="dataframe")["artifacts"]
    assert [row["name"] for row in rows] == [name.replace("train", "test"), name]
    page = answer("api/catalogue", tag="golden")
    assert [(row["shape"], row["tags"]) for row in page["artifacts"]] == [("20 rows × 2 columns", ["golden"])]
    assert page["tags"] == ["golden"]


def test_shows_a_version_in_full(name, answer, get):
    """A version has its columns, its previews, its files, and the other versions of its name."""
    found = answer("api/catalogue/artifact", name=name, version="golden")
    assert (found["page"]["rows"], len(found["versions"])) == (20, 2)
    for url in (found["page"]["previews"][0]["url"], found["page"]["download_url"]):
        assert get(url.removeprefix("zen/")).status_code == 200


def test_compares_two_versions(name, answer):
    """Two versions differ in the facts of their manifests."""
    found = answer("api/catalogue/diff", name=name, before="golden", after="latest")
    differences = {(each["subject"], each["fact"]): (each["before"], each["after"]) for each in found["differences"]}
    assert differences["", "rows"] == (20, 21)
    assert differences["column x", "max"] == (19, 20)


def test_reads_each_version_and_manifest_once(name, answer, store_requests):
    """A page that is opened again reads no version and no manifest again; for each name it asks which version is the newest."""
    query = {"name": name, "before": "golden"}
    history = f"api/dags/{name.partition('/')[0]}/artifacts"
    # Which DAG run is the latest is read from its record.
    for path, reads in {"api/catalogue": 0, "api/catalogue/storage": 0, "api/catalogue/diff": 0, history: 1}.items():
        first = answer(path, **query)
        store_requests.clear()
        assert answer(path, **query) == first
        assert store_requests.count("read") == reads, path
    store_requests.clear()
    answer("api/catalogue")
    assert Counter(store_requests) == {"list_prefixes": 1, "first_key": 4, "list": 1}


def test_follows_lineage(name, answer):
    """The lineage of a version has the steps that made it and that read it."""
    found = answer("api/catalogue/lineage", name=name)
    steps = {node["task_id"] for node in found["nodes"] if node["kind"] == "step"}
    assert steps == {"load", "trial"}
    assert (found["hidden"], found["error"]) == (0, "")


def test_shows_a_run_once_that_the_store_and_mlflow_have():
    """A step run of the store and the same one of MLflow, which keeps milliseconds, are one node."""
    made = (FoundArtifact("d/load", "ab12"),)
    stored = FoundRun("", "", "load", "d", "r1", "load", "FINISHED", 10.12345, 11.0, True, (), made)
    logged = replace(stored, run_id="7f", name="load (cached)", started=10.123)
    nodes, edges = lineage_graph([stored, logged], made[0])
    assert [(node.kind, node.label) for node in nodes] == [("step", "load"), ("artifact", "d/load")]
    assert len(edges) == 1


def test_folds_many_instances_and_what_they_made():
    """More than three instances of a task in a DAG run are one node with their states, and so is what they made, but the artifact itself."""
    made = [FoundArtifact(f"d/trial[{index}]", f"{index:016}") for index in range(5)]
    trials = [
        FoundRun("", "", f"trial[{index}]", "d", "r1", "trial", "FINISHED", index, index + 2.0, index == 0, (), (each,))
        for index, each in enumerate(made)
    ]
    few = [replace(each, dag_run_id="r2", inputs=(), outputs=()) for each in trials[:3]]
    best = FoundRun("", "", "best", "d", "r1", "best", "FAILED", 9.0, 10.0, False, tuple(made), ())
    nodes, edges = lineage_graph([*trials, *few, best], made[2])
    labels = [(node.label, node.count) for node in nodes]
    assert labels[0] == ("trial × 5", 5)
    assert labels[1:5] == [("trial[0]", 1), ("trial[1]", 1), ("trial[2]", 1), ("best", 1)]
    assert labels[5:] == [("4 artifacts", 4), ("d/trial[2]", 1)]
    assert (nodes[0].states, nodes[0].seconds) == ({"CACHED": 1, "FINISHED": 4}, 10.0)
    assert {(edge.source, edge.target) for edge in edges} == {
        (nodes[0].id, nodes[5].id),
        (nodes[0].id, nodes[6].id),
        (nodes[5].id, nodes[4].id),
        (nodes[6].id, nodes[4].id),
    }


def test_tells_nothing_about_hidden_names(name, get):
    """A name that is hidden, one that is spelled like it, and a version that it does not have are answered with the same words."""
    queries = ({"name": name}, {"name": f"{name}s"}, {"name": name, "version": "goldem"})
    found = {get("api/catalogue/artifact", reads="other", **query).text for query in queries}
    assert found == {'{"detail":"This does not exist, or you may not see it."}'}


def test_adds_up_storage(name, answer):
    """Each name has its versions and bytes; equal contents count once."""
    found = answer("api/catalogue/storage")
    row = next(each for each in found["rows"] if each["name"] == name)
    assert (row["versions"], row["artifacts"]) == (2, 2)
    assert found["size"] >= row["size"] > 0
    assert not (found["more"] or row["more"])


def test_says_what_the_storage_report_leaves_out(name, answer, monkeypatch):
    """Where only the first names and their newest versions are counted, the report says so."""
    monkeypatch.setattr("airflow_zen.ui.catalogue._MAX_NAMES", 3)
    monkeypatch.setattr("airflow_zen.ui.catalogue._MAX_VERSIONS", 1)
    found = answer("api/catalogue/storage")
    rows = {row["name"]: row for row in found["rows"]}
    assert (len(rows), found["more"]) == (3, True)
    assert (rows[name]["versions"], rows[name]["more"]) == (1, True)


@pytest.mark.server
def test_searches_models(server, root, answer, monkeypatch):
    """Models are found by a part of their names, and the page says where models or versions are left out."""
    from mlflow import MlflowClient

    monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_TRACKING_URI", server.uri)
    client = MlflowClient(server.uri)
    for model in ("Page_Model_a", "page_model_b"):
        client.create_registered_model(model)
        for _ in range(2):
            client.create_model_version(model, source="s3://elsewhere/model")
    page = answer("api/catalogue/models", search="MODEL_A")
    assert [(each["name"], len(each["versions"]), each["more"]) for each in page["models"]] == [
        ("Page_Model_a", 2, False)
    ]
    assert not page["more"]
    monkeypatch.setattr("airflow_zen.ui.served_models._MAX_MODELS", 1)
    monkeypatch.setattr("airflow_zen.ui.served_models._MAX_VERSIONS", 1)
    page = answer("api/catalogue/models", search="page_model")
    assert [(len(each["versions"]), each["more"]) for each in page["models"]] == [(1, True)]
    assert page["more"]


@pytest.mark.server
def test_mlflow_searches_the_names_of_models(server, monkeypatch):
    """Of many models MLflow answers those with such a name, a page after the other; no character of a text is a wildcard."""
    monkeypatch.setattr("airflow_zen.models.registered_models._PER_PAGE", 1)
    rest, stem = MlflowRest(TrackingServer(server.uri)), uuid.uuid4().hex
    quoted, plain, umlaut = names = [f"{stem}_%'a", f"{stem}-A", f"{stem}Ä"]
    for name in (*names, f"b-{stem[::-1]}"):
        rest.post("registered-models/create", {"name": name})
    for part, found, requests in (
        (f"{stem.upper()}_%'A", [quoted], 2),
        (f"{stem}-a", [plain], 1),
        (f"{stem}ä", [umlaut], 3),
        (stem[3:], [plain, quoted, umlaut], 3),
        (f"{stem}\"'", [], 3),
    ):
        before = rest.request_count
        assert [model["name"] for model in RegisteredModels(rest).models(part)] == found
        assert rest.request_count - before == requests, part


def test_lists_neither_models_nor_deployments_without_them(name, answer):
    """Without MLflow there is no model, and the page says why; without a deployment the list is empty."""
    assert answer("api/catalogue/models") == {
        "models": [],
        "more": False,
        "error": "MLflow is not configured.",
    }
    assert answer("api/catalogue/deployments") == {"deployments": []}


@pytest.mark.parametrize("page", ["artifact", "preview", "download", "diff", "lineage"])
def test_hides_versions_of_other_dags(page, name, get, answer):
    """A version of a DAG that the user may not see is not found, and not in the lists."""
    query = {"name": name, "file": "preview.html", "before": "golden"}
    assert get(f"api/catalogue/{page}", reads=None, **query).status_code == 401
    assert get(f"api/catalogue/{page}", reads="other", **query).status_code == 404
    assert answer("api/catalogue", reads="other")["artifacts"] == []
    assert answer("api/catalogue/storage", reads="other")["rows"] == []


@pytest.fixture
def two_dags(airflow_db):
    """Two DAGs in Airflow's database, which no user but a reader of every DAG may both read; gives the first."""
    from airflow.models import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    dag_ids = ("catalogue_one", "catalogue_two")
    with create_session() as session:
        session.merge(DagBundleModel(name="tests"))
        session.flush()
        for dag_id in dag_ids:
            session.merge(DagModel(dag_id=dag_id, bundle_name="tests", fileloc="/dags/x.py", is_stale=False))
    yield dag_ids[0]
    with create_session() as session:
        for dag_id in dag_ids:
            session.delete(session.get(DagModel, dag_id))


def test_keeps_what_no_dag_made_for_readers_of_every_dag(root, two_dags, get, answer):
    """An artifact that was saved by hand is seen by those who may read every DAG of Airflow, and does not exist for others."""
    airflow_zen.save_artifact({"a": 1}, "by_hand/facts")
    for reads, status, names in (("*", 200, ["by_hand/facts"]), (two_dags, 404, [])):
        assert get("api/catalogue/artifact", reads=reads, name="by_hand/facts").status_code == status
        assert [row["name"] for row in answer("api/catalogue", reads=reads)["artifacts"]] == names
        assert [row["name"] for row in answer("api/catalogue/storage", reads=reads)["rows"]] == names


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\0b", "..", "x" * 5000, "<script>"])
def test_finds_nothing_under_hostile_names(root, name, get):
    """A path, a control character or markup in place of a name finds nothing."""
    for page in ("artifact", "preview", "download", "diff", "lineage"):
        query = {"file": "preview.html", "before": "latest"}
        assert get(f"api/catalogue/{page}", name=name, **query).status_code in (404, 422), page
        assert get(f"api/catalogue/{page}", name="a", version=name, **query).status_code in (404, 422), page


@pytest.mark.parametrize("text", ["../../etc/passwd", "a\0b", "..", "x" * 5000, "<script>"])
@pytest.mark.parametrize(
    ("page", "field"), [("diff", "before"), ("diff", "after"), ("lineage", "version"), ("preview", "file")]
)
def test_finds_no_version_under_hostile_names(page, field, text, name, get):
    """Of a name that exists, too, a version or a file that is named like a path finds nothing."""
    query = {"name": name, "before": "golden", "file": "preview.html", field: text}
    assert get(f"api/catalogue/{page}", **query).status_code in (404, 422)


def test_reads_no_deployment_that_needs_code(root, answer):
    """Another value under the name of a deployment is neither read, which could run code, nor in the way of the list."""
    airflow_zen.save_artifact({"a": 1}, "deployments/by_hand")
    assert answer("api/catalogue/deployments") == {"deployments": []}
