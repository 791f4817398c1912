"""Turns: one piece of work in a tick, in the order of the requests; a failing piece does not affect another."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pubsub.core.turns import Turns


class Ticks:
    def __init__(self) -> None:
        self._deferred: list[Callable[[], None]] = []
        self.turns = Turns(self._deferred.append, lambda: None)

    def end(self) -> None:
        deferred, self._deferred[:] = list(self._deferred), []
        for callback in deferred:
            callback()


def test_one_piece_in_a_tick_in_the_order_in_which_it_was_asked_for() -> None:
    ticks, done = Ticks(), list[int]()
    for number in range(3):
        ticks.turns.take(lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == []
    for count in range(1, 4):
        ticks.end()
        assert done == list(range(count))
    ticks.end()
    ticks.turns.take(lambda: done.append(3))
    ticks.end()
    assert done == [0, 1, 2, 3]


def test_who_asks_in_its_turn_comes_behind_the_others() -> None:
    ticks, done = Ticks(), list[str]()

    def first() -> None:
        done.append("first")
        ticks.turns.take(lambda: done.append("again"))

    ticks.turns.take(first)
    ticks.turns.take(lambda: done.append("second"))
    for _ in range(3):
        ticks.end()
    assert done == ["first", "second", "again"]


def test_a_piece_that_fails_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    ticks, done = Ticks(), list[int]()

    def fail() -> None:
        raise RuntimeError("a bug")

    ticks.turns.take(fail)
    ticks.turns.take(lambda: done.append(1))
    ticks.end()
    ticks.end()
    assert done == [1]
    assert "Internal error in work that had waited for its turn" in caplog.text
