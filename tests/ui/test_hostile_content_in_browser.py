"""What others wrote, in Chromium on our pages: markup, scripts, paths and control characters are text, or find nothing."""

import json
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from airflow.sdk import dag

from airflow_zen import ml_step
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.runs.records import StepRunRecords
from airflow_zen.runs.step_run import StepRun, StepRunId, StepState
from airflow_zen.transports import open_transport
from tests.servers.browser import go_to

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(900)]

MARKUP = "<img src=x onerror=document.title=1>"
HOSTILE_NAMES = ("../../../../etc/passwd", "..", "a\0b", "%2e%2e%2fetc", "<script>", "x" * 5000)
NOT_FOUND = "There is nothing at this address, or you may not see it."
# Whatever a script may try for a session, for data, or as a way out: it notes what it reached.
REPORT = """<!doctype html><title>report</title><ol></ol><script>
const site = SITE, other = site.replace("127.0.0.1", "localhost");
const loaded = (name, src) => new Promise((resolve, reject) => {
  addEventListener("securitypolicyviolation", reject);
  // Of a frame that is blocked, an empty page is loaded.
  document.body.append(Object.assign(document.createElement(name), {onload: () => setTimeout(resolve, 300), onerror: reject, src}));
});
const blocked = () => { throw new Error("blocked"); };
// Whether the policy refuses it is told apart from a server that does.
const refused = begin => new Promise((resolve, reject) => {
  addEventListener("securitypolicyviolation", reject);
  setTimeout(resolve, 1000);
  begin();
});
const send = action => {
  const form = Object.assign(document.createElement("form"), {action, method: "post"});
  document.body.append(form);
  form.submit();
};
const tries = {
  parent: () => parent === self ? blocked() : parent.document.title,
  top: () => { top === self ? blocked() : top.location.href = `${other}/taken`; },
  opened: () => open(`${other}/opened`) ?? blocked(),
  cookie: () => document.cookie,
  storage: () => localStorage.length,
  airflow: () => fetch("/api/v2/dags", {credentials: "include"}),
  pages: () => fetch(`${site}/zen/api/catalogue`, {credentials: "include"}),
  beacon: () => fetch(`${other}/beacon`, {mode: "no-cors"}),
  image: () => loaded("img", `${other}/image`),
  script: () => loaded("script", `${other}/script`),
  frame: () => loaded("iframe", `${site}/api/v2/dags`),
  prefetch: () => refused(() => document.head.append(Object.assign(document.createElement("link"), {rel: "prefetch", href: `${other}/prefetch`}))),
  socket: () => refused(() => new WebSocket(`${other.replace("http", "ws")}/socket`)),
  // One that is sent leads to another page, on which nothing is noted.
  form: async () => { send(`${other}/form`); await new Promise(resolve => setTimeout(resolve, 300)); blocked(); },
};
const note = text => document.querySelector("ol").append(Object.assign(document.createElement("li"), {textContent: text}));
(async () => {
  for (const [name, reach] of Object.entries(tries)) {
    try { note(`${name}: reached ${await reach()}`); } catch { note(`${name}: blocked`); }
  }
  note("done");
})();
</script>"""
SHOWN_REPORT = "iframe[title$='report.html']"
TRIES = ["parent", "top", "opened", "cookie", "storage", "airflow", "pages", "beacon", "image", "script", "frame"]
TRIES += ["prefetch", "socket", "form"]


@pytest.fixture
def report(root, site, run_dag_test):
    """The address of a step that returns a report with scripts."""

    @ml_step
    def report() -> Path:
        target = root.parent / "report.html"
        target.write_text(REPORT.replace("SITE", json.dumps(site)))
        return target

    @dag(dag_id="hostile_report", schedule=None, start_date=datetime(2026, 1, 1))
    def hostile():
        report()

    run = run_dag_test(hostile())
    return f"dags/{run.dag_id}/runs/{quote(run.run_id, safe='')}/tasks/report/plugin/zen-step"


@pytest.fixture
def answers(window):
    """The addresses that were answered, with the status."""
    found = []
    note = lambda answer: found.append((answer.url, answer.status))  # noqa: E731
    window.on("response", note)
    yield found
    window.remove_listener("response", note)


