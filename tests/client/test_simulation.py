"""The client's rules in random orders of bytes, cuts and restarts, by a seed.

A failure names the seed and the fewest steps that lead to it, and tells what happened in them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import pytest

from tests.client.shrinking import shrink
from tests.client.simulated_world import World

LIVES = 120  # seeds of the test below; CLIENTS=5000 tries more
STEPS = 1000
TOLD = 60  # lines of a failure


@pytest.mark.parametrize("block", range(4))
def test_everything_comes_once_in_order_or_is_told_as_a_gap(block: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # the server logs its slow consumers
    lives = int(os.environ.get("CLIENTS", LIVES)) // 4
    for seed in range(block * lives, (block + 1) * lives):
        if live(seed, range(STEPS)):
            pytest.fail(explain(seed))


def live(seed: int, steps: Sequence[int], told: list[str] | None = None) -> str:
    """Return what breaks in a life of these steps; empty if nothing does."""
    try:
        world = World(seed, None if told is None else told.append)
        world.live(steps)
        world.settle()
        world.end()
    except Exception as error:
        return repr(error)
    return ""


def explain(seed: int) -> str:
    """Find the fewest steps that break something, and tell what happens in them."""
    steps = shrink(range(STEPS), lambda fewer: bool(live(seed, fewer)))
    told: list[str] = []
    broken = live(seed, steps, told)
    return "\n".join([f"seed {seed}, steps {list(steps)}:", *told[-TOLD:], broken])
