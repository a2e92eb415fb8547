"""The metadata of this provider for Airflow: a pure dict, which is loaded before Airflow itself is ready."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the description of the provider in the schema of `airflow/provider_info.schema.json`."""
    return {
        "package-name": "airflow-provider-zen",
        "name": "Zen",
        "description": "ML pipelines on Airflow: typed artifacts, caching that is right, lineage in MLflow.",
        "task-decorators": [{"name": "ml_step", "class-name": "airflow_zen.decorators.ml_step.ml_step"}],
        "operators": [{"integration-name": "Zen", "python-modules": ["airflow_zen.operators.ml_step"]}],
        "sensors": [{"integration-name": "Zen", "python-modules": ["airflow_zen.sensors.model_version"]}],
        "triggers": [{"integration-name": "Zen", "python-modules": ["airflow_zen.sensors.model_version"]}],
        "hooks": [{"integration-name": "MLflow", "python-modules": ["airflow_zen.hooks.mlflow"]}],
        "connection-types": [_MLFLOW_CONNECTION],
        "asset-uris": [{"schemes": ["zen"], "handler": "airflow_zen.operators.assets.normalize_uri"}],
        "cli": ["airflow_zen.cli.command.get_zen_commands"],
        "extra-links": [
            f"airflow_zen.operators.links.{name}Link" for name in ("MlflowRun", "Artifacts", "Versions", "ProducedBy")
        ],
        "config": {"zen": {"description": "Artifacts, caching and lineage of ML steps.", "options": _OPTIONS}},
    }


def _text(example: str, description: str, default: str = "", kind: str = "string") -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example or None,
        "default": default,
        "sensitive": False,
    }


def _flag(default: str, description: str) -> dict[str, Any]:
    return _text("", description, default, "boolean")


