"""The ways in which a connection ends, and the state of an end that has begun."""

from __future__ import annotations

import asyncio
import enum

from pubsub.protocol.errors import CloseReason


class Ending(enum.Enum):
    """The kinds of ends. Their names, in lower case, are labels of metrics.

    The value is the close reason of the server's close frame, or a text if the server sends none.
    """

    GOING_AWAY = CloseReason.GOING_AWAY
    PROTOCOL_ERROR = CloseReason.PROTOCOL_ERROR
    INVALID_TEXT = CloseReason.INVALID_TEXT
    MESSAGE_TIMEOUT = CloseReason.MESSAGE_TIMEOUT
    FLOODING = CloseReason.FLOODING
    TOO_BIG = CloseReason.TOO_BIG
    SERVER_FAILURE = CloseReason.SERVER_FAILURE
    SLOW_CONSUMER = CloseReason.SLOW_CONSUMER
    TOO_MANY_CONNECTIONS = CloseReason.TOO_MANY_CONNECTIONS
    UNAUTHORIZED = CloseReason.UNAUTHORIZED
    DISCONNECTED = CloseReason.DISCONNECTED
    CLOSED_BY_CLIENT = "closed by the client"
    NO_TOPIC = "no topic is left"
    HUNG_UP = "the client hung up"
    LOST = "connection lost"
    RESET = "connection reset"
    SILENT = "no sign of life"
    SHUTDOWN_TIMEOUT = "cut off at shutdown"
    FAULT = "internal error"

    @property
    def close_reason(self) -> CloseReason | None:
        return self.value if isinstance(self.value, CloseReason) else None


class End:
    """An end that has begun. ``text`` is for the log.

    ``due``: the close reason of the frame that follows once nothing waits for the client. ``timer``: its end aborts the
    transport; it runs after the server has sent its close frame, or has closed the transport.
    """

    __slots__ = ("due", "kind", "text", "timer")

    def __init__(self, kind: Ending, text: str) -> None:
        self.kind = kind
        self.text = text
        self.due: CloseReason | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def owes_close(self) -> bool:
        """True as long as a close frame is due and not sent."""
        return self.due is not None and self.timer is None
