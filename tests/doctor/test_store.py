"""Promises of `airflow zen stack check` on real servers: each problem is reported with its remedy."""

import json
import re
import threading
import time
from argparse import Namespace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from airflow_zen.cli.stacks import check
from airflow_zen.config.settings import Settings
from airflow_zen.doctor.findings import FindingState
from airflow_zen.doctor.mlflow import mlflow_findings
from airflow_zen.doctor.store import store_findings
from tests.servers.mlflow_server import mlflow_server
from tests.servers.process import free_port


@pytest.fixture
def configure_store(monkeypatch):
    """Return a function that configures the default stack on an S3 server, with a wrong part on request."""

    def configure_store(server, root=None, **wrong):
        extra = {
            "region_name": "us-east-1",
            "endpoint_url": wrong.get("endpoint", server.endpoint),
            "config_kwargs": {},
        }
        connection = {
            "conn_type": "aws",
            "login": wrong.get("key", server.access_key),
            "password": wrong.get("secret", server.secret_key),
            "extra": extra,
        }
        monkeypatch.setenv("AIRFLOW_CONN_S3", json.dumps(connection))
        monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_CONN_ID", "s3")
        monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", root or f"{server.root}/checked")
        return Settings.read()

    return configure_store


def failed_findings(findings):
    """Return check, detail and remedy of each failed finding."""
    return [(f.check, f.detail, f.remedy) for f in findings if f.state is FindingState.FAILED]


@pytest.mark.server
def test_a_sound_store(ceph, configure_store):
    """Every check of a working store passes, and nothing is left in it."""
    settings = configure_store(ceph)
    found = {finding.check: finding.state for finding in store_findings(settings)}
    names = ("answers", "opens", "write", "read", "list", "byte ranges", "conditional create", "delete")
    assert found == dict.fromkeys(["clock", *(f"store {name}" for name in names)], FindingState.OK)
    assert "Contents" not in ceph.client().list_objects_v2(Bucket=ceph.bucket, Prefix="checked/")


@pytest.fixture
def configure_other_store(request, monkeypatch):
    """Return a function that configures the default stack on Azure's or Google's emulator."""

    def configure_store(kind, **wrong):
        server = request.getfixturevalue(kind)
        connection = {
            "azure": {
                "conn_type": "wasb",
                "host": server.endpoint,
                "login": "zen",
                "password": getattr(server, "key", ""),
            },
            "google": {
                "conn_type": "google_cloud_platform",
                "extra": {"is_anonymous": True, "gcs.endpoint": server.endpoint},
            },
        }[kind]
        root = wrong.pop("root", f"{server.root}/checked")
        monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(connection | wrong))
        monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_CONN_ID", "store")
        monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", root)
        return Settings.read()

    return configure_store


@pytest.mark.server
@pytest.mark.parametrize("kind", ["azure", "google"])
def test_a_sound_store_of_azure_or_google(configure_other_store, kind):
    """A store at another URL than Azure's or Google's own is checked there, and every check passes."""
    found = {finding.check: finding for finding in store_findings(configure_other_store(kind))}
    assert {finding.state for finding in found.values()} == {FindingState.OK}
    assert "127.0.0.1" in found["store answers"].detail


@pytest.mark.server
@pytest.mark.parametrize(
    ("kind", "wrong", "check", "remedy"),
    [
        ("azure", {"password": "d3Jvbmc="}, "store write", "Check the credentials in the connection"),
        ("azure", {"root": "az://no-such/x"}, "store write", "no bucket or container as in az://no-such/x"),
        ("azure", {"host": "http://127.0.0.1:9/zen"}, "store answers", "Correct the endpoint .* connection's host"),
        ("google", {"root": "gs://no-such/x"}, "store write", "no bucket or container as in gs://no-such/x"),
    ],
)
def test_problems_of_azure_or_google(configure_other_store, kind, wrong, check, remedy):
    """A wrong key, container or URL is reported on Azure and Google too, with the setting to fix."""
    [(found, _, way_out)] = failed_findings(store_findings(configure_other_store(kind, **wrong)))
    assert found == check
    assert re.search(remedy, way_out)


@pytest.mark.server
@pytest.mark.parametrize(
    ("wrong", "check", "told", "remedy"),
    [
        ({"key": "nobody"}, "store write", "InvalidAccessKeyId|AccessDenied", "Correct .*key.* in connection 's3'"),
        (
            {"secret": "wrong"},
            "store write",
            "SignatureDoesNotMatch|AccessDenied",
            "Correct .*secret.* in connection 's3'",
        ),
        ({"root": "s3://nosuch/p"}, "store write", "NoSuchBucket", "no bucket 'nosuch'"),
        ({"root": "nosuch://b/p"}, "store opens", "nosuch://b/p", "is of type 'aws'|Install"),
        ({"endpoint": "http://127.0.0.1:9"}, "store answers", "127.0.0.1:9", "Correct the endpoint"),
        ({"endpoint": "http://no.such.host.invalid"}, "store answers", "no.such.host", "Correct the endpoint"),
    ],
)
def test_problems_of_a_store(ceph, configure_store, wrong, check, told, remedy):
    """Each problem fails its own check, and is reported with its name, the remedy and the setting to change."""
    [(found, seen, way_out)] = failed_findings(store_findings(configure_store(ceph, **wrong)))
    assert found == check
    assert re.search(told, seen)
    assert re.search(remedy, way_out)


