import subprocess
import sys

import airflow_zen
from airflow_zen.plugin.listener import ZenPlugin


def test_imports_the_application_with_the_first_request():
    """A process that loads the plugin, such as a task, imports neither FastAPI for it nor the pages."""
    code = (
        "import sys, airflow.plugins_manager as m; m.get_fastapi_plugins(); m.get_flask_plugins(); "
        "print([name for name in sys.modules if name.startswith('airflow_zen.ui.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "['airflow_zen.ui.mount']"


def test_serves_the_bundle_of_each_page(get):
    """The address of each page's bundle, which names the release, is served with a lifetime of a year."""
    assert len(ZenPlugin.react_apps) >= 3
    for page in ZenPlugin.react_apps:
        assert page["bundle_url"] == f"zen/static/main.js?v={airflow_zen.__version__}"
        answered = get(page["bundle_url"].removeprefix("zen/"), reads=None)
        assert (answered.status_code, answered.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
        assert "javascript" in answered.headers["content-type"]
