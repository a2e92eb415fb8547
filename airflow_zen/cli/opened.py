"""The stack that a command looks into."""

from __future__ import annotations

from typing import Any

from airflow_zen.settings import Settings, open_stack
from airflow_zen.stack import Stack


def open_stack_for(args: Any) -> Stack:
    """Open the stack that `--stack` names, or else the active one."""
    return open_stack(Settings.read(args.stack))
