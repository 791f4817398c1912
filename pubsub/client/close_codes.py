"""The close codes of the protocol: the reason of each, and the reconnects that it allows. It must never connect."""

from dataclasses import dataclass
from typing import Final

from pubsub.protocol.errors import CloseReason


@dataclass(frozen=True, slots=True)
class Ending:
    """The reason why a connection ended or was not made; ``reconnects`` allows the client to try again by itself."""

    reason: str
    reconnects: bool


NORMAL_CLOSURE: Final = 1000
ENDINGS: Final = {
    NORMAL_CLOSURE: Ending("the server closed the connection", reconnects=False),
    CloseReason.GOING_AWAY.code: Ending("the server shuts down", reconnects=True),
    CloseReason.PROTOCOL_ERROR.code: Ending("the server found a fault in the WebSocket protocol", reconnects=False),
    CloseReason.INVALID_TEXT.code: Ending("the server got text that is not UTF-8", reconnects=False),
    CloseReason.FLOODING.code: Ending("this client broke a rule of the server", reconnects=False),
    CloseReason.TOO_BIG.code: Ending("the message was too big for the server", reconnects=False),
    CloseReason.SERVER_FAILURE.code: Ending("the server failed", reconnects=True),
    CloseReason.SLOW_CONSUMER.code: Ending("this client was too slow for the server", reconnects=True),
    CloseReason.UNAUTHORIZED.code: Ending("the token is missing, invalid or expired", reconnects=False),
    CloseReason.DISCONNECTED.code: Ending("an operator disconnected this client", reconnects=False),
}
"""The ending that each close code stands for."""


def ending_of(code: int, reason: str) -> Ending:
    """Explain a close frame. A code outside the protocol comes from a proxy, and may be temporary."""
    known = ENDINGS.get(code, Ending("the connection was closed", reconnects=True))
    close_reason = f": {reason}" if reason else ""
    return Ending(f"{known.reason} ({code}{close_reason})", known.reconnects)


def refusal_of(status: int) -> Ending:
    """Explain an HTTP status other than 101: a 4xx but 429 needs a person, the others may be temporary."""
    needs_token = ": it wants another token" if status == 401 else ""
    permanent = 400 <= status < 500 and status != 429
    return Ending(f"the server refused the connection with status {status}{needs_token}", reconnects=not permanent)
