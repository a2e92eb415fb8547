"""Promises of `evaluate_model`: thresholds, a baseline, slices, and bad input in words."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier

from airflow_zen import Check, Threshold, ValidationReport
from airflow_zen.errors import ValidationDefinitionError, ZenError
from airflow_zen.materializers.registry import default_registry
from airflow_zen.validation.evaluation import evaluate_model
from tests.materializers.page_reading import read_preview_page
from tests.materializers.round_trip import assert_round_trip

GENERATOR = np.random.default_rng(3)
TABLE = pd.DataFrame({"x": GENERATOR.normal(size=400), "y": GENERATOR.normal(size=400)}).assign(
    carrier=lambda frame: np.where(frame.index < 20, "ZZ", np.where(frame.y > 0, "AA", "UA")),
    late=lambda frame: frame.x + GENERATOR.normal(size=400) + np.where(frame.carrier == "AA", -2 * frame.x, 0) > 0,
)
FEATURES = TABLE[["x", "y"]]
MODEL = LogisticRegression().fit(FEATURES, TABLE["late"])
NUMBERS = TABLE[["x", "y"]].assign(delay=lambda frame: 3 * frame.x + GENERATOR.normal(size=400))
GOOD = LinearRegression().fit(NUMBERS[["x", "y"]], NUMBERS["delay"])
POOR = LinearRegression().fit(NUMBERS[["y"]], NUMBERS["delay"])


def evaluate(model: Any = MODEL, table: Any = TABLE, target: str = "late", **options: Any) -> Any:
    return evaluate_model(model, table, target, **{"resamples": 200, **options})


def test_metrics_of_two_classes() -> None:
    """The task is inferred, and the metrics are those of scikit-learn on the columns that the model was trained on."""
    report = evaluate(metrics=["roc_auc", "f1"])
    scores = MODEL.predict_proba(FEATURES)[:, 1]
    assert (report.task, report.passed, report.rows) == ("binary", True, 400)
    assert report.facts()["roc_auc"] == sk.roc_auc_score(TABLE["late"], scores)
    assert report.facts()["f1"] == sk.f1_score(TABLE["late"], MODEL.predict(FEATURES))


def test_metrics_of_numbers_and_of_more_classes() -> None:
    """A target of numbers is a regression, one of three classes is multiclass, and a ranking is asked for."""
    report = evaluate(GOOD, NUMBERS, "delay")
    assert (report.task, set(report.metrics)) == ("regression", {"rmse", "mae", "r2"})
    three = LogisticRegression().fit(FEATURES, TABLE["carrier"])
    report = evaluate(three, TABLE, "carrier", metrics=["f1_macro"])
    assert report.task == "multiclass"
    assert report.metrics["f1_macro"] == sk.f1_score(TABLE["carrier"], three.predict(FEATURES), average="macro")
    report = evaluate(task_type="ranking", metrics=["ndcg", "roc_auc"])
    scores = MODEL.predict_proba(FEATURES)[:, 1]
    assert report.metrics["ndcg"] == pytest.approx(sk.ndcg_score([TABLE["late"]], [scores]))


QUERIES = pd.DataFrame({"x": GENERATOR.normal(size=300), "query": np.repeat(np.arange(30), 10)}).assign(
    relevance=lambda frame: (frame.x + GENERATOR.normal(size=300)).clip(0, 3).round()
)
RANKER = LinearRegression().fit(QUERIES[["x"]], QUERIES["relevance"])
RANDOM = DummyRegressor().fit(QUERIES[["x"]], QUERIES["relevance"])


def test_groups_are_ranked_apart() -> None:
    """With groups, NDCG is the mean of the groups', the bootstrap draws groups, the importance is of it."""
    options = {"task_type": "ranking", "groups": "query", "baseline": RANDOM, "slices": ["query"]}
    report = evaluate(RANKER, QUERIES, "relevance", **options)
    scores = RANKER.predict(QUERIES[["x"]])
    each = [
        sk.ndcg_score([part["relevance"]], [scores[part.index]]) - sk.ndcg_score([part["relevance"]], [np.ones(10)])
        for _, part in QUERIES.groupby("query")
    ]
    assert report.metrics["gain.ndcg"] == pytest.approx(np.mean(each))
    generator = np.random.default_rng(0)
    drawn = [np.mean(np.array(each)[generator.integers(0, 30, size=30)]) for _ in range(200)]
    ends = np.quantile(drawn, [0.025, 0.975])
    assert [report.metrics["gain.low.ndcg"], report.metrics["gain.high.ndcg"]] == pytest.approx(list(ends))
    assert report.plots[-1].title.startswith("Permutation importance: loss of ndcg")
    assert report.plots[-1].bars[0][1] > 0.05
    missing = evaluate(RANKER, QUERIES, "relevance", task_type="ranking", groups="gone")
    assert [check.title for check in missing.failures] == ["column_exists(gone)"]


