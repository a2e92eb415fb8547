"""Promises of the command group: no verb is broken, and the documents name them all."""

import json
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from airflow.cli.cli_config import GroupCommand

from airflow_zen.cli.definition import get_zen_commands
from airflow_zen.cli.materializers import list_materializers

REPOSITORY = Path(__file__).resolve().parents[2]

# Calls Airflow's own main with `--help` once for each verb of stdin, all in one process: Airflow takes seconds to load.
_HELP = """
import contextlib, io, json, sys
from airflow.__main__ import main
told = {}
for verb in json.load(sys.stdin):
    sys.argv = ["airflow", *verb.split(), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as ended:
            assert not ended.code, (verb, ended.code)
    told[verb] = out.getvalue()
print(json.dumps(told))
"""


def verbs(commands=None, path=""):
    """Name every command that does something, with the groups it is in."""
    for command in get_zen_commands() if commands is None else commands:
        name = f"{path} {command.name}".strip()
        if isinstance(command, GroupCommand):
            yield from verbs(command.subcommands, name)
        else:
            yield name, command


def test_every_verb_has_help_in_airflows_own_command_line():
    """`airflow zen … --help` ends well for every verb, and shows its usage."""
    names = [name for name, _ in verbs()]
    done = subprocess.run([sys.executable, "-c", _HELP], input=json.dumps(names), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(names) > 15
    for name in names:
        assert f"airflow {name}" in " ".join(told[name].split()), name


def test_every_verb_has_its_function():
    """What each verb calls exists: a name that is misspelt would be found by a user."""
    for name, command in verbs():
        closed = command.func.__wrapped__.__closure__ or ()
        paths = [cell.cell_contents for cell in closed if isinstance(cell.cell_contents, str)]
        (path,) = [path for path in paths if path.startswith("airflow_zen.")]
        module, _, function = path.rpartition(".")
        __import__(module)
        assert callable(getattr(sys.modules[module], function)), name


def test_the_documents_name_every_verb():
    """docs/cli.md has a section for each verb, and none for what there is not."""
    headings = re.findall(r"^#+ `airflow (zen [a-z ]+)`$", (REPOSITORY / "docs" / "cli.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(name for name, _ in verbs())


def test_the_documents_show_the_materializers_that_there_are(capsys, monkeypatch):
    """What docs/cli.md shows for `airflow zen materializers` is what it prints, but for releases of libraries."""
    monkeypatch.setenv("COLUMNS", "200")
    list_materializers(Namespace(stack=None, output="table", verbose=False))
    document = (REPOSITORY / "docs" / "cli.md").read_text()
    shown = document.partition("$ airflow zen materializers\n")[2].partition("```")[0]
    assert len(rows(shown)) > 20
    assert rows(shown) == rows(capsys.readouterr().out)


def rows(table):
    """Read our own rows of a printed table, without the columns that tell of one installation."""
    lines = [[cell.strip() for cell in line.split("|")] for line in table.splitlines() if "|" in line]
    found = []
    for line in lines:
        if line[0]:
            found.append(line)
        else:
            found[-1] = [" ".join(filter(None, pair)) for pair in zip(found[-1], line, strict=True)]
    apart = {"libraries", "installed"}
    kept = [at for at, name in enumerate(found[0]) if name not in apart]
    ours = [row for row in found if row[-1] in ("offered by", "airflow-provider-zen")]
    return [[row[at] for at in kept] for row in ours]
