"""The files that describe an MLflow Model: `MLmodel`, and the environment that it needs.

An artifact has them without versions, because its digest depends on its value only. The copy that MLflow registers and
serves has the versions with which the model was made. https://mlflow.org/docs/latest/ml/model/#storage-format
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

MLMODEL_FILE = "MLmodel"
_TOOLS = ("pip", "setuptools", "wheel")


class ModelEnvironment(msgspec.Struct, frozen=True):
    """What loading a model and predicting with it needs: of an artifact names, of a logged model pinned versions.

    tools: the requirements of an installation. mlflow: the version of MLflow. flavors: by the name of a flavor, its
    options that are versions.
    """

    requirements: Sequence[str]
    python: str = ""
    tools: Sequence[str] = _TOOLS
    mlflow: str = ""
    flavors: Mapping[str, Mapping[str, str]] = msgspec.field(default_factory=dict)

    def files(self) -> dict[str, str]:
        """Return `requirements.txt`, `python_env.yaml` and `conda.yaml` by name."""
        listed = {"build_dependencies": self.tools, "dependencies": ["-r requirements.txt"]}
        python, pip = (f"python={self.python}" if self.python else "python"), self.tools[0].replace("==", "<=")
        conda = {"channels": ["conda-forge"], "dependencies": [python, pip, {"pip": self.requirements}]}
        return {
            "requirements.txt": "\n".join(self.requirements),
            "python_env.yaml": yaml_text({**listed, **({"python": self.python} if self.python else {})}),
            "conda.yaml": yaml_text({**conda, "name": "mlflow-env"}),
        }

    def pin(self, mlmodel: str) -> str:
        """Return an `MLmodel` that `yaml_text` wrote with the versions in it."""
        for flavor, options in self.flavors.items():
            lines = "".join(f"    {name}: {json.dumps(value)}\n" for name, value in options.items())
            mlmodel = mlmodel.replace(f"\n  {flavor}:\n", f"\n  {flavor}:\n{lines}", 1)
        return mlmodel + (f"mlflow_version: {json.dumps(self.mlflow)}\n" if self.mlflow else "")


def yaml_text(document: Mapping[str, Any]) -> str:
    """Return a document in YAML, its keys sorted; the same bytes in every environment."""
    return "\n".join(_yaml_lines(document)) + "\n"


def _yaml_lines(node: Any, indent: str = "") -> Iterator[str]:
    """Write mappings and lists in block style; a JSON scalar is a YAML scalar."""
    items = [(f"{key}:", node[key]) for key in sorted(node)] if isinstance(node, dict) else [("-", one) for one in node]
    for start, item in items:
        if isinstance(item, dict | list | tuple) and item:
            yield f"{indent}{start}"
            yield from _yaml_lines(item, f"{indent}  ")
        else:
            yield f"{indent}{start} {json.dumps(item)}"
