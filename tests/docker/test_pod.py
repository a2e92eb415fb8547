"""The pod of KubernetesExecutor for a step, made by Airflow's own code; its command runs without a cluster."""

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from airflow.executors.base_executor import BaseExecutor
from airflow.executors.workloads import ExecuteTask
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator, workload_to_command_args
from kubernetes.client import ApiClient

from tests.docker.compose import DOCKER
from tests.servers.process import free_port, running

TEMPLATE = DOCKER / "pod-template.yaml"
DAG = """
from datetime import datetime

import pandas as pd
from airflow.sdk import dag
from kubernetes.client import models as k8s

from airflow_zen import ml_step

LARGE = k8s.V1Pod(
    spec=k8s.V1PodSpec(
        containers=[
            k8s.V1Container(
                name="base",
                resources=k8s.V1ResourceRequirements(
                    requests={"cpu": "8", "memory": "32Gi"},
                    limits={"memory": "32Gi", "nvidia.com/gpu": "1"},
                ),
            )
        ],
        node_selector={"pool": "gpu"},
    )
)


@ml_step(executor_config={"pod_override": LARGE})
def train(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"n": range(rows)})


@dag(dag_id="in_pods", schedule=None, start_date=datetime(2026, 1, 1))
def in_pods():
    train(10)


in_pods()
"""


@pytest.fixture(scope="module")
def dags(tmp_path_factory):
    """A folder with a DAG whose step overrides its pod."""
    folder = tmp_path_factory.mktemp("dags")
    (folder / "in_pods.py").write_text(DAG)
    return folder


@pytest.fixture(scope="module")
def queued(airflow_db, dags):
    """The step's queued task: its workload for the executor, and the step's override."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType

    with create_session() as session:
        session.merge(DagBundleModel(name="dags-folder"))
    sync_bag_to_db(DagBag(dag_folder=dags), "dags-folder", None)
    with create_session() as session:
        run = trigger_dag("in_pods", triggered_by=DagRunTriggeredByType.TEST, session=session)
        (task,) = run.get_task_instances(session=session)
        task.state = TaskInstanceState.QUEUED
        session.flush()
        workload = ExecuteTask.make(task, dag_rel_path=Path("in_pods.py"), generator=BaseExecutor().jwt_generator)
        return workload, task.executor_config


@pytest.fixture(scope="module")
def pod(queued):
    """The pod as the executor builds it: the template, then the task, then the step's override."""
    workload, asked = queued
    return PodGenerator.construct_pod(
        dag_id="in_pods",
        task_id="train",
        pod_id="in-pods-train",
        try_number=1,
        kube_image="registry.example.com/airflow-zen:0.1.0",
        date=None,
        run_id=workload.ti.run_id,
        args=workload_to_command_args(workload),
        pod_override_object=PodGenerator.from_obj(asked),
        base_worker_pod=PodGenerator.deserialize_model_file(str(TEMPLATE)),
        namespace="airflow",
        scheduler_job_id="1",
    )


def test_the_template_is_a_pod():
    """The template is valid by Kubernetes' own schema, without unknown fields."""
    kubernetes_validate.validate(yaml.safe_load(TEMPLATE.read_text()), "1.33", strict=True)


def test_the_pod_of_a_step_is_valid_and_has_its_override(pod):
    """Template, task and `pod_override` make one valid pod; the step's override takes precedence, the rest of the template stays."""
    sent = ApiClient().sanitize_for_serialization(pod)
    kubernetes_validate.validate(sent, "1.33", strict=True)
    (container,) = sent["spec"]["containers"]
    assert container["image"] == "registry.example.com/airflow-zen:0.1.0"
    assert container["resources"]["limits"] == {"memory": "32Gi", "nvidia.com/gpu": "1"}
    assert sent["spec"]["nodeSelector"] == {"pool": "gpu"}
    assert container["args"][:3] == ["python", "-m", "airflow.sdk.execution_time.execute_workload"]
    named = {one["name"] for one in container["env"]}
    assert {"AIRFLOW__ZEN__ARTIFACT_ROOT", "AIRFLOW_CONN_ARTIFACTS", "AIRFLOW_IS_K8S_EXECUTOR_POD"} <= named
    assert not {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__FERNET_KEY"} & named
    assert all("emptyDir" in volume for volume in sent["spec"]["volumes"])


def test_a_step_with_a_pod_override_serializes_stably(dags):
    """The serialized DAG is the same in every process, and contains the step's override."""
    code = (
        "import json\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        "from airflow.models.serialized_dag import SerializedDagModel\n"
        "from airflow.serialization.serialized_objects import DagSerialization\n"
        f"bag = DagBag(dag_folder={str(dags)!r})\n"
        "written = DagSerialization.to_dict(bag.dags['in_pods'])\n"
        "version = SerializedDagModel.hash(written), 'nvidia.com/gpu' in json.dumps(written)\n"
    )
    here = {}
    exec(code, here)
    done = subprocess.run([sys.executable, "-c", f"{code}print(version)"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(here["version"])
    assert here["version"][1]


@pytest.fixture
def api_server(airflow_db, tmp_path):
    """Airflow's API server, the only part of Airflow that a task's pod uses."""
    port = free_port()
    command = [sys.executable, "-m", "airflow", "api-server", "--apps", "execution", "--host", "127.0.0.1"]
    with running(
        [*command, "--port", str(port), "--workers", "1"],
        log=tmp_path / "api-server.out",
        answers=lambda: _answers(f"http://127.0.0.1:{port}/execution/health"),
        timeout=240,
    ):
        yield f"http://127.0.0.1:{port}/execution/"


def test_the_command_of_the_pod_runs(queued, pod, dags, api_server, ceph, tmp_path):
    """The pod's command, with only the pod's environment, runs the step: artifact and log are in S3, and nowhere else."""
    workload, _ = queued
    for bucket in ("artifacts", "logs"):
        ceph.client().create_bucket(Bucket=bucket)
    secrets = {
        "artifacts": {
            "conn_type": "aws",
            "login": ceph.access_key,
            "password": ceph.secret_key,
            "extra": {"endpoint_url": ceph.endpoint, "region_name": "us-east-1"},
        },
        "mlflow": {"conn_type": "mlflow", "host": "http://127.0.0.1:1"},
    }
    (container,) = ApiClient().sanitize_for_serialization(pod)["spec"]["containers"]
    told = {one["name"]: one.get("value") or _secret(one, secrets) for one in container["env"]}
    # The two that name what lies elsewhere in a cluster.
    told |= {
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": api_server,
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
    }
    home = {"AIRFLOW_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, *container["args"][1:]], env=told | home, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert _state(workload.ti.id) == "success"
    stored = [entry["Key"] for entry in ceph.client().list_objects_v2(Bucket="artifacts")["Contents"]]
    assert [key for key in stored if key.endswith("manifest.json")]
    assert [key for key in stored if key.startswith("production/runs/in_pods/")]
    assert ceph.client().list_objects_v2(Bucket="logs")["KeyCount"] == 1
    assert not (tmp_path / "home" / "zen").exists()
    assert not list((tmp_path / "home").glob("*.db"))


def _secret(one, secrets):
    reference = one["valueFrom"]["secretKeyRef"]
    assert reference["name"] == "airflow-connections"
    return json.dumps(secrets[reference["key"]])


def _state(task_instance_id):
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        return session.get(TaskInstance, task_instance_id).state


def _answers(url):
    with suppress(OSError), urllib.request.urlopen(url, timeout=30) as answer:
        return answer.status == 200
    return False
