"""Sends a REST request until it has an answer that can't be another one later. It must never exceed its deadline.

A request is repeated after a lost connection, and after an answer that says "later". Whether that is safe decides the
caller: the requests of this package have ids.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final

from pubsub.client.errors import AnswerTimeout, PubsubError, Unreachable
from pubsub.client.http_connections import ExchangeFailed, HttpConnections, Reply, Request
from pubsub.client.rest_replies import UNKNOWN_OUTCOME, error_of, may_pass, retry_after
from pubsub.client.timed_socket import Deadline

FIRST_PAUSE: Final = 0.2  # seconds; doubled for each further attempt
DOUBLINGS: Final = 5  # at most


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request. ``after_unknown``: an earlier attempt may have been served already."""

    reply: Reply
    after_unknown: bool


@dataclass(frozen=True, slots=True)
class _Failed:
    """An attempt that failed for now. ``wait``: seconds that the server asked for."""

    error: PubsubError
    may_be_served: bool
    was_kept: bool = False
    wait: float = 0.0


class Retries:
    """See the module. ``headers`` is called for each attempt: a token in them may be a new one."""

    def __init__(self, connections: HttpConnections, headers: Callable[[], Mapping[str, str]], retries: int) -> None:
        self._connections = connections
        self._headers = headers
        self._retries = retries

    def send(self, request: Request, deadline: Deadline) -> Answer:
        """Return the first answer that is not temporary, of any status.

        Raises Unreachable or the server's last refusal if the request was not served; AnswerTimeout if it may have
        been; ServerFault.
        """
        unknown = False
        for attempt in count():
            outcome = self._attempt(request, deadline)
            if isinstance(outcome, Reply):
                return Answer(outcome, unknown)
            unknown = unknown or outcome.may_be_served
            pause = outcome.wait + pause_before(attempt)
            if outcome.was_kept:
                self._connections.close_idle()  # the others are probably as dead
                pause = 0.0
            if attempt == self._retries or pause >= deadline.left:
                raise _final(outcome.error, attempts=attempt + 1) if unknown else outcome.error
            time.sleep(pause)
        raise AssertionError("count() has no end")

    def _attempt(self, request: Request, deadline: Deadline) -> Reply | _Failed:
        try:
            reply = self._connections.exchange(request, self._headers(), deadline)
        except ExchangeFailed as failure:
            return _Failed(Unreachable(str(failure)), failure.may_be_served, was_kept=failure.was_kept)
        if reply.status in range(200, 300) or not may_pass(error := error_of(reply)):
            return reply
        return _Failed(error, reply.status in UNKNOWN_OUTCOME, wait=retry_after(reply.headers))


def pause_before(attempt: int) -> float:
    """Return a random pause in seconds before a further attempt.

    It is at least half of the largest one, unlike those of a client that never gives up: few attempts have to last over
    a restart of the server.
    """
    longest = float(FIRST_PAUSE * 2 ** min(attempt, DOUBLINGS))
    return random.uniform(longest / 2, longest)


def _final(error: PubsubError, *, attempts: int) -> PubsubError:
    times = "once" if attempts == 1 else f"{attempts} times"
    return AnswerTimeout(f"the request was sent {times}, and may or may not have been served: {error}")
