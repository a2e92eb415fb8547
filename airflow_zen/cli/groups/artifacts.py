"""`airflow zen artifacts`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, ActionCommand, GroupCommand

from airflow_zen.cli.groups.command import ARG_STACK, argument, command
from airflow_zen.cli.groups.prune import prune

_HERE, _MOVING = "airflow_zen.cli.artifacts", "airflow_zen.cli.moving"
_SELECTS = "'latest', a version, the beginning of a digest, a tag, or a date or time"
_NAME = argument("name", "The artifact's name")
_VERSION = argument("--version", _SELECTS, default="latest")
_VERSION_FACTS = (
    argument("--tag", "A tag for the version; may be given again", action="append", default=[]),
    argument("--metadata", "A fact such as source=BTS; may be given again", action="append", default=[]),
)


def artifacts() -> GroupCommand:
    """Give the commands about named artifacts."""
    listing = command(
        "list",
        f"{_HERE}.list_names",
        "List names with their newest version",
        argument("--prefix", "Only names that begin so", default=""),
        argument("--tag", "All versions that have this tag", default=""),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
    show = command(
        "show",
        f"{_HERE}.show",
        "Show one version: what it is, who made it, and of a table its columns",
        _NAME,
        _VERSION,
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
    versions = command(
        "versions",
        f"{_HERE}.versions",
        "List the versions of a name, newest first",
        _NAME,
        argument("--limit", "So many at most", type=int, default=20),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
    return GroupCommand(
        name="artifacts",
        help="Named artifacts and their versions",
        subcommands=(listing, show, versions, *_moving(), *_comparing(), prune()),
    )


def _moving() -> tuple[ActionCommand, ...]:
    get = command(
        "get",
        f"{_MOVING}.get",
        "Write an artifact's files, verified, into a directory",
        _NAME,
        argument("path", "A directory that is new or empty"),
        _VERSION,
        ARG_STACK,
        ARG_VERBOSE,
    )
    put = command(
        "put",
        f"{_MOVING}.put",
        "Store a file or a directory as the newest version of a name",
        argument("path", "A file, a directory, or - for standard input"),
        argument("--name", "The artifact's name", required=True),
        *_VERSION_FACTS,
        ARG_STACK,
        ARG_VERBOSE,
        description="Steps and notebooks get a pathlib.Path. Content that is the newest already makes no version.",
    )
    register = command(
        "register",
        f"{_MOVING}.register",
        "Name data that lies under the artifact root already, without a copy",
        _NAME,
        argument("uri", "The address of a file or a folder under the artifact root, outside its own folders"),
        *_VERSION_FACTS,
        ARG_STACK,
        ARG_VERBOSE,
        description="Read it through once for its hashes, and make it the newest version of a name. A parquet file is a "
        "table for steps and notebooks, anything else a pathlib.Path. It stays its owner's: pruning never deletes it.",
    )
    return get, put, register


def _comparing() -> tuple[ActionCommand, ...]:
    diff = command(
        "diff",
        f"{_HERE}.diff",
        "Say what is different between two versions",
        _NAME,
        argument("before", _SELECTS, metavar="A"),
        argument("after", _SELECTS, metavar="B"),
        argument("--rows", "Show so many rows that only one of two tables has", type=int, default=0),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
        description="Types, rows, columns and their statistics, from the manifests; --rows reads both tables.",
    )
    marks = (_NAME, argument("version", _SELECTS), argument("tag", "The tag"), ARG_STACK, ARG_VERBOSE)
    tag = command("tag", f"{_HERE}.tag", "Tag a version, so that it is found by the tag and never pruned", *marks)
    untag = command("untag", f"{_HERE}.untag", "Take a tag away", *marks)
    return diff, tag, untag
