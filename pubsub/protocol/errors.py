"""All request errors and close reasons. No other module contains a literal error code, close code or HTTP status.

docs/protocol.md has the same tables; a test compares them.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import msgspec

Details = Mapping[str, int | list[str]]


class CloseReason(enum.Enum):
    """Close code and reason of the server's close frames (RFC 6455, 7.4; the reason has at most 123 bytes)."""

    GOING_AWAY = (1001, "server is shutting down")
    PROTOCOL_ERROR = (1002, "protocol error")
    INVALID_TEXT = (1007, "text is not UTF-8")
    MESSAGE_TIMEOUT = (1008, "message not complete in time")
    FLOODING = (1008, "too many requests")
    TOO_BIG = (1009, "message too big")
    SERVER_FAILURE = (1011, "internal error")
    SLOW_CONSUMER = (1013, "slow consumer")
    TOO_MANY_CONNECTIONS = (1013, "too many connections of this client")
    UNAUTHORIZED = (4401, "token missing, invalid or expired")
    DISCONNECTED = (4403, "disconnected by an operator")

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


class Failure(Exception):
    """A request that cannot be served. ``code`` goes to WebSocket clients, ``status`` to REST clients.

    ``str(failure)`` is the text for people: what was expected and what came. It never holds a secret or a traceback.
    ``close_reason``: the failure also ends a WebSocket connection, with this reason. ``by_websocket``: a WebSocket
    client may get it.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    close_reason: ClassVar[CloseReason | None] = None
    by_websocket: ClassVar[bool] = True

    @property
    def rest_text(self) -> str:
        """The text of ``{"error": …}``; some are fixed by the contract, word for word."""
        return str(self)

    @property
    def details(self) -> Details:
        """Further fields of a REST answer's body."""
        return {}

    @property
    def headers(self) -> dict[str, str]:
        """Further header fields of a REST answer."""
        return {}


class BadRequest(Failure):
    """Not JSON, not an object, an unknown type, a field that is missing or wrong. The text names the field."""

    code = "BAD_REQUEST"
    status = 400


class TopicNotFound(Failure):
    """The topic that a request names does not exist."""

    code = "TOPIC_NOT_FOUND"
    status = 404

    def __init__(self, topic: str) -> None:
        super().__init__(f"Topic '{topic}' does not exist")

    @property
    def rest_text(self) -> str:
        return "topic not found"


class TopicExists(Failure):
    """A topic of that name exists. Only REST creates topics, so WebSocket clients never see the code."""

    code = "TOPIC_EXISTS"
    status = 409
    by_websocket = False

    def __init__(self, topic: str) -> None:
        super().__init__(f"Topic '{topic}' exists")

    @property
    def rest_text(self) -> str:
        return "topic already exists"


class ClientNotFound(Failure):
    """The client has no connection. Only REST asks for it, so WebSocket clients never see the code.

    ``missing``: servers that did not answer, and may have one.
    """

    code = "CLIENT_NOT_FOUND"
    status = 404
    by_websocket = False

    def __init__(self, missing: Sequence[str] = ()) -> None:
        super().__init__("client not found")
        self.missing = list(missing)

    @property
    def details(self) -> Details:
        return {"missing": self.missing} if self.missing else {}


class MessageNotFound(Failure):
    """The topic has no such message, or does not keep it. Only REST asks, so WebSocket clients never see the code."""

    code = "MESSAGE_NOT_FOUND"
    status = 404
    by_websocket = False

    def __init__(self) -> None:
        super().__init__("message not found")


class SlowConsumer(Failure):
    """The subscriber's queue is full and its socket took nothing for ``WRITE_WAIT_SEC``. Closes with 1013."""

    code = "SLOW_CONSUMER"
    status = 503
    close_reason = CloseReason.SLOW_CONSUMER

    def __init__(self) -> None:
        super().__init__("Too slow: the queue is full and nothing of it was read; reconnect and resume")


class Draining(Failure):
    """The server is shutting down and takes no new work."""

    code = "DRAINING"
    status = 503
    by_websocket = False

    def __init__(self) -> None:
        super().__init__("server is shutting down")


class Internal(Failure):
    """An unexpected failure of the server. The log has the traceback, the client gets none of it."""

    code = "INTERNAL"
    status = 500

    def __init__(self) -> None:
        super().__init__("internal error")


class NotStored(Internal):
    """The journal of durable topics cannot write or read. The log and ``/health`` have the reason."""

    status = 503

    def __init__(self) -> None:
        Failure.__init__(self, "not stored: the server's journal fails")


class NotAnswered(NotStored):
    """The same for a question to the journal, which changes nothing."""

    def __init__(self) -> None:
        Failure.__init__(self, "not answered: the server's journal fails")


class Unauthorized(Failure):
    """The token or key is missing, invalid or expired. The text shows no part of it."""

    code = "UNAUTHORIZED"
    status = 401
    close_reason = CloseReason.UNAUTHORIZED

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}  # RFC 9110, 11.6.1


class Forbidden(Failure):
    """The client is known and has no right to do this. The text does not tell if the topic exists."""

    code = "FORBIDDEN"
    status = 403


class RateLimited(Failure):
    """The client is over its rate. ``wait``: seconds until the next request may come."""

    code = "RATE_LIMITED"
    status = 429

    def __init__(self, wait: float) -> None:
        super().__init__("too many requests")
        self.retry_after_ms = math.ceil(1000 * wait)

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(math.ceil(self.retry_after_ms / 1000))}


class Flooding(RateLimited):
    """The client was refused for its rate again and again, and did not slow down."""

    close_reason = CloseReason.FLOODING


class Conflict(Failure):
    """The topic has another ``seq`` than the publisher expected. ``item``: the publish in its list, from 0."""

    code = "CONFLICT"
    status = 409

    def __init__(self, expected: int, seq: int, *, item: int | None = None) -> None:
        place = "" if item is None else f"[{item}]."
        super().__init__(f"{place}expect_seq: expected {expected}, but the seq of the topic is {seq}")
        self.seq = seq

    @property
    def details(self) -> Details:
        return {"seq": self.seq}


class LimitExceeded(Failure):
    """A quota is used up. The text has the limit."""

    code = "LIMIT_EXCEEDED"
    status = 429


class ServerFull(LimitExceeded):
    """The server has all the connections that it may have."""

    status = 503


def error_body(text: str, details: Details = MappingProxyType({})) -> bytes:
    """The JSON body of every REST error."""
    return msgspec.json.encode({"error": text, **details})
