"""Labels of modules and classes are the same on every machine."""

from __future__ import annotations

from airflow_zen.type_names import stable_class_name, stable_module_name


class Outer:
    class Inner:
        pass


def test_module_names_are_alike_on_every_machine() -> None:
    """Airflow's name of a DAG file, and the main module, become the file's stem."""
    assert stable_module_name("unusual_prefix_" + "0a" * 20 + "_my_dag") == "my_dag"
    assert stable_module_name("__main__", "/somewhere/my-dag.v2.py") == "my_dag_v2"
    assert stable_module_name("package.module", "/x.py") == "package.module"
    assert stable_module_name("__main__") == "__main__"


def test_class_label_names_nested_classes() -> None:
    """A class is known by module and qualified name."""
    assert stable_class_name(Outer.Inner) == f"{__name__}.Outer.Inner"
    assert stable_class_name(type("A", (), {"__module__": f"unusual_prefix_{'0' * 40}_dag"})) == "dag.A"
