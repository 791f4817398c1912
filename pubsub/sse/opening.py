"""A stream before its head is sent: it subscribes, and whatever is wrong is still an answer of its own.

Subscriptions begin as those of a WebSocket do. The subscriber is blocked meanwhile, so that nothing comes before the
head.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec import UNSET, Raw, UnsetType

from pubsub.auth.identity import Identity
from pubsub.core.joining import Joining
from pubsub.core.subscription import Asked, Resume
from pubsub.protocol.errors import Failure, TopicNotFound
from pubsub.protocol.patterns import has_wildcard
from pubsub.protocol.replies import Info, TopicPosition, encode
from pubsub.sse.cursors import Seqs
from pubsub.sse.encoding import info_block, retry_line, topic_key
from pubsub.sse.gzip import Gzip
from pubsub.sse.positions import CursorPositions, position_id, read_position
from pubsub.sse.stream import EventStream
from pubsub.sse.streams import Streams
from pubsub.websocket.acknowledgements import positions_of

log = logging.getLogger(__name__)

NOTED: Final = 1000  # positions that are noted in one turn: 1 to 2 ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The wishes of a client. ``last_event_id`` is empty if it does not resume.

    ``elsewhere``: the positions behind it as another server knows them; None if no other one does.
    """

    names: Sequence[str]
    last_n: int = 0
    last_event_id: str = ""
    filter: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    elsewhere: Seqs | None = None

    @property
    def is_one_topic(self) -> bool:
        return len(self.names) == 1 and not has_wildcard(self.names[0])


