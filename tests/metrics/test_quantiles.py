"""Quantiles of histograms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.core.histogram import Histogram
from pubsub.metrics.quantiles import difference, quantile

BOUNDS = (1.0, 2.0, 4.0)


@pytest.mark.parametrize(
    ("counts", "part", "expected"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([4, 0, 0, 0], 0.5, 0.5),
        ([0, 4, 0, 0], 0.5, 1.5),
        ([2, 0, 2, 0], 0.5, 1.0),
        ([2, 0, 2, 0], 0.75, 3.0),
        ([0, 0, 0, 3], 0.5, 4.0),
        ([1, 1, 1, 1], 1.0, 4.0),
    ],
)
def test_a_quantile_lies_evenly_within_its_bucket(counts: list[int], part: float, expected: float | None) -> None:
    assert quantile(BOUNDS, counts, part) == expected


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_is_in_the_bucket_of_the_true_one(values: list[float], part: float) -> None:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    found = quantile(BOUNDS, histogram.counts, part)
    assert found is not None
    bound = next(each for each in BOUNDS if each >= found)
    assert found == BOUNDS[-1] or sum(value <= bound for value in values) >= part * len(values) * (1 - 1e-9)


def test_a_difference_is_what_came_between() -> None:
    assert difference([3, 5], [1, 5]) == [2, 0]
