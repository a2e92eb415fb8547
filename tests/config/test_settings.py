"""Promises of `airflow_zen.config.settings`."""

import pytest

from airflow_zen import Cache
from airflow_zen.config.settings import Settings, open_stack, storage_options, tracking_server
from airflow_zen.errors import SettingsError
from airflow_zen.runs.step_run import StepRun, StepRunId


@pytest.fixture
def set_options(monkeypatch):
    """Set options of `[zen]` through the environment."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("AIRFLOW__ZEN__SYNC_TO_DISK")
    return lambda **options: [monkeypatch.setenv(f"AIRFLOW__ZEN__{n.upper()}", v) for n, v in options.items()]


def test_nothing_configured_works(set_options, tmp_path, monkeypatch):
    """Without configuration, artifacts are stored under AIRFLOW_HOME, the cache is on, and pickle is not allowed."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    by_default = Cache(packages=True, scope="shared")
    assert Settings.read() == Settings(f"{tmp_path}/zen", cache=True, cache_defaults=by_default, allow_pickle=False)
    assert tracking_server(Settings.read()) is None


def test_options_are_read_from_the_environment(set_options):
    """Each option is read from `AIRFLOW__ZEN__*`."""
    set_options(artifact_root="s3://b/p/", cache="False", allow_pickle="true", mlflow_tracking_uri="http://mlflow:5000")
    settings = Settings.read()
    assert (settings.artifact_root, settings.cache, settings.allow_pickle) == ("s3://b/p", False, True)
    assert tracking_server(settings).uri == "http://mlflow:5000"


def test_a_local_root_survives_a_power_loss(set_options, tmp_path):
    """Without configuration what a local root stores is written to the disk; `[zen] sync_to_disk` switches this off."""
    set_options(artifact_root=str(tmp_path))
    assert open_stack().store.transport.syncs_to_disk
    set_options(sync_to_disk="False")
    assert not open_stack().store.transport.syncs_to_disk


def test_previews_can_be_switched_off(set_options, tmp_path):
    """`[zen] previews` reaches the stack; without it there are previews."""
    set_options(artifact_root=str(tmp_path))
    assert open_stack().previews is True
    set_options(previews="False")
    assert open_stack().previews is False


def test_mlflow_is_found_by_its_own_variable(set_options, monkeypatch):
    """Where `[zen]` names no server, MLFLOW_TRACKING_URI does."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert tracking_server(Settings.read()).uri == "http://elsewhere:5000"


def test_an_invalid_flag_names_the_option(set_options):
    """The error for a flag that is neither true nor false names the option."""
    set_options(cache="perhaps")
    with pytest.raises(SettingsError, match=r"\[zen\] cache"):
        Settings.read()


def test_cache_defaults_are_read_and_checked(set_options):
    """`[zen] cache_*` are the defaults of a step's `Cache`; the error for an invalid value names the option."""
    set_options(cache_ttl="3600", cache_scope="dag", cache_packages="False")
    assert Settings.read().cache_defaults == Cache(ttl=3600, scope="dag", packages=False)
    for wrong in ({"cache_ttl": "a week"}, {"cache_ttl": "0"}, {"cache_ttl": "3600", "cache_scope": "team"}):
        set_options(**wrong)
        with pytest.raises(SettingsError, match=r"\[zen\] cache_"):
            Settings.read()


def test_a_tracking_uri_without_a_server_fails_no_step(set_options, tmp_path, caplog):
    """A tracking URI that is not a server's is logged as a warning that names the remedy."""
    set_options(artifact_root=str(tmp_path), mlflow_tracking_uri="sqlite:///mlflow.db")
    assert open_stack().lineage.start(StepRun(StepRunId("d", "r", "t"))).run_id == ""
    assert "mlflow server" in caplog.text


def test_unknown_connection_names_the_option(set_options, tmp_path):
    """The error for a missing connection names the connection and its option."""
    set_options(artifact_root="s3://b/p", artifact_conn_id="nosuch")
    with pytest.raises(SettingsError, match=r"artifact_conn_id names connection 'nosuch'"):
        open_stack()


def test_s3_credentials_come_from_the_connection(set_options, monkeypatch):
    """An `aws` connection gives key, secret, endpoint and region to the store."""
    set_options(artifact_root="s3://b/p", artifact_conn_id="s3")
    monkeypatch.setenv(
        "AIRFLOW_CONN_S3",
        '{"conn_type": "aws", "login": "id", "password": "hush",'
        ' "extra": {"endpoint_url": "http://127.0.0.1:9", "region_name": "eu-west-1"}}',
    )
    assert storage_options(Settings.read()) == {
        "key": "id",
        "secret": "hush",
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:9", "region_name": "eu-west-1"},
    }


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        ('{"conn_type": "http"}', "of type 'http'"),
        (
            '{"conn_type": "aws", "extra": {"role_arn": "r", "assume_role_method": "assume_role_with_saml"}}',
            "by 'assume_r",
        ),
    ],
)
def test_unsupported_connections_are_refused(set_options, monkeypatch, connection, reason):
    """A connection of another type, or with an unsupported field, is refused; the error names the remedy."""
    set_options(artifact_root="s3://b/p", artifact_conn_id="c")
    monkeypatch.setenv("AIRFLOW_CONN_C", connection)
    with pytest.raises(SettingsError, match=reason):
        storage_options(Settings.read())


