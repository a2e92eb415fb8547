"""`airflow zen stack`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, ActionCommand, GroupCommand

from airflow_zen.cli.definition_arguments import argument, lazy_command


def stack_group() -> GroupCommand:
    """Give the commands about stacks."""
    name = argument("stack", "The stack; the active one where it is left out", nargs="?", metavar="NAME")
    listing = lazy_command(
        "list",
        "airflow_zen.cli.stacks.list_stacks",
        "List the stacks that are defined",
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
    show = lazy_command(
        "show",
        "airflow_zen.cli.stacks.show_stack",
        "Show a stack's options, and where each comes from",
        name,
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
    use = lazy_command(
        "use",
        "airflow_zen.cli.stacks.use",
        "Make a stack the active one",
        argument("stack", "The stack", metavar="NAME"),
        description="Write the stack's name into stacks.yaml as the active one; runs, steps and DAGs that name one keep it.",
    )
    check = lazy_command(
        "check",
        "airflow_zen.cli.stacks.check",
        "Say whether a stack works, what is wrong, and how to mend it",
        name,
        ARG_OUTPUT,
        ARG_VERBOSE,
        description="Write, read, list and delete a probe in the store, and ask MLflow. Exit code 1 where something fails.",
    )
    return GroupCommand(
        name="stack",
        help="Stacks: a store, an MLflow, and what is usual there",
        subcommands=(listing, show, use, check, *local_stack_commands()),
    )


_KINDS = ("local", "compose")
_DIRECTORY = argument("--directory", "Where the local stack keeps everything", default=".zen/stack")
_FILE = argument("--file", "The compose file; docker/compose.yaml of the repository where it is left out")
_KIND = argument(
    "kind",
    "The local stack, which is meant where it is left out, or that of containers",
    choices=_KINDS,
    nargs="?",
    default="local",
)


def local_stack_commands() -> tuple[ActionCommand, ...]:
    """Give the commands that start a stack, stop it and look at it."""
    up = lazy_command(
        "up",
        "airflow_zen.cli.stack_up.up",
        "Start a stack on this machine",
        argument("kind", "Processes of this machine, or containers", choices=_KINDS),
        argument("--s3", "Keep artifacts in an S3 server, which is started too", action="store_true"),
        argument(
            "--database",
            "SQLAlchemy URL of Airflow's metadata database, PostgreSQL or MySQL; SQLite in the directory where it is left out",
            metavar="URL",
        ),
        argument("--dags", "The DAGs folder; that of airflow.cfg where it is left out"),
        _DIRECTORY,
        argument("--set", "Environment variable for every part", metavar="NAME=VALUE", action="append"),
        argument("--timeout", "Seconds until everything must be ready", type=float, default=300),
        _FILE,
        description="Start Airflow and MLflow as background processes, or the containers of docker/. What runs stays.",
    )
    down = lazy_command(
        "down",
        "airflow_zen.cli.stack_up.down",
        "Stop exactly what `up` started",
        _KIND,
        _DIRECTORY,
        _FILE,
        description="Stop exactly what `up` started. Databases, artifacts, volumes and logs stay.",
    )
    status = lazy_command(
        "status",
        "airflow_zen.cli.stack_up.status",
        "Say what runs, and where",
        _KIND,
        _DIRECTORY,
        _FILE,
        ARG_OUTPUT,
        ARG_VERBOSE,
        description="Say what runs, and where. Exit code 1 unless everything runs.",
    )
    logs = lazy_command(
        "logs",
        "airflow_zen.cli.stack_up.logs",
        "Show the logs of a stack",
        argument("part", "The part, such as scheduler; all where it is left out", nargs="?"),
        argument("--follow", "Go on with what is written", action="store_true"),
        argument("--lines", "How many lines of each log", type=int, default=20),
        _DIRECTORY,
        argument("--compose", "The logs of the containers", action="store_true"),
        _FILE,
    )
    return up, down, status, logs
