"""What users test their steps with."""

from airflow_zen.testing.spin import SpunStep, spin

__all__ = ["SpunStep", "spin"]
