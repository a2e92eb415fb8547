"""`airflow zen stack`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, GroupCommand

from airflow_zen.cli.groups.command import argument, lazy_command
from airflow_zen.cli.groups.stack_running import local_stack_commands


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
