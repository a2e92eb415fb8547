"""Labels of modules and classes are the same on every machine."""

from __future__ import annotations

from airflow_zen.labels import class_label, module_label


class Outer:
    class Inner:
        pass


def test_module_names_are_alike_on_every_machine() -> None:
    """Airflow's name of a DAG file, and the main module, become the file's stem."""
    assert module_label("unusual_prefix_" + "0a" * 20 + "_my_dag") == "my_dag"
    assert module_label("__main__", "/somewhere/my-dag.v2.py") == "my_dag_v2"
    assert module_label("package.module", "/x.py") == "package.module"
    assert module_label("__main__") == "__main__"


def test_class_label_names_nested_classes() -> None:
    """A class is known by module and qualified name."""
    assert class_label(Outer.Inner) == f"{__name__}.Outer.Inner"
    assert class_label(type("A", (), {"__module__": f"unusual_prefix_{'0' * 40}_dag"})) == "dag.A"
