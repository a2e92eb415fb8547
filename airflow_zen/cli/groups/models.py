"""`airflow zen models`."""

from __future__ import annotations

from airflow.cli.cli_config import ARG_OUTPUT, ARG_VERBOSE, GroupCommand

from airflow_zen.cli.groups.command import ARG_STACK, argument, lazy_command


def models_group() -> GroupCommand:
    """Give the commands about registered models."""
    listing = lazy_command(
        "list",
        "airflow_zen.cli.models.list_models",
        "List the registered models, or the versions of one",
        argument("name", "The model; all where it is left out", nargs="?"),
        ARG_STACK,
        ARG_OUTPUT,
        ARG_VERBOSE,
    )
    promote = lazy_command(
        "promote",
        "airflow_zen.cli.models.promote_model",
        "Point an alias at a version of a model",
        argument("name", "The registered model"),
        argument("version", "The version, a number"),
        argument("alias", "The alias, such as champion"),
        ARG_STACK,
        description="Point an alias at a version; a model or version that there is not is refused.",
    )
    return GroupCommand(name="models", help="Registered models in MLflow", subcommands=(listing, promote))
