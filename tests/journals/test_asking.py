"""The operations of a shared journal that an engine does not answer in time: they end in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pubsub.journals.shared.asking import Asking
from pubsub.journals.shared.engine import Operation, Outcomes, Tell
from pubsub.protocol.errors import NotStored


class PartlyAway:
    """An engine of several parts, which answers the second batch first and may not say so before the first has ended."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Outcomes]] = []

    def ask(self, operations: Sequence[Operation], outcomes: Outcomes) -> None:
        self.asked.append((len(operations), outcomes))

    def withdraw(self, outcomes: Outcomes) -> None:
        self.asked = [each for each in self.asked if each[1] is not outcomes]
        for count, each in self.asked:
            each([None] * count)


def test_a_batch_that_is_refused_ends_before_the_next_one() -> None:
    """A publisher counts on the order: with another one it would wait for ever."""
    engine: Any = PartlyAway()
    ticks: list[Callable[[], None]] = []
    timers: list[Callable[[], None]] = []
    clock = [0.0]
    asking = Asking(
        engine,
        lambda callback: callback(),
        defer=ticks.append,
        call_later=lambda _, callback: timers.append(callback),
        now=lambda: clock[0],
        wait=2.0,
    )
    ended: list[tuple[str, Any]] = []
    for at, name in ((0.0, "first"), (1.0, "second")):
        clock[0] = at
        asking.add(Tell("kind", b""), partial(lambda name, outcome: ended.append((name, type(outcome))), name))
        ticks.pop()()
    clock[0] = 2.0
    timers.pop(0)()
    assert ended == [("first", NotStored), ("second", type(None))]