@pytest.mark.server
def test_a_read_only_key(ceph, configure_store):
    """A key without write permission is reported with the permissions it needs."""
    client = ceph.client()
    client.create_bucket(Bucket="closed")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::closed/*"}
    client.put_bucket_policy(Bucket="closed", Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    [(check, told, remedy)] = failed_findings(store_findings(configure_store(ceph, root="s3://closed/p")))
    assert (check, "AccessDenied" in told, "s3:PutObject" in remedy) == ("store write", True, True)


@pytest.mark.server
def test_a_wrong_clock(moto, configure_store):
    """A clock that differs from the store's by more than S3 allows fails; by a minute, it is a warning."""
    settings = configure_store(moto)
    off = {f.check: f.state for f in store_findings(settings, clock=lambda: time.time() + 3600)}
    odd = {f.check: f.state for f in store_findings(settings, clock=lambda: time.time() - 120)}
    assert (off["clock"], odd["clock"]) == (FindingState.FAILED, FindingState.WARNING)


@pytest.mark.server
def test_a_store_without_conditional_writes(rclone, configure_store):
    """A store that ignores conditions works, with a warning that equal concurrent steps all compute."""
    found = {finding.check: finding for finding in store_findings(configure_store(rclone))}
    assert found["store conditional create"].state is FindingState.WARNING
    assert found["store write"].state is found["store delete"].state is FindingState.OK
    assert found["store byte ranges"].state is FindingState.WARNING


@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        ("AuthorizationHeaderMalformed", "Set region_name in connection 's3'"),
        ("PermanentRedirect", "Set region_name in connection 's3'"),
        ("InvalidAccessKeyId", "Correct the key id in connection 's3'"),
        ("SignatureDoesNotMatch", "Correct the secret in connection 's3'"),
        ("RequestTimeTooSkewed", "clock is wrong"),
    ],
)
def test_error_codes_of_aws(code, way_out, configure_store, moto):
    """An error code of AWS is reported with its remedy and the setting to change."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.end_headers()

        def do_PUT(self):
            body = f"<Error><Code>{code}</Code><Region>eu-west-1</Region></Error>".encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        [(_, told, remedy)] = failed_findings(
            store_findings(configure_store(moto, endpoint=f"http://127.0.0.1:{server.server_port}"))
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert code in told
    assert way_out in remedy


def test_a_local_root_without_permission(tmp_path, monkeypatch):
    """A root in which no directory can be created is reported, and the option is named."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "file" / "root"))
    found = failed_findings(store_findings(Settings.read()))
    assert found
    assert "file" in found[0][1]


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """Configure an MLflow server by a connection."""

    def configure_mlflow(uri, login="", password=""):
        connection = {"conn_type": "mlflow", "host": uri, "login": login, "password": password}
        monkeypatch.setenv("AIRFLOW_CONN_MLFLOW", json.dumps(connection))
        monkeypatch.setenv("AIRFLOW__ZEN__MLFLOW_CONN_ID", "mlflow")
        monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "root"))
        return Settings.read()

    return configure_mlflow


@pytest.fixture(scope="module")
def mlflow_with_users(tmp_path_factory):
    """An MLflow with users that answers to the name localhost only; its port."""
    directory = tmp_path_factory.mktemp("guarded")
    config = directory / "basic_auth.ini"
    config.write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\nadmin_password = a-long-password-1\n"
        f"database_uri = sqlite:///{directory}/auth.db\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    told = {
        "MLFLOW_AUTH_ADMIN_PASSWORD": "a-long-password-1",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret",
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
    }
    options = ("--app-name", "basic-auth", "--allowed-hosts", "localhost:*")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        with mlflow_server(directory / "m", options=options) as server:
            yield server.port


@pytest.mark.server
def test_mlflow_with_a_wrong_host_name(mlflow_with_users, mlflow):
    """A server that refuses the host name, although its health is fine, is reported with the option that fixes it."""
    found = list(mlflow_findings(mlflow(f"http://127.0.0.1:{mlflow_with_users}", "admin", "a-long-password-1")))
    assert {f.check: f.state for f in found} == {
        "mlflow version": FindingState.OK,
        "mlflow answers": FindingState.FAILED,
    }
    assert "--allowed-hosts" in found[-1].remedy


@pytest.mark.server
def test_mlflow_with_users(mlflow_with_users, mlflow):
    """Correct credentials pass, with a warning about slow hashing; wrong ones are reported with the setting to change."""
    right = list(mlflow_findings(mlflow(f"http://localhost:{mlflow_with_users}", "admin", "a-long-password-1")))
    wrong = list(mlflow_findings(mlflow(f"http://localhost:{mlflow_with_users}", "admin", "wrong")))
    assert not failed_findings(right)
    assert any("as 'admin'" in finding.detail for finding in right)
    assert any(finding.check == "mlflow permission" for finding in right)
    assert "auth_cache_ttl_seconds" in next(finding.remedy for finding in right if finding.check == "mlflow speed")
    assert "login and password" in failed_findings(wrong)[0][2]


@pytest.mark.server
def test_a_server_that_is_not_mlflow(moto, mlflow):
    """Another server at MLflow's URL, an unavailable server and no server have different findings."""
    assert failed_findings(mlflow_findings(mlflow(moto.endpoint)))
    [(check, _, remedy)] = failed_findings(mlflow_findings(mlflow(f"http://127.0.0.1:{free_port()}")))
    assert (check, "Start the server" in remedy) == ("mlflow answers", True)


@pytest.mark.server
def test_a_failed_check_ends_with_one(moto, configure_store, capsys):
    """The command prints each finding, as JSON too, and its exit code is 1 if a check failed."""
    configure_store(moto)
    check.func(Namespace(stack=None, output="table", verbose=False))
    assert "mlflow_conn_id" in capsys.readouterr().out
    configure_store(moto, root="s3://nosuch/p")
    with pytest.raises(SystemExit) as ended:
        check.func(Namespace(stack=None, output="json", verbose=False))
    assert ended.value.code == 1
    found = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
    assert (found["store write"]["state"], found["store opens"]["state"]) == ("failed", "ok")
