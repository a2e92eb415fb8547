import pytest

PAGES = [
    ("run", {}),
    ("step", {"task_id": "load"}),
    ("mapped", {"task_id": "trial"}),
    ("artifact", {"task_id": "load", "side": "outputs", "argument": "train"}),
    ("preview", {"task_id": "load", "side": "outputs", "argument": "train", "file": "preview.html"}),
    ("download", {"task_id": "load", "side": "outputs", "argument": "train"}),
]


@pytest.mark.parametrize(("page", "query"), PAGES)
def test_asks_who_it_is(page, query, ran, get):
    """Nobody sees a page without logging in; a user sees those of a DAG that it may read, and finds none of others."""
    dag_id = ran()
    path = f"api/dags/{dag_id}/{page}"
    found = {reads: get(path, reads=reads, run_id="r1", **query).status_code for reads in (None, dag_id, "other")}
    assert found == {None: 401, dag_id: 200, "other": 404}


@pytest.mark.parametrize("page", ["artifact", "preview", "download"])
def test_shows_content_to_readers_of_xcom(page, ran, get):
    """Who may not read what tasks return sees that an artifact exists, and not what is in it."""
    dag_id = ran()
    query = {"run_id": "r1", "task_id": "load"}
    reads = f"{dag_id}/XCOM"
    assert get(f"api/dags/{dag_id}/step", reads=reads, **query).status_code == 200
    content = {"side": "outputs", "argument": "train", "file": "preview.html"}
    assert get(f"api/dags/{dag_id}/{page}", reads=reads, **query, **content).status_code == 404


HOSTILE = ["../../etc/passwd", "..", "a\0b", "%2e%2e%2f", "x" * 5000, "' OR 1=1 --", "<script>alert(1)</script>", "\n"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["run_id", "task_id", "argument", "file"])
def test_finds_nothing_under_hostile_names(field, text, ran, get):
    """A path, a control character or code in place of a name finds nothing, and breaks nothing."""
    dag_id = ran(rates=(0.1,))
    query = {"run_id": "r1", "task_id": "load", "side": "outputs", "argument": "train", "file": "preview.html"}
    for page in ("artifact", "preview", "download") if field != "file" else ("preview", "download"):
        assert get(f"api/dags/{dag_id}/{page}", **{**query, field: text}).status_code in (404, 422)


HOSTILE_QUERIES = [
    ("run", {}, "run_id"),
    ("step", {"run_id": "r1"}, "task_id"),
    ("mapped", {"run_id": "r1"}, "task_id"),
    ("mapped", {"task_id": "trial"}, "run_id"),
    ("compare", {"before": "r1"}, "after"),
    ("compare", {"after": "r1"}, "before"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_finds_no_page_under_hostile_names(text, ran, get):
    """A DAG run or a task that is named like a path, a control character or code is not found, on no page of a DAG."""
    dag_id = ran(rates=(0.1,))
    for page, query, field in HOSTILE_QUERIES:
        found = get(f"api/dags/{dag_id}/{page}", **query, **{field: text})
        assert found.status_code in (404, 422), (page, field)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["sort", "value", "expand"])
def test_ignores_hostile_options(field, text, ran, get):
    """What a table is sorted by, and which task is unfolded, is compared with names that are known, and never used as code."""
    dag_id = ran(rates=(0.1, 0.2))
    page = "run" if field == "expand" else "mapped"
    found = get(f"api/dags/{dag_id}/{page}", run_id="r1", task_id="trial", **{field: text})
    assert found.status_code in (200, 422)
    assert found.status_code == 422 or len(found.json()["rows" if page == "mapped" else "steps"]) in (2, 3)


@pytest.mark.parametrize("dag_id", ["..", "%2e%2e", "a%00b", "../../run", "~"])
def test_finds_nothing_under_hostile_dags(dag_id, ran, get):
    """The DAG in an address is a name, never a path."""
    ran(rates=(0.1,))
    assert get(f"api/dags/{dag_id}/run", run_id="r1").status_code in (404, 422)


def test_sends_strict_headers(ran, get):
    """An answer is never sniffed, framed by another site, or run."""
    headers = get(f"api/dags/{ran()}/run", run_id="r1").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'self'; sandbox"
    assert headers["content-type"] == "application/json"
