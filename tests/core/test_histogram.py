"""The histogram: a value counts in the first bucket whose bound it does not exceed."""

from __future__ import annotations

from pubsub.core.histogram import Histogram


def test_values_count_up_to_their_bounds() -> None:
    histogram = Histogram([0.5, 1.0])
    for value in (0.0, 0.5, 0.75, 1.0, 1.25, 8.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 2]
    assert histogram.sum == 11.5