def test_a_hostile_table_is_text(run, visit):
    """Markup in a name of a column and in a cell of 10 MB is text; a preview has an origin of its own, and the theme of the page."""
    shown = run(rates=(0.1,), rows=2, column=MARKUP, cell_length=10_000_000)
    page = visit(f"{shown.path}/tasks/load/plugin/zen-step", dark=True)
    page.locator("summary").filter(has_text="train").first.click()
    page.get_by_role("cell", name=MARKUP).first.wait_for()
    assert page.title() != "1"
    assert page.locator("html.dark").count() == 1
    assert {frame.get_attribute("sandbox") for frame in page.locator(".zen-page iframe").all()} == {"allow-scripts"}
    shown_in = (
        page.frame_locator(".zen-page iframe").first.locator("html").evaluate("e => getComputedStyle(e).colorScheme")
    )
    assert shown_in == "dark"
    assert page.locator(".zen-page img[src=x]").count() == 0
    assert page.evaluate("document.querySelector('.zen-page').innerText.length") < 100_000


def test_the_scripts_of_a_report_reach_nothing(report, visit, answers):
    """A report's scripts run, in the page and at the report's own address, and reach no parent, session or API, and no server by a request."""
    page = visit(report)
    page.get_by_role("tab", name="report.html").click()
    address = page.locator(SHOWN_REPORT).get_attribute("src")
    for open_report in (lambda: None, lambda: page.goto(address)):
        open_report()
        assert notes(page) == [*(f"{name}: blocked" for name in TRIES), "done"]
    assert [url for url, _ in answers if "localhost" in url] == []


def notes(page):
    """Return what the script noted, once it has tried everything."""
    shown = page.frame_locator(SHOWN_REPORT) if page.locator(".zen-page").count() else page
    shown.get_by_text("done", exact=True).wait_for()
    return shown.locator("li").all_inner_texts()


def test_hostile_names_find_nothing(run, visit, answers):
    """A path, a control character or markup in an address is not found, in plain words, and leads no request elsewhere."""
    shown = run(rates=(0.1,))
    page = visit(f"{shown.path}/plugin/zen-run")
    page.locator(".zen-card").first.wait_for()
    answers.clear()
    for text in (quote(name, safe="") for name in HOSTILE_NAMES):
        for path in (
            f"{shown.path}/plugin/zen-run?step={text}&map_index=0",
            f"{shown.path}/tasks/load/plugin/zen-step?step={text}",
            f"dags/{shown.dag_id}/tasks/trial/plugin/zen-task?run_id={text}",
            f"plugin/zen-artifacts?name={text}",
            f"plugin/zen-artifacts?name={shown.dag_id}/load.train&version={text}",
        ):
            with page.expect_response(lambda answer, text=text: text in answer.url and "/zen/" in answer.url) as answer:
                go_to(page, path)
            assert answer.value.status in (404, 422), path
            page.get_by_role("alert").get_by_text(NOT_FOUND).wait_for()
    page.reload()
    page.get_by_role("alert").get_by_text(NOT_FOUND).wait_for()
    asked = {urlsplit(url).path for url, _ in answers if "/zen/" in url and "/static/" not in url}
    assert all(path.startswith(("/zen/api/dags/" + shown.dag_id, "/zen/api/catalogue")) for path in asked), asked


def test_hostile_names_in_a_record_are_text(run, visit, root, answers):
    """A step, an output and an address that a record names like paths are shown as text, and clicks on them find no file."""
    shown, name = run(rates=(0.1,)), "../../../etc/passwd"
    key = StepRunId(shown.dag_id, shown.run_id, name)
    ref = ArtifactRef("0" * 64, f"{root}/{name}", "pandas.parquet@1", "pandas.DataFrame", 1, name, MARKUP)
    facts = {"state": StepState.FINISHED, "started": 10.0, "ended": 12.0}
    StepRunRecords(open_transport(str(root), {})).put(StepRun(key, outputs={"a\0b": ref}, **facts), delivered=True)
    page = visit(f"{shown.path}/plugin/zen-run")
    page.locator(".zen-card").filter(has_text="passwd").first.wait_for()
    page.get_by_role("tab", name="Steps").click()
    page.get_by_role("row").get_by_role("link", name=name, exact=True).first.click()
    page.get_by_role("heading", name="Outputs").wait_for()
    page.locator("summary").filter(has_text=MARKUP).first.wait_for()
    page.get_by_role("alert").get_by_text(NOT_FOUND).wait_for()
    assert page.title() != "1"
    assert [(url, status) for url, status in answers if "/artifact?" in url and status not in (404, 422)] == []
