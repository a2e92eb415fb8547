"""Every route of the pages' API, with the query that finds something of the DAG that `conftest.ran` runs as `r1`."""

_OUTPUT = {"run_id": "r1", "task_id": "load", "side": "outputs", "argument": "train"}

OF_DAG = {
    "/api/dags/{dag_id}/run": {"run_id": "r1"},
    "/api/dags/{dag_id}/step": {"run_id": "r1", "task_id": "load"},
    "/api/dags/{dag_id}/mapped": {"run_id": "r1", "task_id": "trial"},
    "/api/dags/{dag_id}/artifact": _OUTPUT,
    "/api/dags/{dag_id}/preview": {**_OUTPUT, "file": "preview.html"},
    "/api/dags/{dag_id}/download": _OUTPUT,
    "/api/dags/{dag_id}/runs": {},
    "/api/dags/{dag_id}/artifacts": {},
    "/api/dags/{dag_id}/compare": {"before": "r1", "after": "r1"},
    "/api/dags/{dag_id}/plan": {},
}
OF_VERSION = {
    "/api/catalogue/artifact": {},
    "/api/catalogue/preview": {"file": "preview.html"},
    "/api/catalogue/download": {},
    "/api/catalogue/diff": {"before": "latest"},
    "/api/catalogue/lineage": {},
}
LISTS = {
    "/api/catalogue": "artifacts",
    "/api/catalogue/models": "models",
    "/api/catalogue/deployments": "deployments",
    "/api/catalogue/storage": "rows",
}


def requests_for(dag_id):
    """Yield the address and the query of each route that is about one DAG, or about what it made."""
    for path, query in OF_DAG.items():
        yield path.format(dag_id=dag_id)[1:], query
    for path, query in OF_VERSION.items():
        yield path[1:], {"name": f"{dag_id}/load.train", **query}
