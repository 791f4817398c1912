"""Doubles of the core's protocols, for tests that need one as an argument and do not check it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from msgspec import UNSET, UnsetType

from pubsub.core.broker import Broker
from pubsub.core.joining import Joining
from pubsub.core.lane import Subscriber
from pubsub.core.log import Assigned, Done, Found, Publisher, Purged
from pubsub.core.subscription import Asked, Grant, Subscription
from pubsub.filters.filters import Filter
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Position, Publish


class Sink:
    """Passes what is written on to a function (Transport)."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write


class AllGranted:
    """The grant of a client that may everything (Grant)."""

    client_id = "c"

    def may_subscribe(self, topic: str) -> bool:
        return True

    def may_subscribe_some(self, pattern: str) -> bool:
        return True

    def filters_for(self, topic: str) -> Sequence[Filter]:
        return ()


ALL_GRANTED = AllGranted()


def join(
    broker: Broker,
    name: str,
    subscriber: Subscriber,
    *,
    last_n: int = 0,
    resume: Mapping[str, Position] | None = None,
    grant: Grant = ALL_GRANTED,
    wanted: Filter | None = None,
) -> Joining:
    """Subscribe to what can be joined in one step. The caller lets the Joining advance."""
    answers: list[Joining | Failure] = []
    broker.subscribe(Asked(Subscription(name, wanted), grant, last_n, resume), subscriber, answers.append)
    (joining,) = answers
    assert isinstance(joining, Joining)
    return joining


class NoPublisher:
    """A publisher that ignores the outcome (Publisher)."""

    client_id = ""

    def published(self, requests: Sequence[Publish], first: int, ts: str) -> None:
        pass

    def repeated(self, request: Publish, seq: int, ts: str) -> None:
        pass

    def refused(self, request: Publish, failure: Failure) -> None:
        pass

    def wait(self, requests: Sequence[Publish]) -> None:
        pass


class NoLog:
    """The log of a topic without publishes (TopicLog)."""

    appending = False

    def append(self, requests: Sequence[Publish], publisher: Publisher) -> NoReturn:
        raise AssertionError("nothing is appended here")

    def append_all(self, requests: Sequence[Publish], client_id: str, done: Assigned) -> NoReturn:
        raise AssertionError("nothing is appended here")

    def purge(self, done: Purged) -> NoReturn:
        raise AssertionError("nothing is purged here")

    def read(self, after: int, until: int, limit: int, done: Found) -> NoReturn:
        raise AssertionError("nothing is read here")

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> NoReturn:
        raise AssertionError("nothing is looked for here")

    def delete(self, done: Done, expect_seq: int | UnsetType = UNSET) -> NoReturn:
        raise AssertionError("nothing is deleted here")
