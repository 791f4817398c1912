"""The token of a client: a text, or a function that is asked for one. It must never show it."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from pubsub.client.errors import TokenError

__all__ = ["Tokens"]

MARGIN_SEC: Final = 30.0
"""A token is renewed so long before it expires, or in the last fifth of its time if that is shorter."""
SHORTEST_RENEWAL_SEC: Final = 1.0
"""Also with a clock that is wrong, a token is not renewed more often."""


class _Claims(msgspec.Struct):
    exp: float | None = None


class Tokens:
    """See the module. ``timeout``: seconds for one call of the function."""

    def __init__(self, token: str | Callable[[], Awaitable[str]] | None, timeout: float) -> None:
        self._function = token if callable(token) else None
        self._latest = None if token is None or callable(token) else _checked(token)
        self._timeout = timeout

    @property
    def used(self) -> bool:
        """True if connections have a token at all."""
        return self.renewable or self._latest is not None

    @property
    def renewable(self) -> bool:
        """True if a function gives another token each time."""
        return self._function is not None

    async def fetch(self) -> str | None:
        """Return a token for a new connection; None without tokens. Raises TokenError."""
        if self._function is not None:
            self._latest = await self._call(self._function)
        return self._latest

    async def headers(self) -> dict[str, str]:
        """Return the header for a REST call, with the latest token. Raises TokenError."""
        token = self._latest or await self.fetch()
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    def renewal_sec(self) -> float | None:
        """Return the seconds after which the latest token should be renewed; None if it never has to be."""
        expiry = _expiry_of(self._latest or "") if self.renewable else None
        if expiry is None:
            return None
        left = expiry - time.time()
        return max(SHORTEST_RENEWAL_SEC, left - min(MARGIN_SEC, left / 5))

    async def _call(self, function: Callable[[], Awaitable[str]]) -> str:
        try:
            async with asyncio.timeout(self._timeout) as limit:
                return _checked(await function())
        except TokenError:
            raise
        except Exception as error:
            if limit.expired():
                raise TokenError(f"the token function did not return within {self._timeout:g} s") from None
            raise TokenError(f"the token function raised {type(error).__name__}") from error


def _checked(token: object) -> str:
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token or not token:
        raise TokenError("token: expected printable ASCII characters without blanks")
    return token


def _expiry_of(token: str) -> float | None:
    """Read the ``exp`` of a token without checking its signature: the server does that."""
    try:
        _, payload, _ = token.split(".")
        padded = payload + "=" * (-len(payload) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Claims).exp
    except ValueError:  # msgspec's is one of them
        return None
