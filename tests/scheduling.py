"""Assign test files to workers: a plugin of pytest, beside xdist."""

from __future__ import annotations

from typing import Any

import pytest

# The files of the tests of one deployment begin so.
_DEPLOYMENT_TESTS = ("tests/integration/test_real_airflow", "tests/localstack/test_stack")
# Those that use Ceph and do not have it in their names; its servers take ten seconds of a core, and idle a hundredth of one.
_CEPH_TESTS = (
    "tests/cli/test_output",
    "tests/doctor/test_store",
    "tests/pruning/test_collect",
    "tests/transports/test_aws",
    "tests/transports/test_transport",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Assign the test files of one deployment to one worker, so that it is started once, and the tests with Ceph."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    class SharedDeploymentScheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            shared = [prefix for prefix in _DEPLOYMENT_TESTS if nodeid.startswith(prefix)]
            if "ceph" in nodeid or nodeid.startswith(_CEPH_TESTS):
                return "ceph"
            return shared[0] if shared else super()._split_scope(nodeid)

        def _reschedule(self, node: Any) -> None:
            super()._reschedule(node)
            # A worker begins no test before it has the next. After a crash, xdist assigns files of one test, and finished ones.
            while self.workqueue and not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
                super()._reschedule(node)

    return SharedDeploymentScheduling(config, log) if config.getoption("dist") == "loadfile" else None
