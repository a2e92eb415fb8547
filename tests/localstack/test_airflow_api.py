"""What the client of Airflow's API does when Airflow does not answer as it should."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from airflow_zen.localstack import airflow_api
from airflow_zen.localstack.airflow_api import AirflowApi, HttpError

# What Airflow 3 answers where SQLAlchemy raises, such as `(sqlite3.OperationalError) database is locked`.
REFUSED = (500, {"detail": {"reason": "Database error", "statement": "hidden", "orig_error": "hidden"}})
STARTED = (200, {"dag_id": "d", "dag_run_id": "r", "state": "queued"})


@pytest.fixture(autouse=True)
def short_retry_delays(monkeypatch):
    monkeypatch.setattr(airflow_api, "_RETRY_DELAYS", (0, 0))


@contextmanager
def airflow(*answers):
    """An API that gives these answers, one after the other."""
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


def test_a_busy_database_is_asked_again():
    """What Airflow's database refuses for a moment is asked again, to start a DAG run too."""
    with airflow(REFUSED, REFUSED, STARTED) as (api, left):
        assert api.trigger("d").run_id == "r"
        assert not left


def test_a_database_that_goes_on_refusing_is_told():
    """After a few tries the refusal is raised."""
    with airflow(*[REFUSED] * 4) as (api, left), pytest.raises(HttpError, match="Database error"):
        api.trigger("d")
    assert len(left) == 1


def test_another_error_is_told_at_once():
    """Any other error is raised at the first answer: asking again could start two DAG runs."""
    with airflow((500, {"detail": "of our own"}), STARTED) as (api, left), pytest.raises(HttpError, match="of our own"):
        api.trigger("d")
    assert len(left) == 1
