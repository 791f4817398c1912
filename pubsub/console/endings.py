"""How a connection ends, and when to try the next one. Rules alone: nothing here connects or waits."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp

FIRST_PAUSE_SEC = 0.5
LONGEST_PAUSE_SEC = 15.0


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection ended or was not made, and whether the client may come back by itself."""

    reason: str
    returns: bool


GOODBYES = {
    1000: Ending("the server closed the connection", returns=False),
    1001: Ending("the server shuts down", returns=True),
    1002: Ending("the server found a fault in the WebSocket protocol", returns=False),
    1007: Ending("the server got text that is not UTF-8", returns=False),
    1008: Ending("this client broke a rule of the server", returns=False),
    1009: Ending("the message was too big for the server", returns=False),
    1011: Ending("the server failed", returns=True),
    1013: Ending("this client was too slow for the server", returns=True),
    4401: Ending("the token is missing, invalid or expired", returns=False),
    4403: Ending("an operator disconnected this client", returns=False),
}
"""What a client makes of each close code of the protocol."""


def ending_of(code: int, reason: str) -> Ending:
    """What a close frame means. A code that is not in the protocol is somebody's on the way, and may pass."""
    known = GOODBYES.get(code, Ending("the connection was closed", returns=True))
    said = f": {reason}" if reason else ""
    return Ending(f"{known.reason} ({code}{said})", known.returns)


def refusal_of(error: aiohttp.WSServerHandshakeError) -> Ending:
    """What an answer other than 101 means: a 4xx is for a person to mend, 429 aside; the rest may pass."""
    permanent = 400 <= error.status < 500 and error.status != 429
    return Ending(refusal_text(error.status), returns=not permanent)


def refusal_text(status: int) -> str:
    return f"the server refused the connection with status {status}{': it wants another token' * (status == 401)}"


def pauses(longest: float = LONGEST_PAUSE_SEC) -> Iterator[float]:
    """Seconds to wait before each attempt: doubling, and spread so that clients do not come back all at once."""
    pause = FIRST_PAUSE_SEC
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, longest)
