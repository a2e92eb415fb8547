"""The files that describe an MLflow Model, without versions and with them."""

from __future__ import annotations

import yaml

from airflow_zen.model_files import ModelEnvironment, yaml_text

PINNED = ModelEnvironment(
    requirements=["numpy==2.4.6", "scikit-learn==1.9.1"],
    python="3.11.7",
    tools=["pip==24.0", "setuptools==80.0", "wheel"],
    mlflow="3.17.2",
    flavors={"sklearn": {"sklearn_version": "1.9.1"}, "python_function": {"python_version": "3.11.7"}},
)


def test_names_have_no_versions() -> None:
    """The environment of an artifact names what it needs, and no version."""
    files = ModelEnvironment(["numpy", "scikit-learn"]).files()
    assert files["requirements.txt"] == "numpy\nscikit-learn"
    assert yaml.safe_load(files["python_env.yaml"]) == {
        "build_dependencies": ["pip", "setuptools", "wheel"],
        "dependencies": ["-r requirements.txt"],
    }
    conda = yaml.safe_load(files["conda.yaml"])["dependencies"]
    assert conda == ["python", "pip", {"pip": ["numpy", "scikit-learn"]}]


def test_pinned_environment() -> None:
    """The environment of a logged model has the versions of Python, of its tools and of its distributions."""
    files = PINNED.files()
    assert files["requirements.txt"].split() == PINNED.requirements
    python_env = yaml.safe_load(files["python_env.yaml"])
    assert (python_env["python"], python_env["build_dependencies"]) == ("3.11.7", PINNED.tools)
    conda = yaml.safe_load(files["conda.yaml"])
    assert conda["dependencies"] == ["python=3.11.7", "pip<=24.0", {"pip": PINNED.requirements}]


def test_versions_in_the_flavors() -> None:
    """Versions are added to the flavors that have some, and nothing else in `MLmodel` changes."""
    flavors = {"python_function": {"loader_module": "mlflow.sklearn"}, "sklearn": {"code": None}}
    document = {"flavors": flavors, "model_size_bytes": 7}
    pinned = yaml.safe_load(PINNED.pin(yaml_text(document)))
    assert pinned == {
        "flavors": {
            "python_function": {"loader_module": "mlflow.sklearn", "python_version": "3.11.7"},
            "sklearn": {"code": None, "sklearn_version": "1.9.1"},
        },
        "model_size_bytes": 7,
        "mlflow_version": "3.17.2",
    }


def test_a_flavor_that_a_model_does_not_have() -> None:
    """A transformer has no `python_function`, and gets none."""
    assert "python" not in PINNED.pin(yaml_text({"flavors": {"sklearn": {"code": None}}}))


def test_yaml_text_is_read_by_yaml() -> None:
    """Texts, numbers, nothing and lists of lists come back as they were."""
    document = {"b": ['it\'s: "x"', 1, None, {"c": [[], ["- d", True]]}], "a": {}}
    assert yaml.safe_load(yaml_text(document)) == document
