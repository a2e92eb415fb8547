"""Promises of `airflow_zen.config.options` on the file of named stacks."""

import pytest

from airflow_zen.config.options import read_stacks, set_active_stack
from airflow_zen.errors import SettingsError

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


def test_a_missing_file_has_no_stacks(tmp_path):
    """A missing file means no named stacks, and is not an error."""
    assert read_stacks(tmp_path / "stacks.yaml").stacks == {}


def test_stacks_are_read_with_their_options(path):
    """Each stack is read with the options it sets."""
    assert read_stacks(path).stacks == {"production": {"artifact_root": "s3://ml/production", "cache": True}}


def test_setting_the_active_stack_changes_one_line(path):
    """Choosing a stack changes one line; comments, order, layout and permissions stay as they were."""
    path.chmod(0o640)
    set_active_stack(read_stacks(path), "production")
    assert path.read_text() == f"active: production\n{STACKS_YAML}"
    set_active_stack(read_stacks(path), "default")
    assert path.read_text() == f"active: default\n{STACKS_YAML}"
    assert read_stacks(path).active == "default"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in path.parent.iterdir()] == ["stacks.yaml"]


def test_a_link_stays_a_link(path, tmp_path):
    """Where stacks.yaml is a link, its target is changed."""
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    set_active_stack(read_stacks(link), "production")
    assert link.is_symlink()
    assert "active: production" in path.read_text()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("stacks: [", "is not YAML"),
        pytest.param("stacks: " + "[" * 3000, "is not YAML: brackets are nested more than 20 times", id="brackets"),
        pytest.param("- " * 3000, "is not YAML: maximum recursion depth", id="dashes"),
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
        ("stacks: {a: {artifact_root: 's3://key:secret@host/bucket'}}", r"contains credentials\. Put secrets into"),
    ],
)
def test_an_invalid_file_is_refused(path, text, reason):
    """The error for an invalid file names the file, the mistake and the correct form."""
    path.write_text(text)
    with pytest.raises(SettingsError, match=reason):
        read_stacks(path)
