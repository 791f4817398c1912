"""The sharing of a core (pubsub/system/cores.py) with other threads of the process and with other programs."""

from __future__ import annotations

import itertools

from pubsub.system.cores import FOREIGN_TIME, SHARE, SharedCore


class Core:
    """A clock, and a core that another program uses for ``seconds`` whenever it is offered."""

    def __init__(self, seconds: float) -> None:
        self.time = 1000.0
        self.seconds = seconds
        self.offers = 0

    def sched_yield(self) -> None:
        self.time += self.seconds
        self.offers += 1

    def now(self) -> float:
        return self.time


def wanted(core: Core) -> SharedCore:
    """Return a shared core for which a thread of this process may wait."""
    shared = SharedCore(core.sched_yield, core.now)
    shared.wanted = True
    return shared


def share_given(core: Core, *, seconds: float) -> float:
    """Return the share of time that others use if the loop offers the core every 100 µs."""
    shared = wanted(core)
    began = core.time
    while core.time < began + seconds:
        core.time += 0.0001
        shared.offer()
    return core.seconds * core.offers / (core.time - began)


def test_a_thread_that_needs_little_is_offered_the_core_each_time() -> None:
    core = Core(FOREIGN_TIME / 2)
    shared = wanted(core)
    for number in range(1, 1000):
        shared.offer()
        assert core.offers == number


def test_another_program_gets_no_more_than_its_share() -> None:
    for milliseconds in (2, 3, 5, 10):
        assert 0.8 * SHARE < share_given(Core(milliseconds / 1000), seconds=10) <= SHARE


def test_a_process_that_was_stopped_goes_on_to_offer_it_soon() -> None:
    core = Core(3600)
    shared = wanted(core)
    shared.offer()
    core.seconds = 0
    for _ in itertools.takewhile(lambda _: core.offers == 1, range(100)):
        core.time += 0.1
        shared.offer()
    assert core.offers == 2


def test_nothing_is_offered_unless_a_thread_may_be_waiting() -> None:
    core = Core(0.001)
    SharedCore(core.sched_yield, core.now).offer()
    assert core.offers == 0


def test_a_system_without_the_call_has_nothing_to_offer() -> None:
    shared = SharedCore(None)
    shared.wanted = True
    shared.offer()
