"""Publishes payloads in lists that the server takes. It must never publish one after another that was refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from types import TracebackType
from typing import Final, Self, TypeVar

from msgspec import Raw
from yarl import URL

from pubsub.client import BadRequest, LimitExceeded, Published, Publisher, RateLimited, TooBig, TopicNotFound
from pubsub.client.credentials import Credentials
from pubsub.protocol.requests import MAX_MESSAGES

Outcome = TypeVar("Outcome")

LIST_BYTES: Final = 512 * 2**10
"""Of payloads: with the JSON around 1,000 messages less than 1 MiB, which a server takes unless it is set otherwise."""
ATTEMPTS: Final = 1000
"""More than there is time for: the time alone is the limit."""


class ListPublisher:
    """The messages of one topic. ``wait``: seconds for one request with all its attempts.

    The first request has one attempt: a server that is not there is told at once. Later ones have as many as there is
    time for, so that a restart of the server is survived.
    """

    def __init__(self, url: URL, credentials: Credentials, topic: str, *, wait: float) -> None:
        self._topic = topic
        self._largest = MAX_MESSAGES
        self._hasty = make_publisher(url, credentials, timeout=wait, retries=0)
        self._patient = make_publisher(url, credentials, timeout=wait, retries=ATTEMPTS)
        self._publisher = self._hasty

    def publish(self, payload: Raw, *, id: str | None, ttl_sec: float | None, expect_seq: int | None) -> Published:
        """Publish one message; raises PubsubError."""

        def publish_by(publisher: Publisher) -> Published:
            return publisher.publish(self._topic, payload, id=id, ttl_sec=ttl_sec, expect_seq=expect_seq)

        return self._try(publish_by)

    def publish_lists(self, payloads: Sequence[Raw], *, ttl_sec: float | None) -> Iterator[list[Published]]:
        """Publish messages in this order; yield the outcomes of each list. Raises PubsubError.

        A list that is refused is divided: it may be too large for the server, or have one message that is refused. Then
        those before it are published, and none after it.
        """
        start = 0
        while start < len(payloads):
            size = self._size_of_list(payloads, start)
            yield from self._publish_list(payloads[start : start + size], ttl_sec)
            start += size

    def _size_of_list(self, payloads: Sequence[Raw], start: int) -> int:
        """Return the number of messages that one request takes. A large one is alone in its list."""
        sizes = accumulate(len(payload) for payload in payloads[start : start + self._largest])
        return max(1, sum(size <= LIST_BYTES for size in sizes))

    def _publish_list(self, payloads: Sequence[Raw], ttl_sec: float | None) -> Iterator[list[Published]]:
        try:
            published = self._publish(payloads, ttl_sec)
        except (BadRequest, LimitExceeded, TooBig) as refusal:
            if len(payloads) == 1:
                raise
            middle = len(payloads) // 2
            if isinstance(refusal, LimitExceeded):  # of the server's rate, which a later list would exceed too
                self._largest = middle
            yield from self._publish_list(payloads[:middle], ttl_sec)
            yield from self._publish_list(payloads[middle:], ttl_sec)
        else:
            yield published

    def _publish(self, payloads: Sequence[Raw], ttl_sec: float | None) -> list[Published]:
        if len(payloads) == 1:  # a refusal names a field of the message then, and not of the first one in a list
            return [self.publish(payloads[0], id=None, ttl_sec=ttl_sec, expect_seq=None)]
        return self._try(lambda publisher: publisher.publish_many(self._topic, payloads, ttl_sec=ttl_sec))

    def _try(self, publish_by: Callable[[Publisher], Outcome]) -> Outcome:
        try:
            return publish_by(self._publisher)
        except RateLimited:
            return publish_by(self._patient)
        except TopicNotFound as error:
            error.args = (f"topic '{self._topic}' does not exist: --create creates it",)
            raise
        finally:
            self._publisher = self._patient

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hasty.close()
        self._patient.close()


def make_publisher(url: URL, credentials: Credentials, *, timeout: float, retries: int) -> Publisher:
    return Publisher(
        str(url),
        token=credentials.token or None,
        api_key=credentials.api_key or None,
        tls=credentials.tls if url.scheme == "https" else None,
        timeout=timeout,
        retries=retries,
    )
