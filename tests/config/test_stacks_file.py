"""Promises of `airflow_zen.config.stacks_file`."""

import pytest

from airflow_zen.config.stacks_file import StacksFile, read_stacks, set_active_stack
from airflow_zen.errors import SettingsError

OPTIONS = {"artifact_root", "artifact_conn_id", "cache"}
STACKS_YAML = """\
# Who changes this tells the team.
stacks:
  production:
    artifact_root: s3://ml/production   # versioned bucket
    cache: true
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "stacks.yaml"
    path.write_text(STACKS_YAML)
    return path


def test_a_file_that_is_not_there_names_no_stack(tmp_path):
    """Without a file there are no named stacks, and that is no error."""
    assert read_stacks(tmp_path / "stacks.yaml", OPTIONS).stacks == {}


def test_stacks_are_read_with_their_options(path):
    """Each stack is read with the options it sets."""
    assert read_stacks(path, OPTIONS).stacks == {"production": {"artifact_root": "s3://ml/production", "cache": True}}


def test_the_active_stack_is_written_and_all_else_stays(path):
    """Choosing a stack changes one line; comments, order, layout and permissions stay as they were."""
    path.chmod(0o640)
    set_active_stack(read_stacks(path, OPTIONS), "production", OPTIONS)
    assert path.read_text() == f"active: production\n{STACKS_YAML}"
    set_active_stack(read_stacks(path, OPTIONS), "default", OPTIONS)
    assert path.read_text() == f"active: default\n{STACKS_YAML}"
    assert read_stacks(path, OPTIONS).active == "default"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in path.parent.iterdir()] == ["stacks.yaml"]


def test_a_link_stays_a_link(path, tmp_path):
    """Where stacks.yaml is a link, the file it leads to is changed."""
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    set_active_stack(read_stacks(link, OPTIONS), "production", OPTIONS)
    assert link.is_symlink()
    assert "active: production" in path.read_text()


def test_what_cannot_be_changed_safely_is_left_alone(path):
    """A file in a layout where one line cannot be changed is not touched, and the line to write is told."""
    path.write_text("{stacks: {production: {artifact_root: /r}}}")
    with pytest.raises(SettingsError, match="not YAML"):
        set_active_stack(read_stacks(path, OPTIONS), "production", OPTIONS)
    path.write_text("stacks: {}\nactive: &name |\n  default\n")
    with pytest.raises(SettingsError):
        set_active_stack(StacksFile(path, {}, "default"), "production", OPTIONS)
    assert "&name" in path.read_text()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("stacks: [", "is not YAML"),
        ("- production", "must hold 'stacks"),
        ("stack: {}", "must hold 'stacks"),
        ("stacks: [a]", "mapping of names"),
        ("stacks: {default: {artifact_root: /r}}", "Give this one another name"),
        ("stacks: {'a b': {artifact_root: /r}}", "a name consists of letters"),
        ("stacks: {a: {cache: true}}", "must set artifact_root"),
        ("stacks: {a: }", "must set artifact_root"),
        (
            "stacks: {a: {artifact_root: /r, password: x}}",
            r"no option 'password'(.|\n)*Put secrets into the connections",
        ),
        ("stacks: {a: {artifact_root: [/r]}}", "takes one value"),
        ("stacks: {a: {artifact_root: 's3://key:secret@host/bucket'}}", "contains credentials"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(path, text, reason):
    """A file that cannot be used is named, with what is wrong in it and what belongs there."""
    path.write_text(text)
    with pytest.raises(SettingsError, match=reason):
        read_stacks(path, OPTIONS)
