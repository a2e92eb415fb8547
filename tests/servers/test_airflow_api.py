"""The client of Airflow's API, if Airflow answers with an error."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from airflow_zen.localstack.services import HttpError
from tests.servers import airflow_api
from tests.servers.airflow_api import AirflowApi

# What Airflow 3 answers where SQLAlchemy raises, such as `(sqlite3.OperationalError) database is locked`.
REFUSED = (500, {"detail": {"reason": "Database error", "statement": "hidden", "orig_error": "hidden"}})
STARTED = (200, {"dag_id": "d", "dag_run_id": "r", "state": "queued"})


@pytest.fixture(autouse=True)
def short_retry_delays(monkeypatch):
    monkeypatch.setattr(airflow_api, "_RETRY_DELAYS", (0, 0))


@contextmanager
def airflow(*answers):
    """An API that returns these answers in order."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(201, {"access_token": "t"})

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(*left.pop(0))

        def answer(self, status, document):
            # As FastAPI writes it.
            text = json.dumps(document, separators=(",", ":")).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield AirflowApi(f"http://127.0.0.1:{server.server_port}"), left
        server.shutdown()


def test_repeats_a_request_that_the_database_refused():
    """A request that Airflow's database refused is repeated, also one that starts a DAG run."""
    with airflow(REFUSED, REFUSED, STARTED) as (api, left):
        assert api.trigger("d").run_id == "r"
        assert not left


def test_raises_after_several_refusals():
    """After several attempts the refusal is raised."""
    with airflow(*[REFUSED] * 4) as (api, left), pytest.raises(HttpError, match="Database error"):
        api.trigger("d")
    assert len(left) == 1


def test_does_not_repeat_after_another_error():
    """Any other error is raised at once: a second request could start a second DAG run."""
    with airflow((500, {"detail": "of our own"}), STARTED) as (api, left), pytest.raises(HttpError, match="of our own"):
        api.trigger("d")
    assert len(left) == 1
