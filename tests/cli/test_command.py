"""Promises of the command group: every command works, and docs/cli.md describes it."""

import json
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from airflow.cli.cli_config import GroupCommand

from airflow_zen.__main__ import main
from airflow_zen.cli.command import get_zen_commands
from airflow_zen.cli.materializers import list_materializers
from tests.airflow_command import call_all

REPOSITORY = Path(__file__).resolve().parents[2]


def verbs(commands=None, path=""):
    """Yield every command, with its groups in its name."""
    for command in get_zen_commands() if commands is None else commands:
        name = f"{path} {command.name}".strip()
        if isinstance(command, GroupCommand):
            yield from verbs(command.subcommands, name)
        else:
            yield name, command


def test_every_command_has_help():
    """`airflow zen … --help` succeeds for every command, and shows its usage."""
    names = [name for name, _ in verbs()]
    assert len(names) > 15
    for name, (code, out, err) in zip(names, call_all([*name.split(), "--help"] for name in names), strict=True):
        assert code == 0, (name, err)
        assert f"airflow {name}" in " ".join(out.split()), name


def test_the_package_is_a_program(monkeypatch, capsys):
    """`python -m airflow_zen` calls the same commands, for Airflow 3.1, whose command line has none of providers."""
    monkeypatch.setattr(sys, "argv", ["airflow_zen", "models", "history", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "airflow zen models history" in " ".join(capsys.readouterr().out.split())


def test_definitions_load_no_library():
    """Every `airflow` process loads the definitions: they import none of our heavier files, and no library of a command."""
    code = (
        "import json, sys; from airflow.cli import cli_config; before = set(sys.modules)\n"
        "from airflow_zen.cli import command; command.get_zen_commands()\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    ours = {name for name in loaded if name.startswith("airflow_zen.")}
    assert {".".join(name.split(".")[1:2]) for name in ours} == {"cli", "errors"}
    assert not {name.split(".")[0] for name in loaded} & {"fsspec", "httpx", "mlflow", "pyarrow", "rich", "sqlalchemy"}


def test_the_docs_describe_every_command():
    """docs/cli.md has a section for each command, and no other."""
    headings = re.findall(r"^#+ `airflow (zen [a-z ]+)`$", (REPOSITORY / "docs" / "cli.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(name for name, _ in verbs())


def test_the_docs_show_all_materializers(capsys, monkeypatch):
    """docs/cli.md shows the output of `airflow zen materializers`, except the versions of libraries."""
    monkeypatch.setenv("COLUMNS", "200")
    # Those that files of other tests have registered in this process.
    monkeypatch.setattr("airflow_zen.materializers.user_defined._REGISTERED", {})
    list_materializers.func(Namespace(stack=None, output="table", verbose=False))
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