@pytest.mark.parametrize("size", [400, 90], ids=["whole", "batches"])
def test_large_table_is_sampled(size: int) -> None:
    """Of a larger table a random sample is evaluated, the same whole or in batches; report, page and metrics say so."""
    parts = [TABLE.iloc[start : start + size] for start in range(0, 400, size)]
    seen: list[pd.DataFrame] = []
    report = evaluate(table=iter(parts), sample=100, checks=[lambda model, table: bool(seen.append(table) or True)])
    assert (report.rows, report.sampled, str(report).endswith("400 rows (100 checked)")) == (400, 100, True)
    assert report.facts()["validation.sampled"] == 100
    assert report.statistics["sample"] == "100 of 400 rows, drawn at random with seed 0"
    page = read_preview_page(default_registry().preview(report, "validation.evaluation@1", {})).text
    assert "400 rows · a random sample of 100 of them was checked" in page
    assert report.statistics["sample"] in page
    assert evaluate(table=iter(parts), sample=100, target="none").statistics == {"sample": report.statistics["sample"]}
    assert report.metrics == evaluate(table=TABLE, sample=100).metrics
    assert report.metrics["roc_auc"] == evaluate(table=seen[0]).metrics["roc_auc"]
    assert list(seen[0].index) == sorted(set(seen[0].index))
    assert (seen[0].index.min() < 40, seen[0].index.max() > 360, len(seen[0])) == (True, True, 100)
    assert evaluate(table=iter(parts)) == evaluate(table=TABLE)


def test_stream_without_rows_fails() -> None:
    """No batch, and a batch without rows, is the failed check of an empty table."""
    for parts in ([], [TABLE.head(0)]):
        assert [check.title for check in evaluate(table=iter(parts)).failures] == ["not_empty"]


@pytest.mark.ml
def test_shap_importance_where_shap_is_installed() -> None:
    """Where shap is installed, the mean absolute SHAP values of a linear and of an unknown model are plotted."""
    pytest.importorskip("shap")

    class Doubled:
        """A model that shap does not know."""

        def predict(self, features: pd.DataFrame) -> Any:
            return 2 * GOOD.predict(features[["x", "y"]])

    linear, other = (evaluate(model, NUMBERS, "delay").plots[-1] for model in (GOOD, Doubled()))
    rows = np.sort(np.random.default_rng(0).choice(400, 200, replace=False))
    sample = NUMBERS[["x", "y"]].iloc[rows]
    expected = (GOOD.coef_ * (sample - sample.mean())).abs().mean()
    assert linear.title == "SHAP importance: mean absolute value, LinearExplainer, 200 rows"
    assert dict(linear.bars) == pytest.approx(expected.to_dict(), rel=0.2)
    assert "LinearExplainer" not in other.title
    assert dict(other.bars)["x"] == pytest.approx(2 * dict(linear.bars)["x"], rel=0.2)


