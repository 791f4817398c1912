"""One client's connection, whatever its transport: its queue, its progress, its time limits and its end.

It decides nothing about topics, reads nothing, and knows no frames: its subclasses do.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from msgspec import UNSET

from pubsub.auth.identity import Identity
from pubsub.core.lane import Subscriber
from pubsub.core.losses import Loss
from pubsub.protocol.errors import CloseReason, SlowConsumer
from pubsub.protocol.replies import encode, error_reply
from pubsub.system.tcp_info import Traffic, Uptake, traffic, uptake
from pubsub.websocket.departures import Departure
from pubsub.websocket.ending import End, Ending

if TYPE_CHECKING:
    from pubsub.protocol.answers import TransportName
    from pubsub.websocket.services import Services

log = logging.getLogger(__name__)

# High and low watermark of the transport's own buffer: above the first the client is blocked, below the second it is
# written to again. Large enough for a burst on a long line, small enough for many stalled clients.
WRITE_BUFFER_HIGH: Final = 256 * 1024
WRITE_BUFFER_LOW: Final = 64 * 1024
CLOSE_WAIT: Final = 0.9  # seconds from the last bytes that the server sends to the end, whatever the client does

NOTHING_TAKEN: Final = Uptake(0, behind=False)  # all idle connections share it


class ClientTransport(asyncio.Protocol, ABC):
    """See the module. It is a Peer. :meth:`open` takes over a transport whose handshake is done."""

    by_rest: ClassVar[bool]

    __slots__ = ("_end", "_opened", "_seen", "_services", "_transport", "_uptake", "claimed", "next_ping", "number",
                 "slot", "subscriber")  # fmt: skip

    def __init__(self, transport: asyncio.Transport, services: Services, subscriber: Subscriber) -> None:
        self._transport = transport
        self._services = services
        self._end: End | None = None  # None until it begins
        self.subscriber = subscriber
        self._seen = self._opened = services.now()  # the last sign of life, beside progress in taking data
        self._uptake = NOTHING_TAKEN
        self.claimed: str | None = None
        self.next_ping = 0.0
        self.number = 0
        self.slot = 0

    @property
    @abstractmethod
    def transport_name(self) -> TransportName: ...

    @property
    @abstractmethod
    def client_id(self) -> str: ...

    @property
    def round_trip(self) -> int | None:
        """Milliseconds from the last ping to its pong; None if they are not known."""
        return None

    @property
    @abstractmethod
    def identity(self) -> Identity | None: ...

    @property
    @abstractmethod
    def deadline(self) -> float:
        """The moment at which the client's token expires; infinite without one."""

    def _claim(self) -> None:
        if self.claimed is None:
            self.claimed = self.client_id
            self._services.quotas.claim(self.claimed)

    def open(self) -> None:
        """Take the transport over."""
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH, low=WRITE_BUFFER_LOW)
        self._transport.set_protocol(self)
        self._services.connections.add(self)
        log.info("Client connected: %(client_id)s", {"client_id": self.client_id})

    def write(self, encoded: bytes) -> None:
        """Write what is for this client alone, beside its events."""
        self._transport.write(encoded)

    @abstractmethod
    def may_subscribe(self, topic: str) -> bool:
        """True if the rights of the client allow the topic now."""

    @abstractmethod
    def send_heartbeat(self, ts: str) -> None: ...

    @abstractmethod
    def expire(self) -> None:
        """Close: the deadline is over."""

    @abstractmethod
    def revoke(self) -> None:
        """Close: the credentials are no longer accepted."""

    @abstractmethod
    def time_out_message(self) -> None:
        """Close: a message that has begun is not complete in time."""

    @abstractmethod
    def close_for_shutdown(self, reconnect_after_ms: int) -> None:
        """Say when to reconnect, send what is queued, then close."""

    @abstractmethod
    def _leave(self) -> None:
        """End all subscriptions and serve nothing more. A second call changes nothing."""

    @abstractmethod
    def _send_close(self, reason: CloseReason) -> None:
        """Send the last bytes, and abort after CLOSE_WAIT."""

    @abstractmethod
    def _read_on(self) -> None:
        """Serve what the client has sent while it took nothing."""

    # Progress

    def pause_writing(self) -> None:
        self.subscriber.block()
        self._uptake = uptake(self._transport)._replace(at=self._services.now())
        self._services.timers.blocked[self] = None

    def resume_writing(self) -> None:
        self._services.timers.blocked.pop(self, None)
        self.subscriber.unblock()
        if self.subscriber.overflowed and self._end is None:
            self.close_slow_consumer()
        if self.subscriber.blocked:
            return
        if self._end is not None and self._end.owes_close and self._end.due is not None:
            self._send_close(self._end.due)
        else:
            self._read_on()

    @property
    def last_progress(self) -> float:
        """The moment at which the client was last seen to take data that it had not taken before."""
        return self._uptake.at

    def last_activity(self, now: float) -> float:
        """The moment of the last sign of life: bytes that came, or progress in taking data."""
        return max(self._seen, self._last_progress(now))

    def _last_progress(self, now: float) -> float:
        """The moment at which the client was last seen to take data that it had not taken before."""
        before, after = self._uptake, uptake(self._transport)
        at = now if before.behind and after.taken > before.taken else before.at
        self._uptake = after._replace(at=at) if after.behind or at else NOTHING_TAKEN
        return at

    @property
    def is_behind(self) -> bool:
        """True if the client has not taken all that was sent or is queued."""
        return self.subscriber.lagging or uptake(self._transport).behind

    def is_slow_consumer(self, now: float) -> bool:
        """True if the queue is full and the client has taken nothing for ``WRITE_WAIT_SEC``.

        A replay or an answer that waits for the client counts as a full queue. With the policy ``disconnect`` there is
        no time limit.
        """
        self.last_activity(now)
        stalled = now - self._uptake.at >= self._services.limits.write_wait
        return (stalled and (self.subscriber.full or self.subscriber.awaited)) or self.subscriber.overflowed

    # The end

    def close(self, reason: CloseReason) -> None:
        """Close; the queue is lost."""
        if self._end is not None:
            return
        self.subscriber.clear(Loss.DISCONNECTED)
        self._begin_end(Ending(reason), f"closed with {reason.code}: {reason.reason}")
        self._send_close(reason)

    def close_slow_consumer(self) -> None:
        """Drop the queue, and close within a second."""
        log.warning("Slow consumer detected: client_id=%(client_id)s", {"client_id": self.client_id})
        self.subscriber.clear(Loss.SLOW_CONSUMER)
        self._begin_end(Ending.SLOW_CONSUMER, "slow consumer")
        error = error_reply(SlowConsumer(), UNSET, self._services.clock.timestamp())
        self.write(self.subscriber.encoding.message(encode(error)))
        self._send_close(CloseReason.SLOW_CONSUMER)

    def _close_after_queue(self, kind: Ending, reason: CloseReason, text: str) -> None:
        """Send what is queued, then close. Without a limit of the caller, PONG_WAIT_SEC without progress ends it."""
        end = self._begin_end(kind, text)
        end.due = reason
        if not self.subscriber.lagging:
            self._send_close(reason)

    @property
    def age(self) -> float:
        """Seconds since the handshake."""
        return self._services.now() - self._opened

    def disconnect(self) -> None:
        """Close for an operator."""
        self.close(CloseReason.DISCONNECTED)

    def traffic(self) -> Traffic:
        return traffic(self._transport)

    def abort(self, kind: Ending, text: str) -> None:
        """End at once; data that the client has not taken is lost."""
        self._begin_end(kind, text)
        self.subscriber.clear(Loss.DISCONNECTED)  # now: connection_lost comes later, at a shutdown too late for letters
        self._transport.abort()

    def _close_transport(self, answer: bytes) -> None:
        """Close the transport once: asyncio's TLS transport cannot be aborted after a second close."""
        if self._transport.is_closing():
            return
        if self.subscriber.is_member:
            self._services.take_turn(partial(self._close_transport, answer))
            return
        if answer:
            self.write(answer)
        self._transport.close()

    def _begin_end(self, kind: Ending, text: str) -> End:
        """Stop to serve the client. A second call does not change the first end."""
        if self._end is None:
            self._end = End(kind, text)
        self._leave()
        return self._end

    def _abort_later(self) -> None:
        """Abort after CLOSE_WAIT: ``close()`` alone would wait for ever for a client that does not read."""
        assert self._end is not None, "the end has begun"
        if self._end.timer is None:
            self._end.timer = self._services.call_later(CLOSE_WAIT, self._abort_in_the_end)

    def _abort_in_the_end(self) -> None:
        """Abort, unless the client is still taking its queue at a shutdown: that has a time limit of its own."""
        assert self._end is not None, "the end has begun"
        self._end.timer = None
        if self._end.due is not None and self.is_behind:
            self._abort_later()
        else:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        end = self._begin_end(*((Ending.RESET, "connection reset") if exc else (Ending.LOST, "connection lost")))
        if end.timer is not None:
            end.timer.cancel()
        self.subscriber.clear(Loss.DISCONNECTED)
        if self.claimed is not None:
            self._services.quotas.release(self.claimed)
        self._services.connections.remove(self)
        self._depart(end)
        log.info(
            "Client disconnected: %(client_id)s (%(reason)s; connected %(connected_sec).1f s, dropped %(dropped)d)",
            {
                "client_id": self.client_id,
                "reason": end.text,
                "connected_sec": self.age,
                "dropped": self.subscriber.dropped,
            },
        )

    def _depart(self, end: End) -> None:
        clock = self._services.clock
        departure = Departure(
            client_id=self.client_id,
            transport_name=self.transport_name,
            kind=end.kind,
            text=end.text,
            at=self._services.now(),
            connected_at=clock.seconds(ago=self.age),
            ended_at=clock.seconds(),
            dropped=self.subscriber.dropped,
            trail=self.subscriber.trail,
        )
        self._services.departures.add(departure)