class Opening:
    """See the module. Each method may raise a Failure; then :meth:`abandon` must be called."""

    def __init__(
        self,
        streams: Streams,
        transport: asyncio.Transport,
        wanted: Wanted,
        *,
        client_id: str,
        identity: Identity | None,
        gzip: Gzip | None,
    ) -> None:
        self._streams = streams
        self._broker = streams.services.broker
        self._transport = transport
        self._wanted = wanted
        self._cursor = None if wanted.is_one_topic else streams.cursors.begin()
        self._joinings: list[Joining] = []
        self._missing: list[str] = []  # topics that have been deleted since the client was here
        cursor = self._cursor
        self._stream = EventStream(
            transport,
            streams.services,
            streams.of_one_topic if cursor is None else streams.of_several,
            client_id=client_id,
            identity=identity,
            gzip=gzip,
            marking=None if cursor is None else cursor.marking,
            on_end=None if cursor is None else partial(streams.cursors.end, cursor),
        )

    def requests(self) -> list[Asked]:
        """The subscriptions that the client may have. Raises Forbidden, BadRequest."""
        wanted, stream = self._wanted, self._stream
        for name in wanted.names:
            stream.require_subscribe(name)
        resume = self._read_resume()
        return [
            Asked(stream.read_subscription(name, wanted.filter, wanted.params), stream, wanted.last_n, resume)
            for name in wanted.names
        ]

    def _read_resume(self) -> Resume | None:
        text = self._wanted.last_event_id
        if not text:
            return None
        if self._cursor is None:
            return {self._wanted.names[0]: read_position(text)}
        seqs = self._streams.cursors.find(text)
        return CursorPositions(self._wanted.elsewhere if seqs is None else seqs, self._broker.find_topic)

    def subscribe(self, asked: Asked, answer: Callable[[Joining | Failure], None]) -> None:
        """Begin one subscription, then call ``answer``: at once, or later. Raises TopicNotFound, LimitExceeded."""
        self._streams.services.rules.check_room(self._stream.subscriber, asked.subscription.name)
        self._broker.subscribe(asked, self._stream.subscriber, answer)

    def add(self, joining: Joining) -> None:
        """Take in a subscription whose topics are entered."""
        self._joinings.append(joining)

    def pass_over(self, asked: Asked, failure: TopicNotFound) -> None:
        """Continue without a topic that is gone, if the client has had others too. Raises the failure otherwise."""
        if self._cursor is None or not self._wanted.last_event_id:
            raise failure
        self._missing.append(asked.subscription.name)

    def note_positions(self) -> Iterator[None]:
        """Note the positions from which the stream begins, in slices.

        A topic that comes later needs none: it is read from its beginning.
        """
        subscriber, cursor = self._stream.subscriber, self._cursor
        names = [] if cursor is None else list(subscriber.lanes)
        for number, name in enumerate(names, 1):
            if cursor is not None and (lane := subscriber.lanes.get(name)) is not None:
                catch_up = lane.catch_up_of(subscriber)
                assert catch_up is not None, "a blocked subscriber joins no lane"
                cursor.begin(topic_key(lane.topic), catch_up.known)
            if number % NOTED == 0:
                yield

    def confirm(self) -> None:
        """Raise TopicNotFound if the topic, or all of them, have ended meanwhile."""
        for joining in list(self._joinings):
            try:
                joining.confirm()
            except TopicNotFound as failure:
                self.pass_over(joining.asked, failure)
                self._joinings.remove(joining)
        if not self._joinings:
            raise TopicNotFound(self._wanted.names[0])

    def begin(self, take: Callable[[], None]) -> None:
        """``take`` the transport from its present owner and send the head, then the start of the stream."""
        take()
        self._stream.open()
        start = [retry_line(self._streams.retry_ms())]
        again = self._recreated()
        start += [self._end_block(name) for name in again]
        start += [self._start_block(joining) for joining in self._joinings]
        start += [self._end_block(name) for name in self._missing if name not in again]
        self._stream.write(b"".join(start))
        self._stream.unblock()
        for joining in self._joinings:
            joining.advance()

    def abandon(self) -> None:
        """Leave everything: there will be no stream."""
        self._broker.leave(self._stream.subscriber)
        if self._cursor is not None:
            self._streams.cursors.discard(self._cursor)

    def _recreated(self) -> set[str]:
        """The missing topics that a pattern has again: the client must learn of their end before that."""
        missing = set(self._missing)
        return missing and {
            each.topic.name for joining in self._joinings for each in joining.topics if each.topic.name in missing
        }

    def _start_block(self, joining: Joining) -> bytes:
        """Tell where a subscription starts, with an id: a client that is cut off now misses nothing."""
        name = joining.asked.subscription.name
        log.info(
            "Client %(client_id)s subscribed to topic %(topic)s", {"client_id": self._stream.client_id, "topic": name}
        )
        return info_block(self._start_id(joining), encode(self._start_info(joining)))

    def _start_id(self, joining: Joining) -> bytes:
        if self._cursor is not None:
            return self._cursor.start_id
        (joined,) = joining.topics
        assert joined.catch_up is not None, "it is the first subscription"
        return position_id(joined.topic.epoch, joined.catch_up.known)

    def _start_info(self, joining: Joining) -> Info:
        name, ts = joining.asked.subscription.name, self._streams.services.clock.timestamp()
        epoch: str | UnsetType = UNSET
        seq: int | UnsetType = UNSET
        topics: dict[str, TopicPosition] | UnsetType = UNSET
        if joining.asked.subscription.is_pattern:
            topics = positions_of(joining)
        else:
            (joined,) = joining.topics
            epoch, seq = joined.topic.epoch, joined.seq
        if joining.recovered is UNSET:
            return Info(topic=name, msg="subscribed", epoch=epoch, seq=seq, topics=topics, ts=ts)
        return Info(
            topic=name, msg="recovered", recovered=joining.recovered, epoch=epoch, seq=seq, topics=topics, ts=ts
        )

    def _end_block(self, name: str) -> bytes:
        notice = Info(topic=name, msg="topic_deleted", ts=self._streams.services.clock.timestamp())
        return self._stream.subscriber.encoding.message(encode(notice))
