import io
import zipfile
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from airflow.sdk import dag

from airflow_zen import ml_step
from tests.harness import run_dag

HTML = "<img src=x onerror=alert(1)>"
OUTPUT = {"run_id": "r1", "task_id": "load", "side": "outputs", "argument": "train"}


def test_describes_a_table(ran, answer):
    """An artifact has its rows, the types and statistics of its columns, its files and its previews."""
    page = answer(f"api/dags/{ran(rates=(0.1,))}/artifact", **OUTPUT)
    assert page["rows"] == 20
    x = page["columns"][0]
    assert (x["name"], x["type"], x["nulls"], x["min"], x["max"], x["mean"]) == ("x", "int64", 0, 0, 19, 9.5)
    assert [preview["kind"] for preview in page["previews"]] == ["html"]
    assert all(url.startswith("zen/api/dags/") for url in (page["download_url"], page["previews"][0]["url"]))


def test_serves_previews_without_an_origin(ran, answer, get):
    """A preview is a document of an opaque origin that may not reach any server, in which names of columns are text."""
    dag_id = ran(rates=(0.1,), column=HTML)
    page = answer(f"api/dags/{dag_id}/artifact", **OUTPUT)
    assert page["columns"][0]["name"] == HTML
    shown = get(page["previews"][0]["url"].removeprefix("zen/"))
    policy = shown.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none';")
    assert "allow-same-origin" not in policy
    assert HTML not in shown.text
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown.text


def test_previews_have_the_scheme_of_the_page(ran, answer, get):
    """A preview has the colours that it is asked for: a browser does not tell a frame without an origin of the page's."""
    query = {"run_id": "r1", "task_id": "load", "side": "outputs", "argument": "train"}
    (preview,) = answer(f"api/dags/{ran()}/artifact", **query)["previews"]
    asked = {
        scheme: get(f"{preview['url'].removeprefix('zen/')}&scheme={scheme}") for scheme in ("light", "dark", "blue")
    }
    assert asked["blue"].status_code == 422
    for scheme, rules in {"light": "@media not all{", "dark": "@media all{"}.items():
        style = asked[scheme].text.partition("<style>")[2].partition("</style>")[0]
        assert style.startswith(f":root{{color-scheme:{scheme}}}")
        assert rules in style.replace("\n", "")
        assert "prefers-color-scheme" not in style


def test_downloads_one_file_as_it_is(ran, answer, get):
    """The only file of an artifact is an attachment of its own, with the bytes of the store."""
    dag_id = ran(rates=(0.1,))
    page = answer(f"api/dags/{dag_id}/artifact", **OUTPUT)
    for url in (page["download_url"], page["files"][0]["url"]):
        answered = get(url.removeprefix("zen/"))
        assert answered.headers["content-disposition"].startswith("attachment; ")
        assert len(pd.read_parquet(io.BytesIO(answered.content))) == 20


def test_shows_the_report_of_a_library_without_an_origin(root, answer, get):
    """A page with scripts among an artifact's files is shown in a document of an opaque origin."""
    page = "<script>document.title = 'drawn'</script>"

    @ml_step
    def report() -> Path:
        target = root.parent / "report.html"
        target.write_text(page)
        return target

    @dag(dag_id="makes_reports", schedule=None, start_date=datetime(2026, 1, 1))
    def maker():
        report()

    run_dag(maker(), run_id="r1")
    query = {"run_id": "r1", "task_id": "report", "side": "outputs", "argument": "output"}
    previews = answer("api/dags/makes_reports/artifact", **query)["previews"]
    shown = get(next(each for each in previews if each["file"].endswith("report.html"))["url"].removeprefix("zen/"))
    assert shown.text == page
    assert shown.headers["content-security-policy"].startswith("sandbox allow-scripts;")


@pytest.mark.parametrize("file", ["manifest.json", "../manifest.json", "/etc/passwd", "table.parquet/.."])
def test_downloads_no_other_file(file, ran, get):
    """A path that the manifest does not list is not found."""
    assert get(f"api/dags/{ran(rates=(0.1,))}/download", **OUTPUT, file=file).status_code == 404


def test_downloads_several_files_as_a_zip(root, answer, get, tmp_path):
    """All files of a folder are in one ZIP under their paths."""

    @ml_step
    def folder() -> Path:
        target = tmp_path / "made"
        (target / "inner").mkdir(parents=True)
        (target / "a.txt").write_text("a")
        (target / "inner" / "b.txt").write_text("b")
        return target

    @dag(dag_id="makes_folders", schedule=None, start_date=datetime(2026, 1, 1))
    def maker():
        folder()

    run_dag(maker(), run_id="r1")
    found = get("api/dags/makes_folders/download", run_id="r1", task_id="folder", side="outputs", argument="output")
    with zipfile.ZipFile(io.BytesIO(found.content)) as archive:
        assert {name.rpartition("/")[2]: archive.read(name) for name in archive.namelist()} == {
            "a.txt": b"a",
            "b.txt": b"b",
        }
