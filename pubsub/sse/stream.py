"""One client of Server-Sent Events: a Peer on the socket of its request, without a task and without a coroutine.

Nothing that the client sends after its request is read but the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, ClassVar, Final

from msgspec import UNSET

from pubsub.auth.identity import Identity
from pubsub.core.backlog import OutboxOptions
from pubsub.core.event import Source
from pubsub.core.lane import Subscriber, Write
from pubsub.core.outbox import Transport
from pubsub.core.placement import topic_of
from pubsub.filters.filters import Filters
from pubsub.protocol.errors import CloseReason, Unauthorized
from pubsub.protocol.replies import Info, encode, error_reply
from pubsub.sse.encoding import TOPIC_EVENTS, heartbeat, info_block, retry_line
from pubsub.sse.gzip import Gzip, stored
from pubsub.sse.positions import DISCONNECTED, position_id
from pubsub.websocket.ending import Ending
from pubsub.websocket.grants import IdentityGrant
from pubsub.websocket.transport import ClientTransport

if TYPE_CHECKING:
    from pubsub.websocket.services import Services


class Through:
    """A transport whose bytes pass a function first (Transport)."""

    __slots__ = ("write",)

    def __init__(self, write: Write) -> None:
        self.write = write


class StreamSubscriber(Subscriber):
    """A Subscriber that ends its stream once nothing is left to which it is subscribed.

    It is blocked until the stream is open: what comes before the head has gone waits in its queue.
    """

    __slots__ = ("stream",)

    def __init__(self, transport: Transport, options: OutboxOptions) -> None:
        super().__init__(transport, options)
        self.stream: EventStream | None = None  # once it is open
        self.block()

    def notify(self, topic: Source | None, text: bytes) -> None:
        super().notify(topic, text)
        if self.stream is not None and not self.subscription_count:
            self.stream.end_without_topics()


class EventStream(ClientTransport, IdentityGrant):
    """See the module. ``identity`` is None if the client may everything.

    ``gzip`` is None for a plain stream. ``marking`` makes the function that writes events; ``on_end`` is called at the
    end.
    """

    identity: Identity | None
    by_rest: ClassVar[bool] = True

    __slots__ = ("_gzip", "_on_end", "identity")

    transport_name: Final = "sse"

    def __init__(
        self,
        transport: asyncio.Transport,
        services: Services,
        options: OutboxOptions,
        *,
        client_id: str,
        identity: Identity | None,
        gzip: Gzip | None = None,
        marking: Callable[[Write, Gzip | None], Write] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        events: Transport = transport
        if marking is not None:
            events = Through(marking(transport.write, gzip))
        elif gzip is not None:
            events = Through(gzip.writing(transport.write))
        super().__init__(transport, services, StreamSubscriber(events, options))
        self._gzip = gzip
        self.subscriber.client_id = client_id
        self._on_end = on_end
        self.identity = identity

    @property
    def client_id(self) -> str:
        return self.subscriber.client_id

    @property
    def filters(self) -> Filters:
        return self._services.broker.filters

    @property
    def deadline(self) -> float:
        return inf if self.identity is None else self.identity.expires

    def open(self) -> None:
        """Take the transport over. The head has been written."""
        super().open()
        self._claim()

    def write(self, encoded: bytes) -> None:
        self._transport.write(encoded if self._gzip is None else stored(encoded))

    def unblock(self) -> None:
        """Let everything through that waits, and all that comes."""
        assert isinstance(self.subscriber, StreamSubscriber), "made above"
        self.subscriber.stream = self
        self.subscriber.unblock()

    def may_subscribe(self, topic: str) -> bool:
        return IdentityGrant.may_subscribe(self, topic)

    # What the client sends

    def data_received(self, data: bytes) -> None:
        """Ignore it, and read no more before the next heartbeat."""
        self._transport.pause_reading()

    def eof_received(self) -> bool:
        self.abort(Ending.HUNG_UP, "the client hung up")
        return False

    def _read_on(self) -> None:
        pass

    def time_out_message(self) -> None:
        raise AssertionError("a stream has no messages of the client")

    # Progress

    def send_heartbeat(self, ts: str) -> None:
        """Send a comment, unless the client is blocked: then it has enough to take."""
        if self._end is not None:
            return
        if not self._transport.is_reading():
            self._transport.resume_reading()
        if not self.subscriber.blocked:
            block = heartbeat(self._position())
            self._services.meter.answered += len(block)
            self.write(block)

    def _position(self) -> bytes:
        """A new id for a client of one topic whose filter may have let nothing through for long; otherwise empty.

        Without it a resume would begin where the last event was, and messages after that may no longer be kept.
        """
        subscriber = self.subscriber
        if subscriber.book is not None and subscriber.encoding is TOPIC_EVENTS:
            for lane in subscriber.lanes.values():
                topic = topic_of(lane)
                if lane.has_all(subscriber) and not topic.has_pending:
                    return position_id(topic.epoch, topic.seq)
        return b""

    def last_activity(self, now: float) -> float:
        """``now`` for a client that has taken everything, otherwise the moment at which it last took something."""
        progress = self._last_progress(now)
        if not self._uptake.behind:
            self._seen = now
        return max(self._seen, progress)

    # The end

    def expire(self) -> None:
        if self._end is not None:
            self.abort(Ending.UNAUTHORIZED, "token expired")
        else:
            self._refuse(Unauthorized("token: expired"))

    def revoke(self) -> None:
        if self._end is None:
            self._refuse(Unauthorized("key or token: no longer accepted"))

    def _refuse(self, failure: Unauthorized) -> None:
        error = error_reply(failure, UNSET, self._services.clock.timestamp())
        self.write(self.subscriber.encoding.message(encode(error)))
        self.close(CloseReason.UNAUTHORIZED)

    def close_for_shutdown(self, reconnect_after_ms: int) -> None:
        if self._end is not None:
            return
        draining = Info(msg="draining", reconnect_after_ms=reconnect_after_ms, ts=self._services.clock.timestamp())
        self.write(retry_line(reconnect_after_ms) + self.subscriber.encoding.message(encode(draining)))
        self._close_after_queue(Ending.GOING_AWAY, CloseReason.GOING_AWAY, "the server is shutting down")

    def end_without_topics(self) -> None:
        """End after what is queued: the client is told of the end of its last topic."""
        if self._end is None:
            self._close_after_queue(Ending.NO_TOPIC, CloseReason.GOING_AWAY, "no topic is left")

    def _leave(self) -> None:
        self._services.broker.leave(self.subscriber)

    def _send_close(self, reason: CloseReason) -> None:
        self._abort_later()
        self._close_transport(self._last_block() if reason is CloseReason.DISCONNECTED else b"")

    def _last_block(self) -> bytes:
        """Give the client an id with which it is not served again."""
        info = Info(msg="disconnected", ts=self._services.clock.timestamp())
        return info_block(DISCONNECTED.encode(), encode(info))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        assert isinstance(self.subscriber, StreamSubscriber), "made above"
        self.subscriber.stream = None  # a cycle, which only the garbage collector would find
        if self._on_end is not None:
            self._on_end()
