"""`airflow zen artifacts`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, ActionCommand, GroupCommand

from airflow_zen.cli.definition_arguments import ARG_STACK, argument, lazy_command

_COMMANDS, _TRANSFER_COMMANDS = "airflow_zen.cli.artifacts", "airflow_zen.cli.artifacts"
_VERSION_HELP = "'latest', a version, the beginning of a digest, a tag, or a date or time"
_NAME = argument("name", "The artifact's name")
_VERSION = argument("--version", _VERSION_HELP, default="latest")
_NEW_VERSION_ARGUMENTS = (
    argument("--tag", "A tag for the version; may be given again", action="append", default=[]),
    argument("--metadata", "A fact such as source=BTS; may be given again", action="append", default=[]),
)


def artifacts_group() -> GroupCommand:
    """Give the commands about named artifacts."""
    listing = lazy_command(
        "list",
        f"{_COMMANDS}.list_names",
        "List names with their newest version",
        argument("--prefix", "Only names that begin so", default=""),
        argument("--tag", "All versions that have this tag", default=""),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
    show = lazy_command(
        "show",
        f"{_COMMANDS}.show_artifact",
        "Show one version: what it is, who made it, and of a table its columns",
        _NAME,
        _VERSION,
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
    versions = lazy_command(
        "versions",
        f"{_COMMANDS}.list_versions",
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
        subcommands=(listing, show, versions, *_transfer_commands(), *_version_commands(), prune_command()),
    )


def _transfer_commands() -> tuple[ActionCommand, ...]:
    get = lazy_command(
        "get",
        f"{_TRANSFER_COMMANDS}.download",
        "Write an artifact's files, verified, into a directory",
        _NAME,
        argument("path", "A directory that is new or empty"),
        _VERSION,
        ARG_STACK,
        ARG_VERBOSE,
    )
    put = lazy_command(
        "put",
        f"{_TRANSFER_COMMANDS}.upload",
        "Store a file or a directory as the newest version of a name",
        argument("path", "A file, a directory, or - for standard input"),
        argument("--name", "The artifact's name", required=True),
        *_NEW_VERSION_ARGUMENTS,
        ARG_STACK,
        ARG_VERBOSE,
        description="Steps and notebooks get a pathlib.Path. Content that is the newest already makes no version.",
    )
    register = lazy_command(
        "register",
        f"{_TRANSFER_COMMANDS}.register",
        "Name data that lies under the artifact root already, without a copy",
        _NAME,
        argument("uri", "The address of a file or a folder under the artifact root, outside its own folders"),
        *_NEW_VERSION_ARGUMENTS,
        ARG_STACK,
        ARG_VERBOSE,
        description="Read it through once for its hashes, and make it the newest version of a name. A parquet file is a "
        "table for steps and notebooks, anything else a pathlib.Path. It stays its owner's: pruning never deletes it.",
    )
    return get, put, register


def _version_commands() -> tuple[ActionCommand, ...]:
    diff = lazy_command(
        "diff",
        f"{_COMMANDS}.diff",
        "Say what is different between two versions",
        _NAME,
        argument("before", _VERSION_HELP, metavar="A"),
        argument("after", _VERSION_HELP, metavar="B"),
        argument("--rows", "Show so many rows that only one of two tables has", type=int, default=0),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
        description="Types, rows, columns and their statistics, from the manifests; --rows reads both tables.",
    )
    tag_arguments = (_NAME, argument("version", _VERSION_HELP), argument("tag", "The tag"), ARG_STACK, ARG_VERBOSE)
    tag = lazy_command(
        "tag", f"{_COMMANDS}.tag", "Tag a version, so that it is found by the tag and never pruned", *tag_arguments
    )
    untag = lazy_command("untag", f"{_COMMANDS}.untag", "Take a tag away", *tag_arguments)
    return diff, tag, untag


def prune_command() -> ActionCommand:
    """Give the command that frees the artifact root."""
    return lazy_command(
        "prune",
        "airflow_zen.cli.prune.prune_artifacts",
        "Delete what nobody refers to, and say who holds the rest",
        argument("--unreferenced", "What nothing refers to", action="store_true"),
        argument("--older-than", "Runs, cache entries and versions of this age too, such as 90d"),
        argument("--keep-last", "So many newest versions of each name stay", type=int),
        argument("--grace", "What is younger than this stays; what is condemned goes after it", default="1d"),
        argument("--expire-mlflow-runs", "Delete DAG runs of that age in MLflow too", action="store_true"),
        argument("--without-mlflow", "Do not ask MLflow what it refers to", action="store_true"),
        argument("--dry-run", "Say what would be done, and do nothing", action="store_true"),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
        description="Mark what versions, DAG runs, cache entries and MLflow hold; condemn the rest; delete what an "
        "earlier prune condemned. Safe beside running tasks.",
    )
