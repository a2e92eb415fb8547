"""Optuna's pruners and their options, for sweeps that are checked when a DAG is parsed, without Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_zen.errors import StepDefinitionError

_WAITS = ("n_startup_trials", "n_warmup_steps", "interval_steps", "n_min_trials")

PRUNERS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "median": ("MedianPruner", (), _WAITS),
    "percentile": ("PercentilePruner", ("percentile",), _WAITS),
    "successive_halving": (
        "SuccessiveHalvingPruner",
        (),
        ("min_resource", "reduction_factor", "min_early_stopping_rate", "bootstrap_count"),
    ),
    "hyperband": ("HyperbandPruner", (), ("min_resource", "max_resource", "reduction_factor", "bootstrap_count")),
    "threshold": ("ThresholdPruner", (), ("lower", "upper", "n_warmup_steps", "interval_steps")),
    "patient": ("PatientPruner", ("wrapped_pruner", "patience"), ("min_delta",)),
    "wilcoxon": ("WilcoxonPruner", (), ("p_threshold", "n_startup_steps")),
}
"""By name the class in `optuna.pruners`, the options that it needs, and those that have a default."""


def find_pruner(name: str, options: Any) -> str:
    """Return the name of a pruner's class, empty without a pruner. Raises `StepDefinitionError` for wrong options."""
    if not isinstance(options, Mapping):
        raise StepDefinitionError(
            f"sweep(pruner_options=…) is a dict by option, such as {{'n_startup_trials': 8}}, got {options!r}."
        )
    if not name:
        if options:
            raise StepDefinitionError(f"sweep(pruner_options={options!r}) needs a pruner. Write pruner='median'.")
        return ""
    if name not in PRUNERS:
        raise StepDefinitionError(f"sweep(pruner=…) is one of {', '.join(map(repr, PRUNERS))}, got {name!r}.")
    class_name, needed, others = PRUNERS[name]
    _check_options(name, options, needed, others)
    return class_name


def _check_options(name: str, options: Mapping[str, Any], needed: tuple[str, ...], others: tuple[str, ...]) -> None:
    """Raise `StepDefinitionError` for an option that the pruner does not have, and for one that is missing."""
    known = (*needed, *others)
    for option in options:
        if option not in known:
            raise StepDefinitionError(
                f"sweep(pruner_options=…) has {option!r}, which is no option of pruner {name!r}. Its options are: "
                f"{', '.join(map(repr, known))}."
            )
    if missing := [option for option in needed if option not in options]:
        raise StepDefinitionError(f"sweep(pruner={name!r}) needs pruner_options with {', '.join(map(repr, missing))}.")
