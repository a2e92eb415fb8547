"""Previews in a browser inside MLflow: they are shown, and nothing in the data is executed or fetched."""

import itertools
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

from airflow_zen.materializers.registry import default_registry
from airflow_zen.materializers.texts import HTMLString
from tests.materializers.page_reading import HOSTILE
from tests.servers.browser import browser_page

pytestmark = [pytest.mark.server, pytest.mark.slow]

REPORT = """<!doctype html><title>x</title><style>h1{color:rgb(1,2,3)}</style><h1>Quarterly report</h1>
<script>document.body.textContent = "scripts run"; fetch("@ELSEWHERE@/stolen")</script>
<img src="@ELSEWHERE@/pixel.png" onerror="document.body.textContent = 'scripts run'">
<link rel="stylesheet" href="@ELSEWHERE@/style.css"><iframe src="@ELSEWHERE@/frame"></iframe>
<meta http-equiv="refresh" content="0;url=@ELSEWHERE@/away">
<form action="@ELSEWHERE@/form"><input name="q"><button>Send</button></form>
<svg onload="document.body.textContent = 'scripts run'"></svg><object data="@ELSEWHERE@/object"></object>"""


@pytest.fixture
def shown(recorder, step, server):
    """Store the preview of a value in a run of MLflow, and return the page of its artifact."""
    number = itertools.count()

    def show(value, encoding):
        run = step(f"t{next(number)}")
        opened = recorder.start(run)
        files = default_registry().preview(value, encoding, {"shape": "some"})
        assert recorder.attach_files(run, opened, {"previews/output/preview.html": files["preview.html"].encode()})
        page, _, query = opened.url.partition("?")
        return f"{page}/artifacts/previews/output/preview.html" + (f"?{query}" if query else "")

    return show


@pytest.fixture
def elsewhere():
    """A web server that the data refers to; `asked` collects the requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            self.send_error(404)

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.address = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def page():
    """A browser page that collects every dialog."""
    with browser_page(1360, 900) as page:
        page.dialogs = []
        page.on("dialog", lambda dialog: (page.dialogs.append(dialog.message), dialog.dismiss()))
        yield page


def test_a_report_is_shown_and_executes_nothing(shown, page, elsewhere):
    """HTML that a step returned is shown with its style; its scripts, images, frames, refresh and forms do nothing."""
    page.goto(shown(HTMLString(REPORT.replace("@ELSEWHERE@", elsewhere.address)), "python.text@1"))
    report = page.frame_locator("iframe").first.frame_locator("iframe")
    heading = report.locator("h1")
    heading.wait_for()
    report.get_by_role("button", name="Send").click()
    page.wait_for_timeout(1500)
    assert heading.inner_text() == "Quarterly report"
    assert heading.evaluate("found => getComputedStyle(found).color") == "rgb(1, 2, 3)"
    assert "scripts run" not in report.locator("body").inner_text()
    assert elsewhere.asked == []
    assert page.dialogs == []
    page.goto(f"{elsewhere.address}/reached")
    assert "/reached" in elsewhere.asked


def test_hostile_names_are_shown_as_text(shown, page):
    """A table with names that contain HTML is shown as text in MLflow, and opens no dialog."""
    page.goto(shown(pd.DataFrame({name: list(HOSTILE) for name in HOSTILE}), "pandas.parquet@1"))
    frame = page.frame_locator("iframe").first
    frame.locator("thead th").nth(1).wait_for()
    page.wait_for_timeout(500)
    text = frame.locator("body").inner_text()
    assert "</script><script>alert(1)</script>" in text
    assert "a&lt;b&amp;c" in text
    assert frame.locator("body").evaluate("body => getComputedStyle(body).display") == "block"
    assert frame.locator("script").count() == 0
    assert page.dialogs == []
