"""The MLflow server of a local stack asks for a password, and hides the assistant."""

import asyncio
from configparser import ConfigParser
from pathlib import Path

import httpx
import mlflow
import pytest

from airflow_zen.localstack import services

USER = ("admin", "it-is-secret")


@pytest.fixture
def mlflow_app(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", USER[1])
    # Its import takes seconds, of every worker if it is that of the file.
    from airflow_zen.localstack import mlflow_app

    return mlflow_app


def get(application, path, auth=USER):
    async def ask():
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:5000", auth=auth) as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.mark.parametrize("auth", [None, ("admin", "wrong"), ("other", "it-is-secret"), ("admin", "")])
def test_asks_for_the_password(mlflow_app, auth):
    """Pages, files and the API of MLflow are shown to the stack's user only; a browser asks for the password."""
    api = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    for path in ("/", api, "/version", "/static-files/favicon.ico", "//health", "/health/"):
        refused = get(mlflow_app.app, path, auth)
        assert (refused.status_code, b"stack up local" in refused.content) == (401, True)
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
    assert get(mlflow_app.app, "/version").status_code == 200


def test_readiness_needs_no_password(mlflow_app):
    """Whether the server is ready can be asked without the password, and says nothing more."""
    answer = get(mlflow_app.app, "/health", None)
    assert (answer.status_code, answer.content) == (200, b"OK")


def test_page_hides_the_assistant(mlflow_app):
    """MLflow's page, whole, has the style that hides the elements which MLflow marks as the assistant's."""
    page, original = get(mlflow_app.app, "/"), get(mlflow_app.app._application._application, "/")
    style = b"<style>[data-assistant-ui]{display:none!important}</style>"
    assert page.content.replace(style, b"") == original.content
    assert page.content.index(style) < page.content.index(b"</head>")
    assert int(page.headers["content-length"]) == len(page.content) > len(original.content)
    scripts = Path(mlflow.__file__).parent.glob("server/js/build/static/js/main.*.js")
    assert any('"data-assistant-ui":"true"' in script.read_text() for script in scripts)


def test_other_answers_are_unchanged(mlflow_app):
    """An answer in parts that is no page, and a request for something else, pass unchanged."""

    async def in_parts(scope, receive, send):
        await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", b"1")]})
        for part, more in ((b"a", True), (b"b", False)):
            await send({"type": "http.response.body", "body": part, "more_body": more})

    for path in ("/", "/api"):
        answer = get(mlflow_app.WithoutAssistant(in_parts), path)
        assert (answer.status_code, answer.content, dict(answer.headers)) == (304, b"ab", {"etag": "1"})


def test_is_declared_for_mlflow():
    """MLflow finds the application by the name that the stack passes."""
    declared = ConfigParser()
    declared.read(Path(services.__file__).parents[2] / "setup.cfg")
    assert (
        f"{services._MLFLOW_APP} = airflow_zen.localstack.mlflow_app:app"
        in declared["options.entry_points"]["mlflow.app"]
    )
