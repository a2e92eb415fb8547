import subprocess
import sys

import pytest

import airflow_zen
from airflow_zen.operators.links import page_link
from airflow_zen.plugin.listener import ZenPlugin
from airflow_zen.ui import mount


def test_imports_the_application_with_the_first_request():
    """A process that loads the plugin, such as a task, imports neither FastAPI for it nor the pages."""
    code = (
        "import sys, airflow.plugins_manager as m; m.get_fastapi_plugins(); m.get_flask_plugins(); "
        "print([name for name in sys.modules if name.startswith('airflow_zen.ui.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "['airflow_zen.ui.mount']"


@pytest.mark.parametrize(
    ("version", "pages"), [("3.1.8", 0), ("3.2.2", 0), ("3.3.2", 5), ("3.10.0b1", 5), ("4.0.0", 5)]
)
def test_registers_pages_where_airflow_can_show_them(version, pages):
    """Before Airflow 3.3, whose parts the bundle uses, neither the pages nor their application are registered."""
    assert len(mount.react_apps(version)) == pages
    assert len(mount.fastapi_apps(version)) == bool(pages)


def test_registers_the_page_that_steps_link_to():
    """The button of a task instance leads to a page that is registered for task instances."""
    url = page_link(type("Instance", (), {"log_url": "http://a/dags/d/runs/r/tasks/t?try_number=1"})(), "3.3.2")
    routes = [page["url_route"] for page in mount.react_apps("3.3.2") if page["destination"] == "task_instance"]
    assert [f"http://a/dags/d/runs/r/tasks/t/plugin/{route}" for route in routes] == [*url.values()]


def test_serves_the_bundle_of_each_page(get):
    """The address of each page's bundle, which names the release, is served with a lifetime of a year."""
    assert len(ZenPlugin.react_apps) >= 3
    for page in ZenPlugin.react_apps:
        assert page["bundle_url"] == f"zen/static/main.js?v={airflow_zen.__version__}"
        answered = get(page["bundle_url"].removeprefix("zen/"), reads=None)
        assert (answered.status_code, answered.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
        assert "javascript" in answered.headers["content-type"]
