"""What replays start from: the artifact root of the operators' tests."""

from tests.operators.conftest import root

__all__ = ["root"]
