"""Promises of spaces, and of the points that the grid and random samplers make of them."""

import pytest

from airflow_zen import IntUniform, LogUniform, Uniform
from airflow_zen.errors import StepDefinitionError
from airflow_zen.sweeps.space import as_space, grid_points, sample_points

SPACE = as_space({"depth": [4, 8], "rate": LogUniform(1e-3, 1), "share": Uniform(0.5, 1), "leaves": IntUniform(2, 4)})


def test_points_are_within_the_space():
    """Each sampled value is one of the list, or within its bounds; a whole number where the space says so."""
    points = sample_points(SPACE, 300, seed=1)
    assert {point["depth"] for point in points} == {4, 8}
    assert {point["leaves"] for point in points} == {2, 3, 4}
    assert all(1e-3 <= point["rate"] <= 1 and 0.5 <= point["share"] <= 1 for point in points)
    # The logarithms are equally likely, so a third of the rates is below 0.01.
    assert 60 < sum(point["rate"] < 0.01 for point in points) < 140


def test_wider_sweep_begins_with_the_narrower_one():
    """The parameters of a trial do not depend on the number of trials, and do on the seed."""
    narrow, wide = sample_points(SPACE, 3, seed=1), sample_points(SPACE, 5, seed=1)
    assert wide[:3] == narrow
    assert sample_points(SPACE, 3, seed=2) != narrow


def test_grid_has_all_combinations_in_order():
    """A grid has every combination, the last parameter changes fastest, and fewer trials are its beginning."""
    space = as_space({"depth": [4, 8], "name": ["a", "b"]})
    points = grid_points(space, None)
    assert [tuple(point.values()) for point in points] == [(4, "a"), (4, "b"), (8, "a"), (8, "b")]
    assert grid_points(space, 3) == points[:3]


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({}, "is a dict by parameter"),
        ({"depth": []}, "'depth' is a list"),
        ({"depth": 4}, "'depth' is a list"),
        ({"depth": [object]}, "'depth' is a list"),
    ],
)
def test_what_is_no_space_is_refused(space, told):
    """A space is a dict of lists of plain values and distributions; the error names the parameter."""
    with pytest.raises(StepDefinitionError, match=told):
        as_space(space)


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [(Uniform, 1, 1), (Uniform, 0, float("inf")), (LogUniform, 0, 1), (IntUniform, 0.5, 2), (Uniform, True, 2)],
)
def test_bounds_without_values_are_refused(kind, low, high):
    """Bounds are finite numbers, the lower one first; above zero for logarithms, whole for whole numbers."""
    with pytest.raises(StepDefinitionError, match=rf"{kind.__name__}\("):
        kind(low, high)


def test_grid_of_a_distribution_is_refused():
    """A distribution has no list of values; a list, or another sampler, has points."""
    with pytest.raises(StepDefinitionError, match="Write a list, or sampler='random'"):
        grid_points(SPACE, None)
    assert grid_points(as_space({"rate": [0.1]}), None) == [{"rate": 0.1}]
    assert len(sample_points(SPACE, 1, seed=1)) == 1


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-2, -1)])
def test_logarithms_begin_above_zero(low, high):
    """An interval without logarithms is refused; a small number, and an interval of plain numbers, are taken."""
    with pytest.raises(StepDefinitionError, match=rf"Write a small number such as 1e-6, or Uniform\({low}, {high}\)"):
        LogUniform(low, high)
    assert LogUniform(1e-6, 1).low == 1e-6
    assert Uniform(low, high).high == high


def test_interval_of_fractions_is_no_interval_of_whole_numbers():
    """Bounds that are not whole are refused with the distribution that takes them."""
    with pytest.raises(StepDefinitionError, match=r"Write Uniform for fractions: Uniform\(0.5, 2\)"):
        IntUniform(0.5, 2)
    assert 0.5 <= sample_points(as_space({"share": Uniform(0.5, 2)}), 1, seed=1)[0]["share"] <= 2
