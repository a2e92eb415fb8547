"""What Airflow learns about this provider; a pure dict, loaded before Airflow itself is ready."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Describe the provider in the schema of `airflow/provider_info.schema.json`."""
    return {
        "package-name": "airflow-provider-zen",
        "name": "Zen",
        "description": "ML pipelines on Airflow: typed artifacts, caching that is right, lineage in MLflow.",
        "task-decorators": [{"name": "ml_step", "class-name": "airflow_zen.decorators.ml_step.ml_step"}],
        "operators": [{"integration-name": "Zen", "python-modules": ["airflow_zen.operators.ml_step"]}],
        "hooks": [{"integration-name": "MLflow", "python-modules": ["airflow_zen.hooks.mlflow"]}],
        "connection-types": [_MLFLOW_CONNECTION],
        "asset-uris": [{"schemes": ["zen"], "handler": "airflow_zen.operators.assets.normalize_uri"}],
        "cli": ["airflow_zen.cli.definition.get_zen_commands"],
        "extra-links": ["airflow_zen.operators.links.MlflowRunLink"],
        "config": {"zen": {"description": "Artifacts, caching and lineage of ML steps.", "options": _OPTIONS}},
    }


def _option(description: str, kind: str, default: str | None, example: str | None) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example,
        "default": default,
        "sensitive": False,
    }


_OPTIONS = {
    "artifact_root": _option(
        "Where artifacts, the step cache and step run records lie: a path, or a URL that fsspec knows "
        "(s3://, gs://, az://). Empty: the folder 'zen' in AIRFLOW_HOME.",
        "string",
        "",
        "s3://ml-artifacts/production",
    ),
    "artifact_conn_id": _option(
        "Airflow connection with the credentials of artifact_root. Empty: the environment of the worker, "
        "as the storage's own library reads it.",
        "string",
        "",
        "aws_default",
    ),
    "mlflow_tracking_uri": _option(
        "Address of the MLflow tracking server that shows lineage. Empty: MLFLOW_TRACKING_URI; if that is "
        "empty too, lineage is kept in the artifact root only.",
        "string",
        "",
        "http://mlflow:5000",
    ),
    "mlflow_conn_id": _option(
        "Airflow connection of type 'mlflow'; it takes the place of mlflow_tracking_uri and of MLFLOW_* variables.",
        "string",
        "",
        "mlflow_default",
    ),
    "lineage_trace": _option(
        "Enter the lineage graph of each DAG run into MLflow as a trace too, whose graph view MLflow draws itself.",
        "boolean",
        "True",
        None,
    ),
    "cache": _option(
        "Reuse the result of equal work. A step, a DAG's default_args or a run's conf "
        '({"zen": {"cache": false}}) may say otherwise.',
        "boolean",
        "True",
        None,
    ),
    "cache_ttl": _option(
        "Seconds after which a result is computed anew; empty: results do not age. Cache(ttl=…) of a step says otherwise.",
        "string",
        "",
        "604800",
    ),
    "cache_scope": _option(
        "'shared': a step reuses the results of equal work in every DAG of this artifact root; 'dag': of its own "
        "DAG only. Cache(scope=…) of a step says otherwise.",
        "string",
        "shared",
        "dag",
    ),
    "cache_packages": _option(
        "Let the versions of the libraries that a step's code names decide about reuse. Cache(packages=…) of a "
        "step says otherwise.",
        "boolean",
        "True",
        None,
    ),
    "allow_pickle": _option(
        "Let values that no other materializer knows be stored with cloudpickle. Loading a pickle runs code "
        "from the artifact root: allow it only where everyone who can write there may run code on the workers.",
        "boolean",
        "False",
        None,
    ),
}

_OPTIONS |= {
    "previews": _option(
        "Show what steps return in MLflow: small pages and pictures beside each artifact, made after the result is "
        "stored. Artifact(previews=…) of an output says otherwise.",
        "boolean",
        "True",
        None,
    ),
    "local_cache_dir": _option(
        "Directory on the worker's own disk that keeps the files of a remote artifact_root, for all tasks of the "
        "worker; verified when they arrive. Empty: every task downloads what it reads.",
        "string",
        "",
        "/var/cache/airflow-zen",
    ),
    "local_cache_size": _option(
        "How many bytes local_cache_dir may hold, such as 500M or 10G; what was not used for longest is removed.",
        "string",
        "10G",
        "100G",
    ),
}

_OPTIONS |= {
    "stack": _option(
        "The stack that is used where a run, a step or a DAG asks for none. Empty: the one that 'active' names in "
        "stacks_file; 'default', the stack that this section itself describes, where it names none.",
        "string",
        "",
        "production",
    ),
    "stacks_file": _option(
        "YAML file of named stacks, each with an artifact_root, connections and what else of this section it says "
        "otherwise. Empty: stacks.yaml in AIRFLOW_HOME.",
        "string",
        "",
        "/etc/airflow/stacks.yaml",
    ),
}


def _text(label: str, description: str, kind: str = "") -> dict[str, Any]:
    schema = {"type": ["string", "null"]} | ({"format": kind} if kind else {})
    return {"label": label, "description": description, "schema": schema}


_MLFLOW_CONNECTION = {
    "connection-type": "mlflow",
    "hook-class-name": "airflow_zen.hooks.mlflow.MlflowHook",
    "hook-name": "MLflow",
    "ui-field-behaviour": {
        "hidden-fields": ["schema"],
        "relabeling": {"host": "Tracking URI", "login": "User name", "password": "Password"},
        "placeholders": {
            "host": "https://mlflow.example.com",
            "port": "5000, where the tracking URI does not say it",
            "login": "empty with a bearer token (Extra Fields), or where everyone may write",
        },
    },
    "conn-fields": {
        "token": _text(
            "Bearer token", "For a server, or a proxy before it, that takes a token. Leave user name empty.", "password"
        ),
        "server_cert_path": _text(
            "CA bundle",
            "Path of a PEM file, on every machine that runs Airflow: the CA that signed the server's certificate.",
        ),
        "client_cert_path": _text(
            "Client certificate",
            "Path of a PEM file with a certificate and its key, on every machine that runs Airflow, where the server asks for one.",
        ),
        "insecure_tls": {
            "label": "Trust any certificate",
            "description": "Whoever is in between can then read the password. A CA bundle is better.",
            "schema": {"type": ["boolean", "null"], "default": False},
        },
        "workspace": _text("Workspace", "Where the server has workspaces; its default one where this is empty."),
    },
}