def test_thresholds_are_limits_in_the_direction_of_the_metric() -> None:
    """A limit is the least value of a score and the greatest of a loss."""
    report = evaluate(metrics=["roc_auc", "log_loss"], thresholds={"roc_auc": 0.99, "log_loss": Threshold(limit=2)})
    failed, passed = (report.check("threshold", name) for name in ("roc_auc", "log_loss"))
    assert (failed.passed, failed.expected, passed.passed, passed.expected) == (
        False,
        "at least 0.99",
        True,
        "at most 2",
    )


def test_worse_model_fails_against_the_baseline() -> None:
    """The gain over the baseline on the same rows has a paired bootstrap interval, and decides."""
    worse = evaluate(POOR, NUMBERS, "delay", metrics=["mae"], baseline=GOOD)
    better = evaluate(GOOD, NUMBERS, "delay", metrics=["mae"], baseline=POOR)
    check = worse.check("not_worse", "mae")
    assert not check.passed
    assert check.method == "paired bootstrap, 200 resamples, 95% interval"
    assert better.check("not_worse", "mae").passed
    generator, errors = np.random.default_rng(0), np.abs(NUMBERS["delay"].to_numpy() - GOOD.predict(FEATURES))
    others = np.abs(NUMBERS["delay"].to_numpy() - POOR.predict(FEATURES[["y"]]))
    rows = [generator.integers(0, 400, size=400) for _ in range(200)]
    low, high = np.quantile([np.mean(errors[at]) - np.mean(others[at]) for at in rows], [0.025, 0.975])
    assert (worse.metrics["gain.low.mae"], check.value) == pytest.approx((low, high))
    assert worse.metrics["baseline.mae"] == pytest.approx(errors.mean())


def test_max_loss_and_min_gain() -> None:
    """A loss may be allowed, and a gain demanded."""
    allowed = {"mae": Threshold(max_loss=100)}
    assert evaluate(POOR, NUMBERS, "delay", metrics=["mae"], baseline=GOOD, thresholds=allowed).passed
    for least, passes in ((0.1, True), (100, False)):
        report = evaluate(
            GOOD, NUMBERS, "delay", metrics=["mae"], baseline=POOR, thresholds={"mae": Threshold(min_gain=least)}
        )
        assert report.check("better", "mae").passed is passes
    shown = evaluate(
        POOR, NUMBERS, "delay", metrics=["mae"], baseline=GOOD, thresholds={"mae": Threshold(max_loss=None)}
    )
    assert (shown.checks, shown.metrics["gain.mae"] < 0) == ((), True)
    same = evaluate(GOOD, NUMBERS, "delay", baseline=GOOD)
    assert same.passed
    assert same.metrics["gain.high.mae"] == 0.0


def test_first_version_has_no_baseline() -> None:
    """A baseline that does not exist yet is a check that passes, with a note."""
    check = evaluate(baseline_name="model 'flight@champion'").check("baseline")
    assert check.passed
    assert "There is no model 'flight@champion' yet" in check.message


def test_baseline_that_cannot_be_evaluated_fails() -> None:
    """A baseline of other columns is a failed check that names them."""
    other = LinearRegression().fit(NUMBERS[["x"]].rename(columns={"x": "old"}), NUMBERS["delay"])
    check = evaluate(GOOD, NUMBERS, "delay", baseline=other).check("baseline")
    assert not check.passed
    assert "column_exists(old)" in check.message


def test_slices_are_sorted_by_the_first_metric() -> None:
    """The worst slice is first, small slices are marked, and numbers are cut into ranges."""
    report = evaluate(
        table=TABLE.assign(nested=[[1]] * 400), metrics=["accuracy"], slices=["carrier", "y", "none", "nested"]
    )
    carriers = [each for each in report.slices if each.column == "carrier"]
    right = MODEL.predict(FEATURES) == TABLE["late"]
    expected = right.groupby(TABLE["carrier"]).mean().sort_values()
    assert [each.value for each in carriers] == expected.index.tolist()
    assert [each.metrics["accuracy"] for each in carriers] == pytest.approx(expected.tolist())
    assert {each.value: each.is_small for each in carriers} == {"AA": False, "UA": False, "ZZ": True}
    assert sum(each.rows for each in report.slices if each.column == "y") == 400
    assert [check.title for check in report.failures] == ["slices(none)", "slices(nested)"]


