"""The server's rules in random orders of callbacks, bytes and disconnects, by a seed, which a failure names."""

from __future__ import annotations

import os

import pytest

from tests.simulated_streams import StreamWorld
from tests.simulation import World
from tests.turns import shrink_turns

LIVES = 240  # seeds for each of the tests below; RACES=5000 tries more
STEPS = 400


@pytest.fixture(params=["slices", "slices of one"])
def slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the slices of work for many members or messages, so that other steps happen between them."""
    if request.param == "slices of one":
        shrink_turns(monkeypatch)


@pytest.mark.usefixtures("slices")
@pytest.mark.parametrize("block", range(4))
def test_row_39_40_and_43_hold_in_any_order_of_callbacks(block: int) -> None:
    lives = int(os.environ.get("RACES", LIVES)) // 4
    for seed in range(block * lives, (block + 1) * lives):
        live(World, seed)


@pytest.mark.usefixtures("slices")
def test_row_39_40_and_43_hold_for_streams_in_any_order_of_callbacks() -> None:
    for seed in range(int(os.environ.get("RACES", LIVES)) // 3):
        live(StreamWorld, seed)


def live(kind: type[World], seed: int) -> None:
    try:
        world = kind(seed)
        world.live(STEPS)
        world.settle()
        world.end()
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error
