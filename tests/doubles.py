"""Doubles of the core's protocols, for tests that need one as an argument and do not check it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from pubsub.core.log import Done, Found, Publisher
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Publish


class NoPublisher:
    """A publisher that ignores the outcome (Publisher)."""

    def published(self, request: Publish, seq: int, ts: str) -> None:
        pass

    def repeated(self, request: Publish, seq: int, ts: str) -> None:
        pass

    def refused(self, request: Publish, failure: Failure) -> None:
        pass

    def wait(self, request: Publish) -> None:
        pass


class NoLog:
    """The log of a topic without publishes (TopicLog)."""

    appending = False

    def append(self, request: Publish, publisher: Publisher) -> NoReturn:
        raise AssertionError("nothing is appended here")

    def read(self, after: int, until: int, limit: int, done: Found) -> NoReturn:
        raise AssertionError("nothing is read here")

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> NoReturn:
        raise AssertionError("nothing is looked for here")

    def delete(self, done: Done) -> NoReturn:
        raise AssertionError("nothing is deleted here")
