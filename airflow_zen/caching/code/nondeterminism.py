"""Code that may give another result each time: refusals of what reads the task run, and warnings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from airflow_zen.errors import FingerprintError

_TASK_RUN = re.compile(
    r"airflow\..*(\bget_current_context|\bget_parsing_context|\bXCom(Model)?\.\w+|xcom_(push|pull)|SUPERVISOR_COMMS)\b.*"
    r"|airflow\.sdk\.execution_time\.(context|task_runner)\..*"
)
_CLOCK = re.compile(
    r"time\.(time|time_ns|localtime|gmtime|ctime|asctime|strftime)"
    r"|datetime\.(datetime|date)\.(now|utcnow|today)"
    r"|pandas\.Timestamp\.(now|utcnow|today)|pendulum\.(now|today|yesterday|tomorrow)"
)
_UNIQUE = re.compile(
    r"uuid\.uuid[14]|os\.(urandom|getrandom)|secrets\.\w+|random\.SystemRandom(\.\w+)?|tempfile\.mkdtemp"
)

# Generators that draw from one hidden state, and the call that seeds it.
_GLOBAL_GENERATORS = {
    re.compile(r"random\.(?!Random\b|SystemRandom\b|seed\b|setstate\b)[a-z]\w*"): "random.seed",
    re.compile(r"numpy\.random\.(?!seed\b|set_state\b|get_state\b|default_rng\b|[A-Z])\w+"): "numpy.random.seed",
    re.compile(r"torch\.(rand|randn|randint|randperm|normal|bernoulli|multinomial)(_like)?"): "torch.manual_seed",
}
_SEEDABLE = re.compile(
    r"random\.Random|numpy\.random\.(default_rng|RandomState|SeedSequence|PCG64|PCG64DXSM|MT19937|Philox|SFC64)"
)


def check_path(path: str) -> None:
    """Raise `FingerprintError` for a name that reads the task run's context, or exchanges values with other tasks."""
    if _TASK_RUN.fullmatch(path):
        raise FingerprintError(
            f"The step's code uses {path}, whose values are not in the key. Take them as parameters of the step's function: "
            "Airflow fills in those named ds, params, logical_date and so on. Return values instead of pushing them to "
            "XCom. Or set cache=False."
        )


def check_text(text: str) -> None:
    """Raise `FingerprintError` for code that reads the task run's identity from the environment."""
    if "AIRFLOW_CTX_" in text:
        raise FingerprintError(
            "The step's code reads AIRFLOW_CTX_… from the environment, which differs in each task run. Take the value as a "
            "parameter of the step's function, such as run_id=None, which Airflow fills in. Or set cache=False."
        )


_DOCSTRING_READERS = ("__doc__", "getdoc", "json_schema", "tools=", "tools =", "functions=", "response_format=")


@lru_cache(maxsize=4096)
def reads_docstrings(text: str) -> bool:
    """Whether code reads docstrings, itself or by passing functions as tools to a language model."""
    # Four times as fast as one regular expression.
    return any(mark in text for mark in _DOCSTRING_READERS)


def nondeterminism_warnings(calls: Iterable[tuple[str, bool]]) -> tuple[str, ...]:
    """Return a warning for each name that reads the clock or an unseeded generator.

    `calls` holds dotted names, each with whether it is called with an argument.
    """
    calls = set(calls)
    seeded = {name for name, has_argument in calls if has_argument}
    faults = {(name, _nondeterminism(name, has_argument, seeded)) for name, has_argument in calls}
    return tuple(
        f"The code calls {name}, which {fault}: a cached result repeats the first one. Consider cache=False."
        for name, fault in sorted(faults)
        if fault
    )


def _nondeterminism(name: str, has_argument: bool, seeded: set[str]) -> str:
    if _CLOCK.fullmatch(name):
        return "reads the clock"
    if _UNIQUE.fullmatch(name):
        return "gives another value every time"
    if _SEEDABLE.fullmatch(name) and not has_argument:
        return "is not given a seed"
    for pattern, seed in _GLOBAL_GENERATORS.items():
        if pattern.fullmatch(name) and seed not in seeded:
            return f"draws from a generator that {seed} has not seeded"
    return ""