@pytest.mark.parametrize(
    ("connection", "uri"),
    [
        ('{"conn_type": "mlflow", "host": "https://mlflow.example/base/"}', "https://mlflow.example/base"),
        ('{"conn_type": "mlflow", "host": "mlflow", "port": 5000}', "http://mlflow:5000"),
        ('{"conn_type": "mlflow", "host": "mlflow", "schema": "https"}', "https://mlflow"),
    ],
)
def test_mlflow_connection(set_options, monkeypatch, connection, uri):
    """An `mlflow` connection has the server's URI, or its host, port and schema."""
    set_options(mlflow_conn_id="m", mlflow_tracking_uri="http://ignored:1")
    monkeypatch.setenv("AIRFLOW_CONN_M", connection)
    assert tracking_server(Settings.read()).uri == uri


def test_mlflow_credentials_are_hidden(set_options, monkeypatch):
    """User, password and token of the connection are in the server's record, and not in its repr."""
    set_options(mlflow_conn_id="m")
    monkeypatch.setenv(
        "AIRFLOW_CONN_M",
        '{"conn_type": "mlflow", "host": "m", "login": "ann", "password": "hush", "extra": {"token": "hush2"}}',
    )
    server = tracking_server(Settings.read())
    assert (server.username, server.password, server.token) == ("ann", "hush", "hush2")
    assert "hush" not in repr(server)


def test_local_cache_is_for_remote_roots(set_options, tmp_path):
    """The cache directory and its size are read from the options, and used for a remote root only."""
    set_options(artifact_root="s3://b/p", local_cache_dir=str(tmp_path / "cache"), local_cache_size="2g")
    assert Settings.read().local_cache_size == 2 * 1024**3
    assert open_stack().store.temporary_directory().is_relative_to(tmp_path / "cache")
    set_options(artifact_root=str(tmp_path / "root"))
    assert not open_stack().store.temporary_directory().is_relative_to(tmp_path / "cache")
    set_options(local_cache_size="much")
    with pytest.raises(SettingsError, match="local_cache_size must be bytes"):
        Settings.read()


@pytest.fixture
def stacks(set_options, tmp_path, monkeypatch):
    """Two named stacks in AIRFLOW_HOME, beside the default one."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    set_options(artifact_root="/default/root", mlflow_tracking_uri="http://default:5000", cache_ttl="60", cache="False")
    file = tmp_path / "stacks.yaml"
    file.write_text(
        "stacks:\n"
        "  production: {artifact_root: 's3://ml/production/', artifact_conn_id: s3, mlflow_conn_id: mlflow, cache: true}\n"
        "  scratch: {artifact_root: /scratch, cache_scope: dag, local_cache_size: 1G}\n"
    )
    return file


def test_a_named_stack_has_its_own_location_and_shares_defaults(stacks):
    """A named stack shares no location option with `[zen]`; its other options take precedence over `[zen]`."""
    production, scratch = Settings.read("production"), Settings.read("scratch")
    assert (production.stack, production.artifact_root) == ("production", "s3://ml/production")
    assert (production.artifact_conn_id, production.mlflow_conn_id) == ("s3", "mlflow")
    assert production.mlflow_tracking_uri == ""
    assert (production.cache, scratch.cache) == (True, False)
    assert (scratch.cache_defaults.ttl, scratch.cache_defaults.scope) == (60, "dag")
    assert scratch.local_cache_size == 1024**3
    assert tracking_server(scratch) is None


def test_mlflow_of_the_environment_belongs_to_the_default_stack(stacks, monkeypatch):
    """MLFLOW_TRACKING_URI is never used for a named stack, whose lineage would mix with another's."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://laptop:5000")
    assert Settings.read("scratch").mlflow_tracking_uri == ""


def test_the_active_stack(stacks, set_options):
    """Without a name the active stack is read: `[zen] stack`, else `active` of the file, else the default stack."""
    assert Settings.read().stack == "default"
    stacks.write_text(f"active: scratch\n{stacks.read_text()}")
    assert Settings.read().artifact_root == "/scratch"
    set_options(stack="production")
    assert Settings.read().stack == "production"
    assert Settings.read("default").artifact_root == "/default/root"


def test_an_unknown_stack_is_refused_with_the_known_ones(stacks, set_options):
    """The error for an unknown name lists the known names and the file in which to define it."""
    with pytest.raises(
        SettingsError, match=r"no stack 'prod'; known are 'default', 'production', 'scratch'(.|\n)*stacks.yaml"
    ):
        Settings.read("prod")
    set_options(stacks_file="/no/such/stacks.yaml")
    with pytest.raises(SettingsError, match=r"\[zen\] stacks_file"):
        Settings.read()


def test_errors_name_the_stack(stacks):
    """An error in a named stack names the stack."""
    stacks.write_text("stacks: {a: {artifact_root: /r, cache: perhaps, artifact_conn_id: nosuch}}")
    with pytest.raises(SettingsError, match="cache of stack 'a' must be true or false"):
        Settings.read("a")
    stacks.write_text("stacks: {a: {artifact_root: s3://r, artifact_conn_id: nosuch}}")
    with pytest.raises(SettingsError, match="artifact_conn_id of stack 'a' names connection 'nosuch'"):
        open_stack(Settings.read("a"))
