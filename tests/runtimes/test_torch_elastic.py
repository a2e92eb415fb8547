"""Promises of `TorchElastic` that need no PyTorch: its options, its text, and its part of the cache key."""

import pytest

from airflow_zen.errors import StepDefinitionError
from airflow_zen.runtimes import Docker, Python, TorchElastic, Virtualenv, parse_runtime
from airflow_zen.runtimes.base import OutputStream
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.cache_key import cache_key
from airflow_zen.steps.spec import StackSpec
from airflow_zen.steps.step import Step


def test_its_text_describes_it():
    """Settings and DAG runs name the runtime by its text, with the environment that it runs in."""
    for runtime in (TorchElastic(2), TorchElastic(4, 3, "gloo", Virtualenv(["torch"], python="3.12"))):
        assert parse_runtime(repr(runtime), "here") == runtime
    given = parse_runtime("TorchElastic(nproc_per_node=2, in_=Python('/opt/python'))", "here")
    assert given == TorchElastic(2, in_=Python("/opt/python"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"nproc_per_node": 0}, "nproc_per_node=0"),
        ({"max_restarts": True}, "max_restarts=True"),
        ({"backend": "tcp"}, "backend='tcp'"),
        ({"in_": Docker("image")}, "a Virtualenv, a Python or None"),
    ],
)
def test_wrong_options_are_refused(options, reason):
    """A wrong option is refused by its name, where the DAG is parsed."""
    with pytest.raises(StepDefinitionError, match=reason):
        TorchElastic(**options)


def work(value: int) -> int:
    """Return it."""
    return value


def test_the_number_of_ranks_is_in_the_cache_key(tmp_path):
    """Another number of ranks is other work, because it changes numbers; how often they are restarted is not."""
    stack, arguments = StackSpec(str(tmp_path)).open({}), Arguments.bind(work, (1,), {})

    def key(runtime):
        return cache_key(Step(work, "work", runtime=runtime), arguments, stack).key

    assert key(TorchElastic(2)) == key(TorchElastic(2, max_restarts=3))
    assert len({key(TorchElastic(1)), key(TorchElastic(2))}) == 2


def test_lines_of_ranks(caplog, capfd):
    """A log record of a rank is logged with its level, a print is printed, both with the rank before them."""
    stream = OutputStream()
    stream.write('[rank 1] {"zen.log": 30, "logger": "mine", "message": "loss rises"}')
    stream.write("[rank 0] epoch 1")
    assert ("mine", 30, "[rank 1] loss rises") in caplog.record_tuples
    assert capfd.readouterr().out == "[rank 0] epoch 1\n"
