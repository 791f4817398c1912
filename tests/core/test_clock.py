"""The clock's whole seconds."""

from __future__ import annotations

from pubsub.core.clock import Clock


def test_a_moment_some_time_ago_is_in_its_own_second() -> None:
    clock = Clock(now=lambda: 20.1)
    assert [clock.seconds(ago=ago) for ago in (0, 0.05, 0.4, 1.2)] == [20, 20, 19, 18]
