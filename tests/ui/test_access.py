import pytest
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity

from airflow_zen.ui.access import Access
from airflow_zen.ui.app import app
from airflow_zen.ui.facts import visible_reason
from tests.ui.page_routes import LISTS, OF_DAG, OF_VERSION, requests_for


def test_knows_every_route():
    """Each route of the API is one of those that the tests of this file ask; a new one has to be added to them."""
    assert set(app.openapi()["paths"]) == {*OF_DAG, *OF_VERSION, *LISTS}


def test_asks_who_it_is(ran, get):
    """Nobody sees a page without logging in; a user sees those of a DAG that it may read, and finds none of others."""
    dag_id = ran(rates=(0.1,))
    for path, query in requests_for(dag_id):
        found = {reads: get(path, reads=reads, **query).status_code for reads in (None, dag_id, "other")}
        assert found == {None: 401, dag_id: 200, "other": 404}, path
    for path in LISTS:
        assert get(path[1:], reads=None).status_code == 401, path


@pytest.mark.server
def test_lists_what_dags_made_to_their_readers(deploy, answer):
    """A registered model and a deployment are listed for those who may read the DAG that made them, and for nobody else."""
    made = {dag_id: deploy(dag_id) for dag_id in ("deploys_one", "deploys_two")}
    for reads, names in ({dag_id: [name] for dag_id, name in made.items()} | {"other": []}).items():
        for path in ("/api/catalogue/models", "/api/catalogue/deployments"):
            assert [each["name"] for each in answer(path[1:], reads=reads)[LISTS[path]]] == names, (path, reads)


def test_says_the_same_of_what_is_hidden_and_what_is_not_there(ran, get):
    """The answer for a DAG that may not be seen names nothing, and is that for one that does not exist."""
    hidden, missing = ran(rates=(0.1,)), "no_such_dag"
    for path, query in requests_for(hidden):
        there = get(path, reads="other", **query)
        absent = get(path.replace(hidden, missing), reads="other", **query | _renamed(query, hidden, missing))
        assert (there.status_code, there.text) == (404, absent.text), path


def _renamed(query, old, new):
    return {"name": query["name"].replace(old, new)} if "name" in query else {}


def test_finds_a_run_only_under_its_own_dag(ran, get):
    """The id of a DAG run, a step or an artifact finds nothing under another DAG, even where the user may read both."""
    ran(rates=(0.1,))
    for path, query in requests_for("another_dag"):
        if query:
            assert get(path, **query).status_code == 404, path


@pytest.mark.parametrize("page", ["artifact", "preview", "download"])
def test_shows_content_to_readers_of_xcom(page, ran, get):
    """Who may not read what tasks return sees that an artifact exists, and not what is in it."""
    dag_id = ran()
    query = {"run_id": "r1", "task_id": "load"}
    reads = f"{dag_id}/XCOM"
    assert get(f"api/dags/{dag_id}/step", reads=reads, **query).status_code == 200
    content = {"side": "outputs", "argument": "train", "file": "preview.html"}
    assert get(f"api/dags/{dag_id}/{page}", reads=reads, **query, **content).status_code == 404


HOSTILE = (
    "../../etc/passwd",
    "..",
    "a\0b",
    "%2e%2e%2f",
    "a/b",
    "x" * 5000,
    "' OR 1=1 --",
    "<script>",
    "\n",
    "\u202e",
    "",
)
# What these say is compared with known names, or looked for in them; elsewhere it is the name of something.
_OPTIONS = {"sort", "value", "expand", "search", "tag"}


def parameters():
    """Yield each parameter of each route: the address, the name, and whether it is a number."""
    for path, operations in app.openapi()["paths"].items():
        for parameter in operations["get"].get("parameters", []):
            if parameter["in"] == "query":
                yield path, parameter["name"], parameter["schema"].get("type") in ("integer", "boolean")


@pytest.mark.parametrize("text", HOSTILE)
def test_finds_nothing_under_hostile_texts(text, ran, get):
    """A path, a control character or code in place of any parameter of any route finds nothing, and breaks nothing."""
    dag_id = ran(rates=(0.1,))
    for path, field, is_number in parameters():
        query = {"name": f"{dag_id}/load.train", **{**OF_DAG, **OF_VERSION}.get(path, {}), field: text}
        status = get(path.format(dag_id=dag_id)[1:], **query).status_code
        is_option = field in _OPTIONS or (field == "file" and text == "")
        assert status in ((200, 404, 422) if is_option and not is_number else (404, 422)), (path, field)


@pytest.mark.parametrize("number", ["-2", "1.5", "nan", "1e9", "9" * 30, "0x10"])
def test_refuses_hostile_numbers(number, ran, get):
    """A number that a parameter cannot have is refused, or finds nothing."""
    dag_id = ran(rates=(0.1,))
    for path, field, is_number in parameters():
        if is_number:
            query = {"name": f"{dag_id}/load.train", **{**OF_DAG, **OF_VERSION}.get(path, {}), field: number}
            status = get(path.format(dag_id=dag_id)[1:], **query).status_code
            assert status in (404, 422), (path, field)


@pytest.mark.parametrize("dag_id", ["..", "%2e%2e", "a%00b", "a%2fb", "%2f", "../../run", "~", "x" * 5000])
def test_finds_nothing_under_hostile_dags(dag_id, ran, get):
    """The DAG in an address is a name, never a path."""
    ran(rates=(0.1,))
    for path, query in requests_for(dag_id):
        if query:
            assert get(path, **query).status_code in (404, 422), path


def test_sends_strict_headers(ran, get):
    """An answer is never sniffed, framed by another site, or run."""
    headers = get(f"api/dags/{ran()}/run", run_id="r1").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'self'; sandbox"
    assert headers["content-type"] == "application/json"


def test_keeps_the_makers_of_reused_results_from_those_who_may_not_see_them(ran, get):
    """Where a step reuses the result of a DAG that the user may not see, no page names that DAG."""
    hidden = ran(dag_id="hidden_maker", rates=(0.1,))
    reuser = ran(dag_id="reuser", rates=(0.1,))
    for reads, named in ((f"{reuser},{hidden}", True), (reuser, False)):
        texts = [get(path, reads=reads, **query).text for path, query in requests_for(reuser) if "download" not in path]
        assert (hidden in "".join(texts)) == named


REASONS = [
    ("hidden/a b/c/t/-1/1", "another DAG"),
    ("seen/r/t/3/1", "seen/r/t/3/1"),
    ("the result of hidden/manual__1/t/-1/2 is 3 days old", "the result of another DAG is 3 days old"),
    ("the result of seen/r/t/-1/2 is known, but", "the result of seen/r/t/-1/2 is known, but"),
    ("function train changed", "function train changed"),
    ("parameter 'path': a/b/c/1/1 → hidden/b/t/1/2", "parameter 'path': a/b/c/1/1 → hidden/b/t/1/2"),
]


@pytest.mark.parametrize(("reason", "shown"), REASONS)
def test_names_no_hidden_dag_among_reasons(reason, shown):
    """A reason that names the result of a step run names it only to those who may see its DAG."""
    access = Access(type("User", (), {"role": "seen"})())
    access._known = {("seen", DagAccessEntity.RUN): True, ("hidden", DagAccessEntity.RUN): False}
    assert visible_reason(reason, access) == shown
