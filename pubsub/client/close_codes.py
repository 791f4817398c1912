"""The close codes of the protocol: the reason of each, and the reconnects that it allows. It must never connect."""

from dataclasses import dataclass
from typing import Final

from pubsub.protocol.errors import CloseReason


@dataclass(frozen=True, slots=True)
class Disconnection:
    """The reason why a connection ended or was not made; ``reconnects`` allows the client to try again by itself."""

    reason: str
    reconnects: bool


NORMAL_CLOSURE: Final = 1000
BY_CLOSE_CODE: Final = {
    NORMAL_CLOSURE: Disconnection("the server closed the connection", reconnects=False),
    CloseReason.GOING_AWAY.code: Disconnection("the server shuts down", reconnects=True),
    CloseReason.PROTOCOL_ERROR.code: Disconnection("the server found a protocol error", reconnects=False),
    CloseReason.INVALID_TEXT.code: Disconnection("the server got text that is not UTF-8", reconnects=False),
    CloseReason.FLOODING.code: Disconnection("this client broke a rule of the server", reconnects=False),
    CloseReason.TOO_BIG.code: Disconnection("the message was too big for the server", reconnects=False),
    CloseReason.SERVER_FAILURE.code: Disconnection("the server failed", reconnects=True),
    CloseReason.SLOW_CONSUMER.code: Disconnection("this client was too slow for the server", reconnects=True),
    CloseReason.UNAUTHORIZED.code: Disconnection("the token is missing, invalid or expired", reconnects=False),
    CloseReason.DISCONNECTED.code: Disconnection("an operator disconnected this client", reconnects=False),
}
"""The disconnection that each close code stands for."""


def explain_close(code: int, reason: str) -> Disconnection:
    """Explain a close frame. A code outside the protocol comes from a proxy, and may be temporary."""
    known = BY_CLOSE_CODE.get(code, Disconnection("the connection was closed", reconnects=True))
    close_reason = f": {reason}" if reason else ""
    return Disconnection(f"{known.reason} ({code}{close_reason})", known.reconnects)


def explain_refusal(status: int) -> Disconnection:
    """Explain an HTTP status other than 101: a 4xx but 429 needs a person, the others may be temporary."""
    needs_token = ": it wants another token" if status == 401 else ""
    reason = f"the server refused the connection with status {status}{needs_token}"
    return Disconnection(reason, reconnects=not 400 <= status < 500 or status == 429)
