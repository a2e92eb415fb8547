"""Labels of modules and classes are the same on every machine."""

from __future__ import annotations

import sys

from airflow_zen.type_names import (
    definition_name,
    definition_reference,
    named_definitions,
    record_definition,
    resolve_definition,
    stable_class_name,
    stable_module_name,
)


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


def test_definitions_that_are_named_are_collected() -> None:
    """What is named inside a block is collected, also for the block around it; a name outside is not."""
    definition_reference(Outer)
    with named_definitions() as outer:
        with named_definitions() as inner:
            definition_reference(Outer.Inner)
        record_definition(Outer)
    assert (inner, outer) == ({Outer.Inner}, {Outer, Outer.Inner})


def test_modules_have_names_too() -> None:
    """A module is named without a qualified name, and found by that."""
    module = sys.modules[__name__]
    assert definition_name(module) == f"{__name__}:"
    assert resolve_definition(f"{__name__}:") is module
    assert resolve_definition(definition_name(Outer.Inner)) is Outer.Inner
