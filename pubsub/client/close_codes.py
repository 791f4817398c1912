"""The close codes of the protocol: the reason of each, and the reconnects that it allows. It must never connect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pubsub.protocol.errors import CloseReason


@dataclass(frozen=True, slots=True)
class Disconnection:
    """The reason why a connection ended or was not made; ``reconnects``: the client may try again by itself."""

    reason: str
    reconnects: bool


NORMAL_CLOSURE: Final = 1000
BY_CLOSE_CODE: Final = {
    # The servers of this project never close with 1000 by themselves: a proxy does, when it is restarted.
    NORMAL_CLOSURE: Disconnection("the connection was closed", reconnects=True),
    CloseReason.GOING_AWAY.code: Disconnection("the server shuts down", reconnects=True),
    CloseReason.PROTOCOL_ERROR.code: Disconnection("the server found a protocol error", reconnects=False),
    CloseReason.INVALID_TEXT.code: Disconnection("the server got text that is not UTF-8", reconnects=False),
    CloseReason.FLOODING.code: Disconnection("this client broke a rule of the server", reconnects=False),
    CloseReason.TOO_BIG.code: Disconnection("a message was too big for the server", reconnects=False),
    CloseReason.SERVER_FAILURE.code: Disconnection("the server failed", reconnects=True),
    CloseReason.SLOW_CONSUMER.code: Disconnection("this client is too slow, or connected too often", reconnects=True),
    CloseReason.UNAUTHORIZED.code: Disconnection("the token is missing, invalid or expired", reconnects=False),
    CloseReason.DISCONNECTED.code: Disconnection("an operator disconnected this client", reconnects=False),
}
"""The disconnection that each close code stands for."""
_OF_TOKENS: Final = frozenset({CloseReason.UNAUTHORIZED.code, 401, 403})
"""Close codes and statuses that may be another with another token."""
_TEMPORARY: Final = frozenset({408, 425, 429})


def explain_close(code: int, reason: str, *, renewable: bool = False) -> Disconnection:
    """Explain a close frame. A code outside the protocol comes from a proxy, and may be temporary.

    ``renewable``: the next attempt has another token.
    """
    known = BY_CLOSE_CODE.get(code, Disconnection("the connection was closed", reconnects=True))
    close_reason = f": {reason}" if reason else ""
    return Disconnection(
        f"{known.reason} ({code}{close_reason})", known.reconnects or (renewable and code in _OF_TOKENS)
    )


def explain_refusal(status: int, *, renewable: bool = False, worked_before: bool = False) -> Disconnection:
    """Explain an HTTP status other than 101.

    A 401 or 403 needs another token. Any other 4xx needs a person if it answers the first attempt: the URL is wrong. If
    it ``worked_before``, the answer comes from a proxy during a deployment.
    """
    needs_token = ": it wants another token" if status == 401 else ""
    reason = f"the server refused the connection with status {status}{needs_token}"
    if status in _OF_TOKENS:
        return Disconnection(reason, reconnects=renewable)
    return Disconnection(reason, reconnects=not 400 <= status < 500 or status in _TEMPORARY or worked_before)
