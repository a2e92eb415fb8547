"""A stack on a local root, and steps that are killed."""

import os
from contextlib import suppress

import pytest

from tests.steps.conftest import _calls, recorder, run, stack  # noqa: F401 - fixtures


@pytest.fixture
def run_killed(run):  # noqa: F811
    """Run a function as a step in a child process, which kills itself; return its signal."""

    def run_in_child(function, *args, **options):
        child = os.fork()
        if not child:
            with suppress(BaseException):
                run(function, *args, **options)
            os._exit(1)
        return -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return run_in_child
