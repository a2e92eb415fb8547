"""Follow docs/tutorial.md: type it command by command into a shell with an empty home."""

import os
import re
import subprocess
import sys
from pathlib import Path

from airflow_zen.localstack.state import read_local_stack
from tests.servers.airflow_api import AirflowApi, DagRun

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs" / "tutorial.md"

_BLOCK = re.compile(r"^```(console|python|diff)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_LEFT_OUT = "…\n"
_INHERITED = ("LANG", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS", "PYTHONPATH", "SSL_CERT_FILE", "TMPDIR")
# The test is in an environment that these commands make.
_INSTALLATION = {"git clone <this repository> airflow_zen", "cd airflow_zen", "make setup", "source .venv/bin/activate"}


class Shell:
    """A bash with an empty home, in which every command sees what the ones before it did."""

    def __init__(self, home: Path) -> None:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**inherited, "HOME": str(home), "PATH": path, "COLUMNS": "200"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.home = home
        self._bash = subprocess.Popen(["bash", "--norc"], env=environment, cwd=home, text=True, **pipes)

    def run(self, command: str) -> str:
        """Return what a command prints; fail if its exit code is not 0."""
        self._bash.stdin.write(f"{command}\necho :ended:$?\n")
        self._bash.stdin.flush()
        lines = []
        for line in self._bash.stdout:
            before, ended, code = line.partition(":ended:")
            lines.append(f"{before.rstrip()}\n" if before or not ended else "")
            if ended:
                break
        told = "".join(lines).replace(str(self.home), "/srv/ml").rstrip() + "\n"
        assert code.strip() == "0", f"{command} ended with {code.strip()}:\n{told}"
        return told.lstrip("\n")

    def close(self) -> None:
        """End the shell."""
        self._bash.stdin.close()
        self._bash.wait(10)
        self._bash.stdout.close()


class Tutorial:
    """The tutorial, followed up to the section that stops the stack; `told` is its text with the output of each command."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.folder = shell.home / "wine"
        self.directory = self.folder / ".zen" / "stack"
        before, heading, after = DOCUMENT.read_text().partition("## 11. Stop\n")
        self.told = follow(before, shell)
        self._rest = heading + after

    def stop(self) -> None:
        """Follow the rest."""
        self.told += follow(self._rest, self.shell)


def wait_for_latest_run(directory: Path) -> None:
    """Wait until the run that was triggered last has ended, as a reader does."""
    layout = read_local_stack(directory).layout
    airflow = AirflowApi(layout.airflow_url, layout.airflow_password)
    found = airflow._call("GET", "/dags/wine/dagRuns?order_by=-run_after&limit=1")["dag_runs"][0]
    ended = airflow.wait_for_dag_run(DagRun("wine", found["dag_run_id"], found["state"]), timeout=600)
    assert ended.state == "success"


def follow(text: str, shell: Shell) -> str:
    """Follow the tutorial, and return its text with the output of each command."""
    folder = shell.home / "wine"

    def run_command(match: re.Match) -> str:
        command, shown = match.groups()
        if command in _INSTALLATION:
            return match[0]
        if command.startswith("airflow zen runs show"):
            wait_for_latest_run(folder / ".zen" / "stack")
        told = shell.run(command)
        return f"$ {command}\n{_LEFT_OUT if shown == _LEFT_OUT else told.lstrip()}"

    def follow_block(match: re.Match) -> str:
        kind, content = match.groups()
        if kind == "console":
            content = _COMMAND.sub(run_command, content)
        elif kind == "diff":
            change_file(folder, content)
        elif file := re.match(r"# (\S+\.py)\n", content):
            (folder / file[1]).write_text(content)
        return f"```{kind}\n{content}```"

    return _BLOCK.sub(follow_block, text)


def change_file(folder: Path, diff: str) -> None:
    """Replace lines of a file, each exactly once."""
    header, *lines = diff.splitlines()
    file = folder / header.removeprefix("--- ")
    source = file.read_text()
    for old, new in zip(lines[::2], lines[1::2], strict=True):
        assert (old[0], new[0], source.count(f"{old[1:]}\n")) == ("-", "+", 1), old
        source = source.replace(old[1:], new[1:])
    file.write_text(source)