class Broken:
    """A model that predicts what a test wants."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def predict(self, table: Any) -> Any:
        return self.found(table)


def fails(table: Any) -> Any:
    raise KeyError("no column z")


@pytest.mark.parametrize(
    ("options", "title", "words"),
    [
        ({"table": TABLE[:0]}, "not_empty", "0 rows"),
        ({"target": "none"}, "column_exists(none)", "missing"),
        ({"table": TABLE.assign(late=None)}, "not_null(late)", "400 of 400 rows"),
        ({"table": TABLE[TABLE["late"]]}, "target_classes(late)", "only True"),
        ({"table": [1]}, "is_table", "list"),
        ({"table": pd.concat([TABLE, FEATURES], axis=1)}, "unique_columns", "several columns x, y"),
        ({"table": TABLE.assign(late=[[1]] * 400)}, "target_type(late)", "nested values"),
        (
            {"model": GOOD, "table": NUMBERS.assign(delay=np.inf), "target": "delay"},
            "finite_target(delay)",
            "400 of 400",
        ),
        (
            {"model": Broken(lambda t: np.zeros((len(t), 2))), "table": NUMBERS, "target": "delay"},
            "model_predicts",
            "2 numbers for each row",
        ),
        ({"table": TABLE.drop(columns="x")}, "column_exists(x)", "missing"),
        ({"table": TABLE.assign(x=np.nan)}, "model_predicts", "an error of predict"),
        ({"model": Broken(fails)}, "model_predicts", "an error of predict"),
        ({"model": object()}, "model_predicts", "no predict"),
        ({"model": Broken(lambda t: [1.0])}, "model_predicts", "1 predictions"),
        (
            {"model": Broken(lambda t: np.full(len(t), np.nan)), "table": NUMBERS, "target": "delay"},
            "finite_predictions",
            "400 of 400 rows",
        ),
        (
            {"table": TABLE.assign(late="maybe").assign(late=lambda t: t.late + t.carrier)},
            "known_classes(late)",
            "400 of",
        ),
        ({"target": "carrier", "task_type": "regression"}, "target_type(carrier)", "object"),
        (
            {"model": RidgeClassifier().fit(FEATURES, TABLE["late"]), "metrics": ["log_loss"]},
            "metric(log_loss)",
            "undefined",
        ),
    ],
)
def test_bad_input_is_a_failed_check_in_words(options: dict[str, Any], title: str, words: str) -> None:
    """What cannot be evaluated is one failed check that says why, and no error of a library."""
    (failure,) = evaluate(**options).failures
    if title == "target_type(carrier)":
        assert failure.title == title
    else:
        assert (failure.title, words in failure.observed) == (title, True)


def test_functions_of_users_are_checks() -> None:
    """A function of model and table returns a check, a list, a report, or a verdict; an error is a failed check."""

    def invariant(model: Any, table: Any) -> bool:
        moved = model.predict(table[["x", "y"]].assign(y=0.0)) == model.predict(table[["x", "y"]])
        return bool(moved.mean() > 0.99)

    def several(model: Any, table: Any) -> Any:
        return [Check(name="one", passed=True), Check(name="two", passed=False)]

    def report(model: Any, table: Any) -> Any:
        return ValidationReport("x", [Check(name="three", passed=True)])

    def wrong(model: Any, table: Any) -> Any:
        return 3

    found = evaluate(checks=[invariant, several, report, wrong, fails])
    assert {check.name: check.passed for check in found.checks} == {
        "invariant": False,
        "one": True,
        "two": False,
        "three": True,
        "wrong": False,
        "fails": False,
    }
    assert "int" in found.check("wrong").message


def test_threshold_of_what_is_not_measured_is_refused() -> None:
    """A threshold that no metric answers is an error, not a check that never fails."""
    with pytest.raises(ValidationDefinitionError, match="'recall', which is not measured"):
        evaluate(metrics=["f1"], thresholds={"recall": 0.5})


def test_missing_library_has_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-learn the error says what to install."""
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ZenError, match=r"airflow-provider-zen\[sklearn\]"):
        evaluate()


