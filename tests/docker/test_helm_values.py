"""Checks of the chart's values without the chart."""

import json

import pytest
import yaml
from airflow.sdk import Connection

from airflow_zen.get_provider_info import get_provider_info
from airflow_zen.transports.credentials import fsspec_options
from tests.docker.compose import DOCKER, REPOSITORY

FILES = ["helm-values.yaml", "helm-values-celery.yaml"]
# Declared by values.schema.json of chart 1.22.0, against which both files were held, and which Helm 4.2 rendered with them.
VERIFIED = {
    "airflowVersion",
    "apiSecretKeySecretName",
    "config.logging.remote_base_log_folder",
    "config.logging.remote_log_conn_id",
    "config.logging.remote_logging",
    "createUserJob.enabled",
    "dags.gitSync.enabled",
    "dags.gitSync.ref",
    "dags.gitSync.repo",
    "dags.gitSync.subPath",
    "dags.persistence.enabled",
    "data.brokerUrlSecretName",
    "data.metadataSecretName",
    "data.resultBackendSecretName",
    "defaultAirflowRepository",
    "defaultAirflowTag",
    "env.name",
    "env.value",
    "executor",
    "fernetKeySecretName",
    "jwtSecretName",
    "logs.persistence.enabled",
    "postgresql.enabled",
    "redis.enabled",
    "secret.envName",
    "secret.secretKey",
    "secret.secretName",
    "triggerer.persistence.enabled",
    "workers.celery.env.name",
    "workers.celery.env.value",
    "workers.celery.extraVolumeMounts.mountPath",
    "workers.celery.extraVolumeMounts.name",
    "workers.celery.extraVolumes.emptyDir.sizeLimit",
    "workers.celery.extraVolumes.name",
    "workers.celery.persistence.enabled",
    "workers.celery.replicas",
    "workers.celery.resources.limits.memory",
    "workers.celery.resources.requests.cpu",
    "workers.celery.resources.requests.memory",
    "workers.celery.terminationGracePeriodSeconds",
    "workers.kubernetes.resources.limits.memory",
    "workers.kubernetes.resources.requests.cpu",
    "workers.kubernetes.resources.requests.memory",
    "workers.kubernetes.terminationGracePeriodSeconds",
}


def read(name):
    return yaml.safe_load((DOCKER / name).read_text())


def keys(values, before=""):
    """Yield every key, including those in lists."""
    for name, value in values.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from keys(inner, f"{before}{name}.")
            else:
                yield f"{before}{name}"


@pytest.mark.parametrize("name", FILES)
def test_every_key_was_verified(name):
    """Every key was verified with the chart: Helm silently ignores an unknown key."""
    assert set(keys(read(name))) - VERIFIED == set()


def test_every_verified_key_is_used():
    """The list of verified keys contains only keys that the files use."""
    assert {key for name in FILES for key in keys(read(name))} == VERIFIED


def test_the_image_and_the_version_are_those_of_the_other_files():
    """The image has the name in the compose file, and the version of Airflow in its Dockerfile."""
    compose, values = (DOCKER / "compose.yaml").read_text(), read("helm-values.yaml")
    assert f":-{values['defaultAirflowRepository']}:{values['defaultAirflowTag']}}}" in compose
    assert f"apache-airflow=={values['airflowVersion']} " in (DOCKER / "Dockerfile").read_text()


def test_the_image_has_what_the_executors_need():
    """Each executor in the files is in a provider that the image contains."""
    text = (DOCKER / "Dockerfile").read_text()
    needed = {"KubernetesExecutor": "cncf-kubernetes", "CeleryExecutor": "celery"}
    for name in FILES:
        assert f"apache-airflow-providers-{needed[read(name)['executor']]} " in text


@pytest.mark.parametrize("name", [*FILES, "pod-template.yaml"])
def test_environment_names_options_that_exist(name):
    """Each `AIRFLOW__…` variable is an option that this provider or Airflow declares."""
    from airflow.configuration import conf

    ours = get_provider_info()["config"]["zen"]["options"]
    named = [text for text in _scalars(read(name)) if text.startswith("AIRFLOW__")]
    assert named
    for text in named:
        _, section, option = text.split("__")
        declared = ours if section == "ZEN" else conf.configuration_description[section.lower()]["options"]
        assert option.lower() in declared, text


def test_logging_options_exist():
    """Each option in airflow.cfg is one that Airflow declares."""
    from airflow.configuration import conf

    for section, options in read("helm-values.yaml")["config"].items():
        assert set(options) - set(conf.configuration_description[section]["options"]) == set()


def test_the_connections_in_the_docs_are_valid():
    """Airflow can parse the connections in docs/kubernetes.md, and they open a store and MLflow."""
    text = (REPOSITORY / "docs" / "kubernetes.md").read_text()
    written = dict(
        line.strip(" '\\").split("=", 2)[1:] for line in text.splitlines() if "--from-literal=artifacts=" in line
    )
    written |= dict(
        line.strip(" '\\").split("=", 2)[1:] for line in text.splitlines() if "--from-literal=mlflow=" in line
    )
    secret = {one["envName"]: one["secretKey"] for one in read("helm-values.yaml")["secret"]}
    assert secret == {"AIRFLOW_CONN_ARTIFACTS": "artifacts", "AIRFLOW_CONN_MLFLOW": "mlflow"}
    parsed = {name: Connection.from_json(value.strip("'"), conn_id=name) for name, value in written.items()}
    options = fsspec_options(parsed["artifacts"])
    assert (options["key"], options["client_kwargs"]["region_name"]) == ("ACCESS_KEY", "eu-west-1")
    assert parsed["mlflow"].conn_type == "mlflow"
    json.loads(written["mlflow"].strip("'"))


@pytest.mark.parametrize("name", FILES)
def test_no_persistent_volume(name):
    """No service of Airflow has a persistent volume."""
    for key in keys(read(name)):
        if key.endswith("persistence.enabled"):
            value = read(name)
            for part in key.split("."):
                value = value[part]
            assert value is False


def test_no_secret_is_in_the_values():
    """The values contain only the names of secrets, which are Secrets of the cluster."""
    for name in FILES:
        for key in keys(read(name)):
            assert not key.lower().endswith(("password", "pass", "key")) or key == "secret.secretKey", key


def _scalars(values):
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from _scalars(value)
    else:
        yield str(values)
