"""The client libraries in random orders of bytes, cuts and restarts, by a seed.

A failure names the seed and the fewest steps that lead to it, and tells what happened in them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

import pytest

from tests.client.shrinking import shrink
from tests.client.simulated_javascript import JavaScriptWorld, Node
from tests.client.simulated_world import World

LIVES = 120  # seeds of the first test below, and of the second a quarter; CLIENTS=5000 tries more
STEPS = 1000
TOLD = 60  # lines of a failure

Trace = Callable[[str], None]
Maker = Callable[[int, Trace | None], World]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The server logs each slow consumer."""
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("block", range(4))
def test_python_hands_on_everything_once_in_order_or_tells_a_gap(block: int) -> None:
    try_lives(World, lives()[block::4])


@pytest.mark.parametrize("block", range(2))
def test_javascript_hands_on_everything_once_in_order_or_tells_a_gap(block: int) -> None:
    with Node() as node:
        try_lives(lambda seed, trace: JavaScriptWorld(node, seed, trace), lives()[block::8])


def lives() -> range:
    return range(int(os.environ.get("CLIENTS", LIVES)))


def try_lives(make: Maker, seeds: Sequence[int]) -> None:
    for seed in seeds:
        if live(make, seed, range(STEPS)):
            pytest.fail(explain(make, seed))


def live(make: Maker, seed: int, steps: Sequence[int], trace: Trace | None = None) -> str:
    """Return what breaks in a life of these steps; empty if nothing does."""
    try:
        world = make(seed, trace)
        world.live(steps)
        world.settle()
        world.end()
    except Exception as error:
        return repr(error)
    return ""


def explain(make: Maker, seed: int) -> str:
    """Find the fewest steps that break something, and tell what happens in them."""
    steps = shrink(range(STEPS), lambda fewer: bool(live(make, seed, fewer)))
    told: list[str] = []
    broken = live(make, seed, steps, told.append)
    return "\n".join([f"seed {seed}, steps {list(steps)}:", *told[-TOLD:], broken])