def test_report_comes_back_exactly(tmp_path: Path) -> None:
    """A report with slices, a baseline and plots is loaded as it was saved."""
    other = DummyClassifier(strategy="prior").fit(FEATURES, TABLE["late"])
    assert_round_trip(lambda _: evaluate(slices=["carrier"], baseline=other), tmp_path)


def test_page_compares_with_the_baseline() -> None:
    """The page has a table of each metric, the baseline's, and the gain with its interval."""
    report = evaluate(POOR, NUMBERS, "delay", metrics=["mae"], baseline=GOOD)
    text = read_preview_page(default_registry().preview(report, "validation.evaluation@1", {})).text
    shown = [f"{report.metrics[name]:.4g}" for name in ("mae", "baseline.mae", "gain.mae")]
    assert all(number in text for number in shown)
    assert f"{report.metrics['gain.low.mae']:.4g} to {report.metrics['gain.high.mae']:.4g}" in text


def test_page_shows_slices() -> None:
    """The page has the table of slices with the worst first, and the metrics."""
    report = evaluate(slices=["carrier"], metrics=["accuracy"])
    text = read_preview_page(default_registry().preview(report, "validation.evaluation@1", {})).text
    assert "Slices by carrier, the worst first" in text
    assert "ZZ (few rows)" in text
    assert "accuracy" in text


def test_plots_of_each_task() -> None:
    """Classes have confusion, ROC, precision and calibration, numbers residuals, and all the importance of features."""
    titles = [plot.title for plot in evaluate(metrics=["roc_auc"]).plots]
    assert titles[:4] == ["Confusion matrix", "ROC", "Precision and recall", "Calibration"]
    assert titles[4].startswith("Permutation importance: loss of roc_auc")
    three = evaluate(LogisticRegression().fit(FEATURES, TABLE["carrier"]), TABLE, "carrier")
    assert [curve.name for curve in three.plots[1].curves] == ["AA", "UA", "ZZ"]
    residuals, importance = evaluate(GOOD, NUMBERS, "delay").plots
    assert len(residuals.curves[0].x) == 300
    assert [name for name, _ in importance.bars] == ["x", "y"]


def test_numbers_of_plots_are_those_of_sklearn() -> None:
    """The confusion counts are scikit-learn's, and a permuted feature costs about what its permutation costs there."""
    from sklearn.inspection import permutation_importance

    counts = evaluate().plots[0].counts
    assert [list(row) for row in counts] == sk.confusion_matrix(TABLE["late"], MODEL.predict(FEATURES)).tolist()
    bars = dict(evaluate(GOOD, NUMBERS, "delay", metrics=["r2"]).plots[-1].bars)
    expected = permutation_importance(GOOD, FEATURES, NUMBERS["delay"], scoring="r2", n_repeats=5, random_state=1)
    assert [bars["x"], bars["y"]] == pytest.approx(expected.importances_mean, abs=0.1)


def test_page_draws_the_plots() -> None:
    """The page has the plots as images of its own, and stays below the limit of a preview."""
    page = default_registry().preview(evaluate(slices=["carrier", "y"]), "validation.evaluation@1", {})["preview.html"]
    assert page.count("<svg") == 5
    assert "Calibration" in page


def test_slow_model_fails_its_limit() -> None:
    """The latency is that of predictions of one row."""
    seen = []

    def slow(table: Any) -> Any:
        seen.append(len(table))
        time.sleep(0.02 if len(table) == 1 else 0)
        return np.zeros(len(table))

    report = evaluate(Broken(slow), NUMBERS, "delay", max_latency=0.01, metrics=["mae"])
    assert not report.check("latency").passed
    assert report.metrics["latency.p50"] >= 0.02
    assert seen.count(1) == 51
