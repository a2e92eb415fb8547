"""Tests of steps: replays of recorded runs."""

from airflow_zen.testing.spin import SpunStep, spin

__all__ = ["SpunStep", "spin"]