_OPTIONS = {
    "artifact_root": _text(
        "s3://ml-artifacts/production",
        "Where artifacts, the step cache and step run records are stored: a path, or a URL that fsspec supports "
        "(s3://, gs://, az://). Empty: the folder 'zen' in AIRFLOW_HOME.",
    ),
    "artifact_conn_id": _text(
        "aws_default",
        "Airflow connection with the credentials for artifact_root. Empty: the credentials that the storage's own "
        "library finds in the worker's environment.",
    ),
    "mlflow_tracking_uri": _text(
        "http://mlflow:5000",
        "Address of the MLflow tracking server for lineage. Empty: MLFLOW_TRACKING_URI. Where that is empty too, "
        "lineage is kept in the artifact root only.",
    ),
    "mlflow_conn_id": _text(
        "mlflow_default",
        "Airflow connection of type 'mlflow'. It takes precedence over mlflow_tracking_uri and MLFLOW_* variables.",
    ),
    "lineage_trace": _flag(
        "True", "Send the lineage graph of each DAG run to MLflow as a trace too. MLflow draws traces as graphs."
    ),
    "respect_set_experiment": _flag(
        "False",
        "Let runs that a step's code starts go to the experiment that it names with mlflow.set_experiment. By default "
        "they stay in the experiment of the DAG. The step's own run always does.",
    ),
    "cache": _flag(
        "True",
        "Reuse the result of equal work. The option of a step, a DAG's default_args and a run's conf "
        '({"zen": {"cache": false}}) take precedence.',
    ),
    "cache_ttl": _text(
        "604800",
        "Seconds after which a result is computed again. Empty: results do not expire. Cache(ttl=…) of a step takes "
        "precedence.",
    ),
    "cache_scope": _text(
        "dag",
        "'shared': a step reuses the results of equal work in every DAG of this artifact root; 'dag': in its own "
        "DAG only. Cache(scope=…) of a step takes precedence.",
        "shared",
    ),
    "cache_packages": _flag(
        "True",
        "Include the versions of the libraries that a step's code uses in its cache key. Cache(packages=…) of a "
        "step takes precedence.",
    ),
    "allow_pickle": _flag(
        "False",
        "Store values that no other materializer supports with cloudpickle. Loading a pickle runs code from the "
        "artifact root: allow it only where everyone who can write there may run code on the workers.",
    ),
    "previews": _flag(
        "True",
        "Show the outputs of steps in MLflow: small pages and pictures of each artifact, made after the result is "
        "stored. Artifact(previews=…) of an output takes precedence.",
    ),
    "plan_page": _flag(
        "False",
        "Make plans for the pages in Airflow: `airflow zen plan`, which runs the code of a DAG file, in a process on the "
        "host of the API server. Allow it only where authors of DAGs may run code there.",
    ),
    "runtime": _text(
        "Virtualenv(['pandas<3', 'scikit-learn'])",
        "Where the functions of steps run that do not choose a runtime themselves, written as in Python; see "
        "docs/runtimes.md. Empty: in the process of the task.",
    ),
    "environments_dir": _text(
        "/var/cache/airflow-zen-environments",
        "Directory on the worker's own disk for the virtual environments of steps. Empty: AIRFLOW_HOME/zen-environments.",
    ),
    "environments_size": _text(
        "20G",
        "Bytes of all virtual environments of a worker, as if they shared no files; K, M, G and T stand for powers of 1024. "
        "The least recently used are deleted above it. Empty: 20G.",
    ),
    "deployments_dir": _text(
        "/var/lib/airflow-zen-deployments",
        "Directory on the worker's own disk of the deployment service, which serves the models of local deployments. Empty: "
        "AIRFLOW_HOME/zen-deployments.",
    ),
    "local_cache_dir": _text(
        "/var/cache/airflow-zen",
        "Directory on the worker's own disk that caches the files of a remote artifact_root for all tasks of the "
        "worker. Files are verified when they are downloaded. Empty: every task downloads what it reads.",
    ),
    "sync_to_disk": _flag(
        "True",
        "Whether artifacts, versions and records on a local artifact_root are on the disk, and not only in the system's "
        "memory, before a step has succeeded, so that a power loss does not damage them. It costs a step some waits for the "
        "disk. No effect on buckets.",
    ),
    "local_cache_size": _text(
        "100G",
        "Maximum size of local_cache_dir in bytes, such as 500M or 10G. The least recently used files are removed.",
        "10G",
    ),
    "stack": _text(
        "production",
        "The stack that is used where a run, a step or a DAG names no other. Empty: the one that 'active' in "
        "stacks_file names, or else 'default', which is the stack that this section describes.",
    ),
    "stacks_file": _text(
        "/etc/airflow/stacks.yaml",
        "YAML file of named stacks. Each has an artifact_root and connections, and may override other options of this "
        "section. Empty: stacks.yaml in AIRFLOW_HOME.",
    ),
}


def _field(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], **schema}}


_MLFLOW_CONNECTION = {
    "connection-type": "mlflow",
    "hook-class-name": "airflow_zen.hooks.mlflow.MlflowHook",
    "hook-name": "MLflow",
    "ui-field-behaviour": {
        "hidden-fields": ["schema"],
        "relabeling": {"host": "Tracking URI", "login": "User name", "password": "Password"},
        "placeholders": {
            "host": "https://mlflow.example.com",
            "port": "5000, where the tracking URI has no port",
            "login": "empty with a bearer token (Extra Fields), or without authentication",
        },
    },
    "conn-fields": {
        "token": _field(
            "Bearer token",
            "For a server, or a proxy in front of it, that requires a token. Leave user name empty.",
            format="password",
        ),
        "server_cert_path": _field(
            "CA bundle",
            "Path of a PEM file, on every machine that runs Airflow: the CA that signed the server's certificate.",
        ),
        "client_cert_path": _field(
            "Client certificate",
            "Path of a PEM file with a certificate and its key, on every machine that runs Airflow, where the server "
            "requires one.",
        ),
        "insecure_tls": {
            "label": "Trust any certificate",
            "description": "Anyone on the network path can then read the password. Prefer a CA bundle.",
            "schema": {"type": ["boolean", "null"], "default": False},
        },
        "workspace": _field("Workspace", "A workspace of the server. Empty: its default workspace."),
    },
}
