"""The decision after each connection, and the pauses between attempts."""

from __future__ import annotations

from random import Random

import pytest

from pubsub.client.errors import Disconnected, TokenError, Unreachable
from pubsub.client.pauses import FIRST_PAUSE_SEC, Pauses
from pubsub.client.reconnects import LONGEST_DRAIN_SEC, LONGEST_PAUSE_SEC, STABLE_SEC, Reconnects, Retry
from tests.client.hosts import FakeHost

NEVER = {4403, 1002, 1007, 1008, 1009}
FOR_TOKENS = {4401}


class Longest(Random):
    """Chance that always gives the longest pause."""

    def uniform(self, a: float, b: float) -> float:
        return b


def make(*, renewable: bool = False) -> tuple[FakeHost, Reconnects]:
    host = FakeHost()
    host.random = Longest()
    return host, Reconnects(host, renewable=renewable)


@pytest.mark.parametrize("renewable", [False, True])
@pytest.mark.parametrize("code", [1000, 1001, 1002, 1007, 1008, 1009, 1011, 1013, 3000, 4000, 4401, 4403])
def test_close_codes_that_are_the_end(code: int, renewable: bool) -> None:
    _, reconnects = make(renewable=renewable)
    decision = reconnects.after_close(code, "why")
    ends = code in NEVER or (code in FOR_TOKENS and not renewable)
    assert isinstance(decision, Disconnected) is ends
    if isinstance(decision, Disconnected):
        assert decision.code == code
        assert f"({code}: why)" in decision.reason


@pytest.mark.parametrize("renewable", [False, True])
@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 408, 426, 429, 500, 502, 503])
def test_statuses_of_the_first_attempt_that_are_the_end(status: int, renewable: bool) -> None:
    _, reconnects = make(renewable=renewable)
    ends = status in (400, 404, 426) or (status in (401, 403) and not renewable)
    assert isinstance(reconnects.after_refusal(status), Disconnected) is ends


def test_a_status_that_is_wrong_once_it_has_worked_is_that_of_a_proxy() -> None:
    _, reconnects = make()
    reconnects.opened()
    assert isinstance(reconnects.after_refusal(404), Retry)
    assert isinstance(reconnects.after_refusal(401), Disconnected)


def test_pauses_grow_up_to_a_limit_and_have_full_jitter() -> None:
    pauses = Pauses(Longest(), 30)
    assert [pauses.next() for _ in range(11)] == pytest.approx([0.1 * 2**n for n in range(9)] + [30, 30])
    pauses.reset()
    assert pauses.next() == FIRST_PAUSE_SEC
    random = Pauses(Random(1), 30)
    for _ in range(9):
        random.next()
    found = [random.next() for _ in range(200)]
    assert 0 <= min(found) < 3
    assert 27 < max(found) <= 30


def test_a_connection_that_lasted_makes_the_pauses_short_again() -> None:
    host, reconnects = make()
    failed = Unreachable("x")
    for _ in range(12):
        reconnects.after_failure(failed)
    reconnects.opened()
    host.pass_time(STABLE_SEC - 1)
    assert reconnects.after_failure(failed) == Retry(failed, LONGEST_PAUSE_SEC)
    reconnects.opened()
    host.pass_time(STABLE_SEC)
    assert reconnects.after_failure(failed) == Retry(failed, FIRST_PAUSE_SEC)


@pytest.mark.parametrize(("told", "waited"), [(1830, 1.83), (3_600_000, LONGEST_DRAIN_SEC), (-5, 0.1)])
def test_the_time_of_a_server_that_shuts_down_is_obeyed_within_reason(told: float, waited: float) -> None:
    _, reconnects = make()
    reconnects.opened()
    reconnects.drain(told)
    decision = reconnects.after_close(1001, "")
    assert isinstance(decision, Retry)
    assert decision.pause == pytest.approx(waited)


def test_a_token_that_can_not_be_had_is_tried_again() -> None:
    _, reconnects = make(renewable=True)
    error = TokenError("x")
    assert reconnects.after_failure(error).error is error
