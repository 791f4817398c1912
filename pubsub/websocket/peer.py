"""A Peer is a client's connection as the registry and the timers see it: a WebSocket, or another transport."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, get_args

from pubsub.auth.identity import Identity
from pubsub.core.lane import Subscriber
from pubsub.protocol.answers import TransportName
from pubsub.protocol.errors import CloseReason
from pubsub.system.tcp_info import Traffic
from pubsub.websocket.ending import Ending

TRANSPORTS: Final[tuple[TransportName, ...]] = get_args(TransportName)


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds; see the settings of the same names."""

    ping_period: float
    pong_wait: float
    write_wait: float
    read_timeout: float
    max_message_bytes: int
    queue_size: int
    auth_wait: float = 5.0


class Peer(Protocol):
    """See the module. ``number`` is its place in the order of arrival (the registry's).

    ``slot`` and ``next_ping`` belong to the timers. ``claimed``: the client whose quota counts this connection, if any.
    ``by_rest``: it needs the credentials of a REST call, and API keys count too.
    """

    by_rest: ClassVar[bool]
    number: int
    slot: int
    next_ping: float
    claimed: str | None
    subscriber: Subscriber

    @property
    def transport_name(self) -> TransportName:
        """The protocol that the client speaks."""
        ...

    @property
    def client_id(self) -> str: ...

    @property
    def identity(self) -> Identity | None:
        """None if the client may everything, or has not yet said who it is."""

    @property
    def round_trip(self) -> int | None:
        """Milliseconds from the last ping to its pong; None if they are not known."""
        ...

    @property
    def age(self) -> float:
        """Seconds since the connection was opened."""
        ...

    @property
    def deadline(self) -> float:
        """The moment at which the client's token ends, or must be there; infinite without one."""
        ...

    @property
    def is_behind(self) -> bool:
        """True if the client has not taken all that was sent or is queued."""
        ...

    @property
    def last_progress(self) -> float:
        """The moment at which the client was last seen to take data that it had not taken before."""
        ...

    def last_activity(self, now: float) -> float:
        """The moment of the last sign of life."""
        ...

    def is_slow_consumer(self, now: float) -> bool:
        """True if its queue is full and it has taken nothing for ``write_wait``."""
        ...

    def traffic(self) -> Traffic: ...

    def may_subscribe(self, topic: str) -> bool:
        """True if the rights of the client allow the topic now."""
        ...

    def send_heartbeat(self, ts: str) -> None: ...

    def expire(self) -> None:
        """Close: the deadline is over."""
        ...

    def revoke(self) -> None:
        """Close: the client's credentials are no longer accepted."""
        ...

    def time_out_message(self) -> None:
        """Close: a message that has begun is not whole in time."""
        ...

    def close_slow_consumer(self) -> None: ...

    def close_for_shutdown(self, reconnect_after_ms: int) -> None:
        """Send all that is queued, then close; abort ends it sooner."""
        ...

    def close(self, reason: CloseReason) -> None:
        """Close; the queue is lost."""
        ...

    def disconnect(self) -> None:
        """Close for an operator."""
        ...

    def abort(self, kind: Ending, text: str) -> None:
        """End at once; what the client has not taken is lost. ``text`` is for the log."""
        ...
